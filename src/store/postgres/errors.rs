//! What errors of the database mean to those who use the store.

use sqlx::error::ErrorKind;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::store::error::StoreError;

/// Codes after which the same request may succeed later, with nothing stored: a class of two letters
/// or a whole code. 08 connection, 53 out of disk, memory or connections, 57014 canceled by a time
/// limit, 57P01 to 57P05 the server ends or is not up yet, 58 its disk fails, 40001 and 40P01 undone
/// for the sake of another transaction, 55P03 lock not had, 25006 a standby, 25P03 idle for too long.
/// Source: appendix A of the PostgreSQL manual.
const TRANSIENT: [&str; 13] = [
    "08", "53", "57014", "57P01", "57P02", "57P03", "57P05", "58", "40001", "40P01", "55P03", "25006",
    "25P03",
];

/// Codes of transactions that were undone only because another one crossed their way.
const CROSSED: [&str; 2] = ["40001", "40P01"];

/// Codes that say the outcome of a commit is not known even to the one who answers.
const UNKNOWN: [&str; 2] = ["08007", "40003"];

/// The code of a row that breaks a check, also of one that no partition takes.
const CHECK: &str = "23514";

/// Translates an error of a statement that stored nothing, or of a connection.
pub(super) fn from(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    let is_transient = match code(error) {
        Some(code) => TRANSIENT.iter().any(|transient| code.starts_with(transient)),
        None => {
            is_lost(error)
                || matches!(
                    error,
                    sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed
                )
        }
    };
    if is_transient { StoreError::Unavailable(text) } else { StoreError::Refused(text) }
}

/// Translates an error of a statement that commits by itself.
pub(super) fn from_write(error: &sqlx::Error) -> StoreError {
    if is_lost(error) { StoreError::InDoubt(error.to_string()) } else { from(error) }
}

/// Translates an error of a COMMIT. Only an answer that leaves the session alive says that nothing
/// was stored; the end of the session may have come after the commit.
pub(super) fn from_commit(error: &sqlx::Error) -> StoreError {
    let is_unknown = code(error).is_none_or(|code| UNKNOWN.contains(&code));
    if is_unknown || is_lost(error) { StoreError::InDoubt(error.to_string()) } else { from(error) }
}

/// Translates an error while the tables were brought up to date.
pub(super) fn migration(error: &MigrateError) -> StoreError {
    if let MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) = error {
        return from(source);
    }
    if let MigrateError::VersionMissing(version) = error {
        let text = format!("the tables were made by a newer program: it knows migration {version}");
        return StoreError::Refused(text);
    }
    StoreError::Refused(error.to_string())
}

/// Whether the connection is gone, so that an answer may be missing.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    let ends_session = |severity| matches!(severity, PgSeverity::Fatal | PgSeverity::Panic);
    match server(error) {
        Some(error) => ends_session(error.severity()),
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)),
    }
}

/// Whether the same transaction may well succeed at once.
pub(super) fn has_crossed(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| CROSSED.contains(&code))
}

/// Whether a unique name or number is taken.
pub(super) fn is_double(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.kind() == ErrorKind::UniqueViolation)
}

/// Whether a fact belongs to a month that has no partition.
pub(super) fn lacks_partition(error: &sqlx::Error) -> bool {
    code(error) == Some(CHECK)
}

fn server(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|error| error.try_downcast_ref())
}

fn code(error: &sqlx::Error) -> Option<&str> {
    server(error).map(PgDatabaseError::code)
}
