//! The audit trail as a list: who did what, newest first.

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, Code};
use super::list::{self, List, Page};
use super::request::Query;
use super::router::EdgeState;
use crate::domain::identity::{AuditEntry, Sealed};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::audit::AuditFilter;

/// Which entries to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// What was done, as in `user.login_failed`; `user.*` for all that begin so.
    what: Option<String>,
    /// Who did it: an id, or `host` or `unknown`.
    actor: Option<String>,
    /// What it was done to, as an id.
    subject: Option<String>,
    /// Done at or after this time.
    from: Option<String>,
    /// Done before this time.
    until: Option<String>,
    /// Rows of a page, 50 when absent, 200 at most.
    limit: Option<usize>,
    /// `page.next_cursor` of the page before.
    cursor: Option<String>,
}

impl AuditQuery {
    fn filter(&self) -> Result<AuditFilter, ApiError> {
        if self.what.as_deref().is_some_and(|what| what.trim_end_matches('*').contains('*')) {
            return Err(bad("what", "a * stands at the end or nowhere"));
        }
        Ok(AuditFilter {
            what: self.what.clone(),
            actor: self.actor.clone(),
            subject: self.subject.clone(),
            from: time("from", self.from.as_deref())?,
            until: time("until", self.until.as_deref())?,
        })
    }
}

fn bad(name: &str, what: &str) -> ApiError {
    ApiError::new(Code::BadFilter).detail(format!("{name}: {what}"))
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    text.map(|text| text.parse().map_err(|_| bad(name, "not an RFC 3339 time"))).transpose()
}

/// One act.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditRow {
    /// Its place in the trail, from 1 without gaps.
    number: u64,
    /// SHA-256 over the hash of the one before, the number and the entry, in hex.
    hash: String,
    #[serde(flatten)]
    entry: AuditEntry,
}

impl AuditRow {
    fn read(sealed: &Sealed) -> Result<Self, StoreError> {
        let corrupt =
            |_| StoreError::Corrupt { table: "audit", column: "body", id: sealed.number.to_string() };
        let entry = serde_json::from_str(&sealed.body).map_err(corrupt)?;
        Ok(Self { number: sealed.number, hash: hex::encode(sealed.hash), entry })
    }
}

/// Acts of users, clients and commands on the host, newest first.
#[utoipa::path(get, path = "/audit", tag = "audit", params(AuditQuery), responses((status = 200, body = List<AuditRow>)))]
pub(super) async fn list(
    State(state): State<EdgeState>,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<List<AuditRow>>, ApiError> {
    let filter = query.filter()?;
    let limit = list::limit(query.limit)?;
    let before = query.cursor.as_deref().map(read_cursor).transpose()?;
    let mut found = state.engine.stores().audit.audit_page(&filter, before, limit + 1).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| has_more).map(|last| cursor(last.number));
    let data = found.iter().map(AuditRow::read).collect::<Result<_, _>>()?;
    Ok(axum::Json(List { data, page: Page { next_cursor, has_more, count: None } }))
}

fn cursor(number: u64) -> String {
    URL_SAFE_NO_PAD.encode(number.to_be_bytes())
}

fn read_cursor(text: &str) -> Result<u64, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or(ApiError::new(Code::BadCursor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        for number in [0, 1, 17, u64::MAX] {
            assert_eq!(read_cursor(&cursor(number)).unwrap(), number);
        }
        for text in ["", "x", "17", "AAAAAAAAAAAAAA", "////////////"] {
            assert_eq!(read_cursor(text).unwrap_err().code(), Code::BadCursor, "{text}");
        }
    }

    #[test]
    fn filters_are_read_or_refused() {
        let text = |text: &str| Some(text.to_owned());
        let query =
            AuditQuery { what: text("user.*"), from: text("2026-12-02T09:00:00Z"), ..AuditQuery::default() };
        let filter = query.filter().unwrap();
        assert_eq!(filter.what.as_deref(), Some("user.*"));
        assert_eq!(filter.from.unwrap().to_string(), "2026-12-02T09:00:00.000Z");
        for query in [
            AuditQuery { what: text("*.created"), ..AuditQuery::default() },
            AuditQuery { from: text("yesterday"), ..AuditQuery::default() },
            AuditQuery { until: text("1"), ..AuditQuery::default() },
        ] {
            assert_eq!(query.filter().unwrap_err().code(), Code::BadFilter);
        }
    }
}
