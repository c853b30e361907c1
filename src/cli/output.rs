//! Standard output that may be closed by whoever reads it.

use std::fmt;
use std::io::{self, Write as _};

/// Prints a line. When the reader has gone, as `head` does, the program ends in peace.
pub(super) fn line(text: impl fmt::Display) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}")
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}
