//! What errors of the driver and the server mean to those who use the archive.

use mongodb::error::{Error, ErrorKind};

use crate::store::error::StoreError;

/// Codes of the server that say the request itself will not do: 2 bad value, 9 failed to parse,
/// 13 not authorised, 14 type mismatch, 18 authentication failed, 26 no such namespace,
/// 59 no such command, 85 and 86 index conflicts, 121 validation failed. Source: the server's list
/// of error codes.
const FINAL: [i32; 10] = [2, 9, 13, 14, 18, 26, 59, 85, 86, 121];

/// Translates an error.
#[expect(clippy::wildcard_enum_match_arm, reason = "the driver's list of errors is open")]
pub(super) fn translated(error: &Error) -> StoreError {
    let text = error.to_string();
    match error.kind.as_ref() {
        ErrorKind::Command(command) if FINAL.contains(&command.code) => StoreError::Refused(text),
        ErrorKind::InvalidArgument { .. }
        | ErrorKind::BsonSerialization(_)
        | ErrorKind::BsonDeserialization(_)
        | ErrorKind::Authentication { .. } => StoreError::Refused(text),
        // Away, electing, overloaded: whatever it is, storing again is harmless.
        _ => StoreError::Unavailable(text),
    }
}
