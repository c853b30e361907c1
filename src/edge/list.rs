//! Lists: pages behind an opaque cursor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, Code};
use crate::domain::id::CallId;
use crate::domain::time::Timestamp;
use crate::store::history::CallCursor;

/// Rows of a page when the client names no number.
const USUAL: usize = 50;
/// Rows of a page at most.
const MOST: usize = 200;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Where the next page begins.
    pub page: Page,
}

/// Where the next page begins.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page {
    /// For the parameter `cursor`; absent on the last page.
    pub next_cursor: Option<String>,
    /// Whether there is another page.
    pub has_more: bool,
    /// How many rows match, when `count=true` was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Page {
    /// Everything is on this page.
    #[must_use]
    pub(super) const fn whole() -> Self {
        Self { next_cursor: None, has_more: false, count: None }
    }
}

/// How many rows a page gets.
///
/// # Errors
/// When none or more than 200 are asked.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, ApiError> {
    match asked {
        None => Ok(USUAL),
        Some(limit) if (1..=MOST).contains(&limit) => Ok(limit),
        Some(_) => Err(ApiError::new(Code::BadFilter).detail("limit must be 1 to 200")),
    }
}

#[derive(Serialize, Deserialize)]
struct Place {
    t: Timestamp,
    i: CallId,
}

/// Writes a cursor.
#[must_use]
pub(super) fn cursor(place: CallCursor) -> String {
    let place = Place { t: place.started_at, i: place.id };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&place).unwrap_or_default())
}

/// Reads a cursor.
///
/// # Errors
/// When it is not one of ours.
pub(super) fn read_cursor(text: &str) -> Result<CallCursor, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let place: Option<Place> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    place.map(|Place { t, i }| CallCursor { started_at: t, id: i }).ok_or(ApiError::new(Code::BadCursor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let place = CallCursor { started_at: Timestamp::from_millis(1_234), id: CallId::fresh() };
        assert_eq!(read_cursor(&cursor(place)).unwrap(), place);
        for text in ["", "x", "e30", "////"] {
            assert_eq!(read_cursor(text).unwrap_err().code(), Code::BadCursor);
        }
    }

    #[test]
    fn a_page_has_one_to_two_hundred_rows() {
        assert_eq!(limit(None).unwrap(), 50);
        assert_eq!(limit(Some(200)).unwrap(), 200);
        assert!(limit(Some(0)).is_err() && limit(Some(201)).is_err());
    }
}
