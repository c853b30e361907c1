//! What errors of the database mean to those who use the store.

use sqlx::error::ErrorKind;
use sqlx::migrate::MigrateError;

use crate::store::error::StoreError;

/// Classes of SQLSTATE after which the same request may succeed later, with nothing stored:
/// 08 connection, 25 transaction state (a standby is read only), 40 rolled back, 53 no resources
/// (disk full among them), 55 not in the needed state (locked), 57 operator intervention,
/// 58 system error. Source: PostgreSQL documentation, appendix A.
const TRANSIENT_CLASSES: [&str; 7] = ["08", "25", "40", "53", "55", "57", "58"];
/// A table that is not there.
const NO_TABLE: &str = "42P01";
/// Rolled back because two transactions waited for each other, or could not be put in an order.
const CROSSED: [&str; 2] = ["40P01", "40001"];

/// Translates an error of a statement or a connection.
pub(super) fn from(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    if is_lost(error) {
        return StoreError::Unavailable(text);
    }
    match code(error) {
        Some(code) if TRANSIENT_CLASSES.contains(&code.get(..2).unwrap_or_default()) => {
            StoreError::Unavailable(text)
        }
        Some(_) | None => StoreError::Refused(text),
    }
}

/// Translates an error of COMMIT: unless the database itself said that it undid the transaction,
/// nobody knows.
pub(super) fn of_commit(error: &sqlx::Error) -> StoreError {
    match error.as_database_error() {
        // Ended while committing: the commit may have gone through before.
        Some(_) if code(error).is_some_and(|code| code.starts_with("57")) => {
            StoreError::InDoubt(error.to_string())
        }
        Some(_) => from(error),
        None => StoreError::InDoubt(error.to_string()),
    }
}

/// Translates an error while the tables were brought up to date.
pub(super) fn migration(error: &MigrateError) -> StoreError {
    if let MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) = error {
        return from(source);
    }
    if let MigrateError::VersionMissing(version) = error {
        let text = format!("the database was made by a newer program: it knows migration {version}");
        return StoreError::Refused(text);
    }
    StoreError::Refused(error.to_string())
}

/// The error of a write that may have met a name in use.
pub(super) fn taken(error: &sqlx::Error, key: String) -> StoreError {
    if is_double(error) { StoreError::Exists(key) } else { from(error) }
}

/// Whether the connection is gone or there was none, so that another may do.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
    ) || code(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// Whether a unique name or number is taken.
pub(super) fn is_double(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.kind() == ErrorKind::UniqueViolation)
}

/// Whether a table is missing.
pub(super) fn is_without_table(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code == NO_TABLE)
}

/// Whether the transaction crossed another and was undone for it.
pub(super) fn is_crossed(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| CROSSED.contains(&&*code))
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_connection_means() {
        assert!(matches!(from(&sqlx::Error::PoolTimedOut), StoreError::Unavailable(_)));
        let reset = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(matches!(from(&reset()), StoreError::Unavailable(_)));
        assert!(matches!(of_commit(&reset()), StoreError::InDoubt(_)));
        assert!(matches!(from(&sqlx::Error::RowNotFound), StoreError::Refused(_)));
    }
}
