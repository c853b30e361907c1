//! Users as the API shows them.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::super::router::EdgeState;
use crate::domain::directory::User;
use crate::domain::id::{AgentId, UserId};
use crate::domain::identity::{Email, RoleName};

/// A user as shown.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct UserView {
    /// Its id.
    #[schema(value_type = String)]
    id: UserId,
    /// What it signs in with.
    login: String,
    /// Its name.
    name: String,
    /// Its e-mail address.
    #[schema(value_type = Option<String>)]
    email: Option<Email>,
    /// Whether somebody has vouched for the address being its own.
    email_verified: bool,
    /// What it is.
    #[schema(value_type = Vec<String>)]
    roles: BTreeSet<RoleName>,
    /// Whether it may sign in.
    enabled: bool,
    /// The agent it signs in as.
    #[schema(value_type = Option<String>)]
    agent_id: Option<AgentId>,
}

impl UserView {
    pub(in super::super) fn of(user: &User, agent_id: Option<AgentId>) -> Self {
        let User { id, login, name, email, email_verified, roles, enabled, .. } = user.clone();
        Self { id, login, name, email, email_verified, roles, enabled, agent_id }
    }

    /// The same with the agent that the set-up knows.
    pub(super) fn known(state: &EdgeState, user: &User) -> Self {
        Self::of(user, state.engine.directory().agent_of(user.id).map(|agent| agent.id))
    }
}

/// Reads a field that may be set to nothing: absent is `None`, `null` is `Some(None)`.
#[expect(clippy::option_option, reason = "absent and `null` are two wishes")]
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}
