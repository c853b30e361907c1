//! The stories behind the rules.

use super::*;
