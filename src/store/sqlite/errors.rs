//! What errors of the database mean to those who use the store.

use sqlx::error::ErrorKind;
use sqlx::migrate::MigrateError;

use crate::store::error::StoreError;

/// Primary result codes of SQLite after which the same request may succeed later, with nothing
/// stored: 3 no permission, 5 busy, 6 locked, 7 out of memory, 8 read only, 9 interrupted,
/// 10 input or output, 13 disk full, 14 cannot open, 15 locking protocol. Source: sqlite.org/rescode.html.
const TRANSIENT: [i32; 10] = [3, 5, 6, 7, 8, 9, 10, 13, 14, 15];

/// Translates an error of a statement or a connection.
pub(super) fn from(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    let is_ours = matches!(
        error,
        sqlx::Error::Configuration(_)
            | sqlx::Error::InvalidArgument(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::TypeNotFound { .. }
    );
    let is_final = error.as_database_error().is_some() && !is_transient(error);
    if is_ours || is_final { StoreError::Refused(text) } else { StoreError::Unavailable(text) }
}

/// Translates an error while the tables were brought up to date.
pub(super) fn migration(error: &MigrateError) -> StoreError {
    if let MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) = error {
        return from(source);
    }
    if let MigrateError::VersionMissing(version) = error {
        let text = format!("the file was made by a newer program: it knows migration {version}");
        return StoreError::Refused(text);
    }
    StoreError::Refused(error.to_string())
}

/// Whether a unique name or number is taken.
pub(super) fn is_double(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.kind() == ErrorKind::UniqueViolation)
}

/// Whether the database reports a trouble that may pass.
pub(super) fn is_transient(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    // The low byte of an extended code is the primary one.
    code.is_some_and(|code| TRANSIENT.contains(&(code & 0xff)))
}
