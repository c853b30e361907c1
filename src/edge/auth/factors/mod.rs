//! The second factor: codes of the present time, recovery codes, and when they are asked for.

mod totp;
