//! Standard output and standard error, which may be closed by whoever reads them.

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

/// Tells the person at the terminal something. When nobody reads it, nothing is lost but the talk:
/// the exit code still says how the command went.
pub(super) fn talk(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
