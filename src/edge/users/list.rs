//! The list of users.

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::error::{ApiError, Code};
use super::super::list::{List, Page, limit};
use super::super::request::Query;
use super::super::router::EdgeState;
use super::{UserView, all};
use crate::domain::directory::User;
use crate::domain::identity::{Email, RoleName};

/// Which users are wanted; what is left out does not matter.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// A part of login, name or e-mail address, in any case.
    q: Option<String>,
    /// A role that they have.
    #[param(value_type = Option<String>)]
    role: Option<RoleName>,
    /// Whether they may sign in.
    enabled: Option<bool>,
    /// Their e-mail address.
    #[param(value_type = Option<String>)]
    email: Option<Email>,
    /// Rows of the page, 1 to 200.
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
    /// Whether to tell how many match.
    #[serde(default)]
    count: bool,
}

impl Wanted {
    fn lets_through(&self, user: &User) -> bool {
        let has_text = |text: &str| {
            let email = user.email.as_ref().map_or("", Email::as_str);
            [user.login.as_str(), user.name.as_str(), email]
                .iter()
                .any(|place| place.to_lowercase().contains(text))
        };
        self.q.as_ref().is_none_or(|text| has_text(&text.to_lowercase()))
            && self.role.as_ref().is_none_or(|role| user.roles.contains(role))
            && self.enabled.is_none_or(|enabled| user.enabled == enabled)
            && self.email.as_ref().is_none_or(|email| user.email.as_ref() == Some(email))
    }
}

fn cursor(login: &str) -> String {
    URL_SAFE_NO_PAD.encode(login)
}

fn read_cursor(text: &str) -> Result<String, ApiError> {
    let login = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    login.filter(|login| !login.is_empty()).ok_or(ApiError::new(Code::BadCursor))
}

/// Users by login, page by page.
#[utoipa::path(get, path = "/users/list", tag = "users", params(Wanted), responses(
    (status = 200, body = List<UserView>), (status = 400, description = "a filter or the cursor is not usable"),
))]
pub(super) async fn list(
    State(state): State<EdgeState>,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<List<UserView>>, ApiError> {
    let limit = limit(wanted.limit)?;
    let after = wanted.cursor.as_deref().map(read_cursor).transpose()?;
    let accounts = all(&*state.engine.stores().records).await?;
    let mut users: Vec<User> =
        accounts.into_iter().map(|account| account.user).filter(|user| wanted.lets_through(user)).collect();
    // Stores order as they like; a cursor needs one order everywhere.
    users.sort_by(|one, other| one.login.cmp(&other.login));
    let count = wanted.count.then_some(users.len() as u64);
    let mut rest =
        users.into_iter().filter(|user| after.as_ref().is_none_or(|after| user.login > *after)).peekable();
    let page: Vec<User> = rest.by_ref().take(limit).collect();
    let has_more = rest.peek().is_some();
    let next_cursor = page.last().filter(|_| has_more).map(|user| cursor(&user.login));
    let data = page.iter().map(|user| UserView::known(&state, user)).collect();
    Ok(axum::Json(List { data, page: Page { next_cursor, has_more, count } }))
}
