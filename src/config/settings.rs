//! The settings, section by section, as plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::oidc::Oidc;
use crate::domain::time::Millis;

/// Everything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// This node.
    pub node: Node,
    /// The public listener.
    pub server: Server,
    /// Facts and records.
    pub store: Store,
    /// Finished calls.
    pub archive: Role,
    /// Short-lived things.
    pub cache: Role,
    /// Events.
    pub bus: Role,
    /// Several nodes.
    pub cluster: Cluster,
    /// Signing in.
    pub auth: Auth,
    /// Calls.
    pub calls: Calls,
    /// Offers and agents.
    pub routing: Routing,
    /// Sockets.
    pub websocket: WebSocket,
    /// Logs and figures.
    pub telemetry: Telemetry,
    /// Providers by name.
    #[serde(default)]
    pub providers: BTreeMap<String, Provider>,
}

/// This node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it does.
    pub roles: Vec<String>,
    /// Where its files live.
    pub data_dir: PathBuf,
}

/// The public listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port.
    pub listen: String,
    /// How the outside reaches it.
    pub public_url: String,
    /// Proxies whose word is believed.
    pub trusted_proxies: Vec<String>,
    /// Longest body in bytes.
    pub max_body_bytes: usize,
    /// How long a request may take.
    pub request_timeout_ms: Millis,
}

/// Facts and records.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The product.
    pub url: String,
    /// Most appends in one commit.
    pub flush_rows: usize,
    /// How long a commit waits for more.
    pub flush_after_ms: Millis,
    /// Appends that may wait.
    pub queue_rows: usize,
}

/// A role that a product fills.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The product.
    pub url: String,
}

/// Several nodes.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Whether this node is one of several.
    pub enabled: bool,
    /// Where this node listens for the others.
    pub listen: String,
    /// Where the others reach it; empty = `listen`.
    pub advertise: String,
    /// From one renewal of its lease to the next.
    pub heartbeat_ms: Millis,
    /// How long others wait for a node that does not renew.
    pub lease_ms: Millis,
    /// How long a peer may be silent before its connection is given up.
    pub silent_after_ms: Millis,
    /// How long a node that leaves goes on answering at least, so that load balancers notice.
    pub drain_ms: Millis,
    /// What all nodes know and nobody else; empty = made once and kept in the store.
    pub cookie: String,
    /// Certificate of the authority that nodes trust, as PEM; empty = made once and kept in the store.
    pub tls_ca_file: PathBuf,
    /// This node's certificate, as PEM, with its name in it.
    pub tls_cert_file: PathBuf,
    /// The key of that certificate, as PEM.
    pub tls_key_file: PathBuf,
}

/// Signing in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Life of an access token.
    pub access_ttl_ms: Millis,
    /// Life of a session that is not used.
    pub refresh_ttl_ms: Millis,
    /// Life of a session, however much it is used.
    pub session_ttl_ms: Millis,
    /// How long a second factor that was shown counts for critical acts.
    pub step_up_ms: Millis,
    /// What authenticator apps show a code for.
    pub totp_issuer: String,
    /// How long a key signs tokens until another one follows.
    pub key_life_ms: Millis,
    /// Cost of password hashes.
    pub bcrypt_cost: u32,
    /// Passwords that may wait to be hashed.
    pub bcrypt_line: usize,
    /// Fewest characters of a password.
    pub password_min: usize,
    /// Who may become a user: `admin`, `invitation` or `open`.
    pub registration: String,
    /// What somebody is who registers where that is open.
    pub registration_role: String,
    /// How long an invitation works.
    pub invitation_ttl_ms: Millis,
    /// How long other links work.
    pub link_ttl_ms: Millis,
    /// Roles whose users must have a second factor.
    pub second_factor_roles: Vec<String>,
    /// Issuer named in tokens.
    pub issuer: String,
    /// Tries per minute and address.
    pub login_tries_per_minute: u32,
    /// Outside providers by name.
    #[serde(default)]
    pub oidc: BTreeMap<String, Oidc>,
}

/// Calls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// How long an unused actor stays in memory.
    pub park_after_ms: Millis,
    /// Calls under way.
    pub max_active: u64,
    /// How long an offer rings.
    pub default_ring_timeout_ms: Millis,
    /// How long an outbound call rings.
    pub outbound_ring_timeout_ms: Millis,
    /// After-call work.
    pub default_wrap_up_ms: Millis,
    /// Longest wait.
    pub default_max_wait_ms: Millis,
}

/// Offers and agents.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routing {
    /// Missed offers in a row until the agent is set to not ready.
    pub missed_offers_limit: u32,
    /// How long no offers come after one was let pass.
    pub reject_backoff_ms: Millis,
    /// How long no offers come after the phone was busy.
    pub busy_backoff_ms: Millis,
    /// How long an agent without a socket keeps its place.
    pub disconnect_grace_ms: Millis,
}

/// Sockets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSocket {
    /// Events that may wait for a socket.
    pub send_queue: usize,
    /// How often it is pinged.
    pub ping_interval_ms: Millis,
    /// How long it may be silent.
    pub silent_after_ms: Millis,
    /// Commands per second.
    pub commands_per_second: u32,
    /// Origins of pages that may connect.
    pub allowed_origins: Vec<String>,
    /// Events a reconnecting socket may ask for.
    pub replay_events: usize,
}

/// Logs and figures.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Address and port of the figures.
    pub listen: String,
    /// Form of the log.
    pub log_format: String,
    /// Filter of the log.
    pub log_level: String,
}

/// One provider.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// Which module speaks with it.
    pub kind: String,
    /// The account.
    pub account_sid: String,
    /// Its secret.
    pub auth_token: String,
    /// The secret that replaces it.
    pub auth_token_next: String,
    /// What it signs.
    pub public_url: String,
    /// Where its API is.
    pub api_base: String,
    /// New calls per second, 0 without limit.
    pub calls_per_second: u32,
    /// Music for waiting and hold.
    pub music_url: String,
    /// Where a loopback carrier listens.
    pub listen: String,
}

/// Shows everything but the password in the URL.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &without_secret(&self.url))
            .field("flush_rows", &self.flush_rows)
            .field("flush_after_ms", &self.flush_after_ms)
            .field("queue_rows", &self.queue_rows)
            .finish()
    }
}

/// Shows everything but the secret.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("enabled", &self.enabled)
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("heartbeat_ms", &self.heartbeat_ms)
            .field("lease_ms", &self.lease_ms)
            .field("silent_after_ms", &self.silent_after_ms)
            .field("drain_ms", &self.drain_ms)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("tls_cert_file", &self.tls_cert_file)
            .finish_non_exhaustive()
    }
}

/// Shows everything but the password in the URL.
impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").field("url", &without_secret(&self.url)).finish()
    }
}

/// A URL as it may be shown: without the password in it.
#[must_use]
pub fn without_secret(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((user, place)) = rest.rsplit_once('@') else { return url.to_owned() };
    let user = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}@{place}")
}

/// Shows everything but the secrets.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("kind", &self.kind)
            .field("account_sid", &self.account_sid)
            .field("public_url", &self.public_url)
            .field("api_base", &self.api_base)
            .field("calls_per_second", &self.calls_per_second)
            .field("music_url", &self.music_url)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// How the outside reaches this node.
    #[must_use]
    pub fn public_url(&self) -> String {
        if self.server.public_url.is_empty() {
            return format!("http://{}", self.server.listen);
        }
        self.server.public_url.trim_end_matches('/').to_owned()
    }

    /// The product that keeps facts and records.
    #[must_use]
    pub fn store_url(&self) -> String {
        if self.store.url.is_empty() {
            return format!("sqlite://{}", self.node.data_dir.join("eml.db").display());
        }
        self.store.url.clone()
    }
}
