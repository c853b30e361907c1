//! Looking for what Twilio has: a leg whose placing had no clear answer, a room by its name.

use serde::Deserialize;

use super::transport::{Answer, pause};
use super::{TwilioClient, UNKNOWN};
use crate::domain::address::Address;
use crate::domain::call::OrderResult;
use crate::domain::time::{Millis, Timestamp};

/// Searches for a leg in doubt: its list is only in time consistent.
pub(super) const SEARCHES: usize = 4;
/// Pages of a search that are read at most.
const PAGES: usize = 5;
/// Calls per page of a search.
const PAGE_SIZE: &str = "100";
/// How far Twilio's clock may be behind ours when a leg is looked for.
const CLOCK_SLACK: Millis = Millis::from_secs(5);

#[derive(Deserialize)]
struct CallList {
    calls: Vec<ListedCall>,
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct ListedCall {
    sid: Box<str>,
    status: String,
    start_time: Option<String>,
    date_created: Option<String>,
}

#[derive(Deserialize)]
struct CallStatus {
    status: String,
}

#[derive(Deserialize)]
struct RoomList {
    conferences: Vec<ListedRoom>,
}

#[derive(Deserialize)]
struct ListedRoom {
    sid: Box<str>,
}

impl TwilioClient {
    /// Looks for a leg until it is seen; what was made just now may not be listed yet.
    pub(super) async fn find(&self, to: &Address, from: &Address, placed_at: Timestamp) -> OrderResult {
        let mut last = OrderResult::InDoubt;
        for attempt in 0..SEARCHES {
            pause(attempt).await;
            last = self.search(to, from, placed_at).await;
            if matches!(last, OrderResult::Done { .. }) {
                return last;
            }
        }
        last
    }

    pub(super) async fn search(&self, to: &Address, from: &Address, placed_at: Timestamp) -> OrderResult {
        let earliest = placed_at - CLOCK_SLACK;
        let query = [
            ("To", to.to_string()),
            ("From", from.to_string()),
            ("StartTime>", earliest.date().format("%Y-%m-%d").to_string()),
            ("PageSize", PAGE_SIZE.to_owned()),
        ];
        let mut page = None;
        for _ in 0..PAGES {
            let answer = match &page {
                None => self.send_change(|| self.http.get(self.url(&["Calls"])).query(&query)).await,
                Some(url) => self.send_change(|| self.http.get(url)).await,
            };
            let Answer::Done(body) = answer else { return OrderResult::InDoubt };
            let Ok(list) = serde_json::from_str::<CallList>(&body) else { return OrderResult::InDoubt };
            if let Some(call) = list.calls.iter().find(|call| call.may_be(earliest)) {
                return OrderResult::Done { provider_id: Some(call.sid.clone()) };
            }
            match list.next_page_uri {
                Some(uri) if uri.starts_with('/') => {
                    page = Some(format!("{}{uri}", self.settings.api_base.trim_end_matches('/')));
                }
                // Our secret goes to no other host.
                Some(_) => return OrderResult::InDoubt,
                None => return OrderResult::NotFound,
            }
        }
        OrderResult::InDoubt
    }

    /// Whether a leg still lives.
    pub(super) async fn check(&self, provider_id: &str) -> OrderResult {
        let request = || self.http.get(self.url(&["Calls", provider_id]));
        match self.send_change(request).await {
            Answer::Done(body) => match serde_json::from_str::<CallStatus>(&body) {
                Ok(call) if is_living(&call.status) => OrderResult::Done { provider_id: None },
                Ok(_) => OrderResult::NotFound,
                Err(_) => OrderResult::InDoubt,
            },
            Answer::Refused(404 | UNKNOWN) => OrderResult::NotFound,
            Answer::Refused(code) => OrderResult::Refused { code },
            Answer::Unsent | Answer::Unknown => OrderResult::InDoubt,
        }
    }

    /// Twilio's id of a room; looked up when only our name is known, because no callback has told
    /// the id yet: the API takes participants under nothing else.
    ///
    /// # Errors
    /// What the order that needs the room comes to without it.
    pub(super) async fn room_id(&self, room: Box<str>) -> Result<Box<str>, OrderResult> {
        if room.starts_with("CF") {
            return Ok(room);
        }
        let query = [("FriendlyName", &*room), ("Status", "in-progress")];
        let request = || self.http.get(self.url(&["Conferences"])).query(&query);
        let body = match self.send_change(request).await {
            Answer::Done(body) => body,
            Answer::Refused(code) => return Err(OrderResult::Refused { code }),
            Answer::Unsent | Answer::Unknown => return Err(OrderResult::InDoubt),
        };
        let list = serde_json::from_str::<RoomList>(&body).map_err(|_| OrderResult::InDoubt)?;
        list.conferences.into_iter().next().map(|found| found.sid).ok_or(OrderResult::NotFound)
    }
}

impl ListedCall {
    /// Whether this may be the leg that was placed: it lives, and is not older.
    fn may_be(&self, earliest: Timestamp) -> bool {
        let read = |date: &Option<String>| date.as_deref().and_then(Timestamp::from_rfc2822);
        let since = read(&self.start_time).or_else(|| read(&self.date_created));
        is_living(&self.status) && since.is_none_or(|since| since >= earliest)
    }
}

fn is_living(status: &str) -> bool {
    matches!(status, "queued" | "initiated" | "ringing" | "in-progress")
}
