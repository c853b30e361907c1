//! Whether the settings can work. Each fault names its key.

use std::net::SocketAddr;

use super::oidc;
use super::settings::{Provider, Settings};
use crate::domain::identity::RoleName;
use crate::domain::node::Role;
use crate::domain::time::Millis;

/// A key and why its value cannot work.
pub(super) type Fault = (String, String);

/// Every fault of the settings.
#[must_use]
pub(super) fn faults(settings: &Settings) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    faults.listen("server.listen", &settings.server.listen, false);
    faults.listen("telemetry.listen", &settings.telemetry.listen, true);
    faults.listeners(settings);
    faults.url("server.public_url", &settings.server.public_url);
    for (i, proxy) in settings.server.trusted_proxies.iter().enumerate() {
        faults.check(
            proxy.parse::<std::net::IpAddr>().is_err(),
            &format!("server.trusted_proxies.{i}"),
            "must be an IP address",
        );
    }
    faults.check(settings.node.name.trim().is_empty(), "node.name", "must not be empty");
    faults.roles(settings);
    faults.cluster(settings);
    let store = &settings.store;
    let begins = |url: &str, starts: &[&str]| starts.iter().any(|start| url.starts_with(start));
    let known = store.url.is_empty()
        || store.url == "memory:"
        || begins(&store.url, &["sqlite://", "postgres://", "postgresql://"]);
    faults.check(!known, "store.url", "must begin with sqlite:// or postgres://, or be memory:");
    faults.check(store.flush_rows == 0, "store.flush_rows", "must be at least 1");
    faults.check(store.queue_rows == 0, "store.queue_rows", "must be at least 1");
    let (archive, cache, bus) = (&settings.archive.url, &settings.cache.url, &settings.bus.url);
    let known = archive == "store:" || begins(archive, &["mongodb://", "mongodb+srv://"]);
    faults.check(!known, "archive.url", "must begin with mongodb:// or be store:");
    let known = cache == "memory:" || begins(cache, &["redis://", "rediss://"]);
    faults.check(!known, "cache.url", "must begin with redis:// or be memory:");
    let known = bus == "memory:" || begins(bus, &["amqp://", "amqps://"]);
    faults.check(!known, "bus.url", "must begin with amqp:// or be memory:");
    faults.check(!(4..=15).contains(&settings.auth.bcrypt_cost), "auth.bcrypt_cost", "must be 4 to 15");
    faults.identity(settings);
    faults.spans(settings);
    faults.check(settings.websocket.send_queue == 0, "websocket.send_queue", "must be at least 1");
    let formats = ["auto", "json", "pretty"];
    faults.check(
        !formats.contains(&settings.telemetry.log_format.as_str()),
        "telemetry.log_format",
        "must be auto, json or pretty",
    );
    faults.check(
        !is_log_level(&settings.telemetry.log_level),
        "telemetry.log_level",
        "must be off, error, warn, info, debug or trace, or directives as in info,eml::store=debug",
    );
    for (name, provider) in &settings.providers {
        faults.provider(name, provider);
    }
    for (name, section) in &settings.auth.oidc {
        faults.0.extend(oidc::faults(name, section));
    }
    faults.0
}

/// Whether each part is a level, alone or after a target and `=`.
fn is_log_level(directives: &str) -> bool {
    directives.split(',').all(|part| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|known| known.eq_ignore_ascii_case(level))
    })
}

/// Whether two listeners want the same port; an unspecified address means every address.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_everywhere = |address: SocketAddr| address.ip().is_unspecified();
    one.port() == other.port() && (one.ip() == other.ip() || is_everywhere(one) || is_everywhere(other))
}

struct Faults(Vec<Fault>);

impl Faults {
    fn check(&mut self, is_fault: bool, key: &str, why: &str) {
        if is_fault {
            self.0.push((key.to_owned(), why.to_owned()));
        }
    }

    fn listen(&mut self, key: &str, value: &str, may_be_empty: bool) {
        let fine = (may_be_empty && value.is_empty()) || value.parse::<SocketAddr>().is_ok();
        self.check(!fine, key, "must be ADDRESS:PORT, as in 127.0.0.1:8080");
    }

    /// No two listeners may want one port of one address; port 0 is always a free one.
    fn listeners(&mut self, settings: &Settings) {
        let mut taken: Vec<(String, SocketAddr)> = Vec::new();
        let carriers = settings.providers.iter().filter(|(_, provider)| provider.kind == "loopback");
        let carriers =
            carriers.map(|(name, provider)| (format!("providers.{name}.listen"), &provider.listen));
        let own =
            [("server.listen", &settings.server.listen), ("telemetry.listen", &settings.telemetry.listen)];
        let cluster = settings.cluster.enabled.then_some(("cluster.listen", &settings.cluster.listen));
        let own = own.into_iter().chain(cluster).map(|(key, value)| (key.to_owned(), value));
        for (key, value) in own.chain(carriers) {
            let Ok(address) = value.parse::<SocketAddr>() else { continue };
            if address.port() == 0 {
                continue;
            }
            match taken.iter().find(|(_, other)| overlap(address, *other)) {
                Some((other, _)) => self.check(true, &key, &format!("must not be the same as {other}")),
                None => taken.push((key, address)),
            }
        }
    }

    fn roles(&mut self, settings: &Settings) {
        let roles = &settings.node.roles;
        let fine =
            roles == &["all"] || (!roles.is_empty() && roles.iter().all(|word| word.parse::<Role>().is_ok()));
        let words = Role::ALL.map(Role::as_str).join(", ");
        self.check(!fine, "node.roles", &format!("must be [\"all\"] or some of {words}"));
        let is_alone = !settings.cluster.enabled && roles != &["all"];
        self.check(is_alone, "node.roles", "must be [\"all\"] for a node that stands alone");
    }

    fn cluster(&mut self, settings: &Settings) {
        let cluster = &settings.cluster;
        if !cluster.enabled {
            return;
        }
        let name = &settings.node.name;
        let fine_name = (1..=63).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-')
            && name.bytes().any(|byte| byte.is_ascii_lowercase());
        let why = "must be lower-case letters, digits and hyphens within, and not digits only, in a cluster";
        self.check(!fine_name, "node.name", why);
        let is_shared = settings.store.url.starts_with("postgres");
        self.check(!is_shared, "store.url", "must be postgres://… in a cluster");
        let is_shared = settings.cache.url.starts_with("redis");
        self.check(!is_shared, "cache.url", "must be redis://… in a cluster");
        self.listen("cluster.listen", &cluster.listen, false);
        self.check(
            cluster.heartbeat_ms < Millis(50),
            "cluster.heartbeat_ms",
            "must be at least 50 milliseconds",
        );
        let is_short = cluster.lease_ms.0 < cluster.heartbeat_ms.0.saturating_mul(3);
        self.check(is_short, "cluster.lease_ms", "must be at least three times cluster.heartbeat_ms");
        let is_short = cluster.silent_after_ms < Millis(500);
        self.check(is_short, "cluster.silent_after_ms", "must be at least 500 milliseconds");
        let files = [&cluster.tls_ca_file, &cluster.tls_cert_file, &cluster.tls_key_file];
        let given = files.iter().filter(|file| !file.as_os_str().is_empty()).count();
        self.check(
            given != 0 && given != files.len(),
            "cluster.tls_ca_file",
            "must be given with cluster.tls_cert_file and cluster.tls_key_file, or none of them",
        );
        let has_secret = !cluster.cookie.is_empty();
        self.check(has_secret && cluster.cookie.len() < 32, "cluster.cookie", "must have at least 32 bytes");
    }

    fn url(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let parsed = url::Url::parse(value).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        match parsed.as_ref().and_then(url::Url::host_str) {
            None => self.check(true, key, "must be an http or https URL"),
            Some(host) => self.check(host.contains('_'), key, "must not have a host name with `_`"),
        }
    }

    /// Passwords, and who may become a user.
    fn identity(&mut self, settings: &Settings) {
        let auth = &settings.auth;
        self.check(!(1..=1000).contains(&auth.bcrypt_line), "auth.bcrypt_line", "must be 1 to 1000");
        self.check(!(8..=64).contains(&auth.password_min), "auth.password_min", "must be 8 to 64");
        let ways = ["admin", "invitation", "open"];
        let is_way = ways.contains(&auth.registration.as_str());
        self.check(!is_way, "auth.registration", "must be admin, invitation or open");
        let is_role = |name: &str| name.parse::<RoleName>().is_ok();
        self.check(!is_role(&auth.registration_role), "auth.registration_role", "must be the name of a role");
        let is_admin = auth.registration_role == RoleName::ADMIN;
        self.check(is_admin, "auth.registration_role", "must not be admin");
        for (i, role) in auth.second_factor_roles.iter().enumerate() {
            let key = format!("auth.second_factor_roles.{i}");
            self.check(!is_role(role), &key, "must be the name of a role");
        }
    }

    fn spans(&mut self, settings: &Settings) {
        for (key, span) in [
            ("calls.default_ring_timeout_ms", settings.calls.default_ring_timeout_ms),
            ("calls.outbound_ring_timeout_ms", settings.calls.outbound_ring_timeout_ms),
            ("calls.default_max_wait_ms", settings.calls.default_max_wait_ms),
            ("calls.park_after_ms", settings.calls.park_after_ms),
            ("websocket.ping_interval_ms", settings.websocket.ping_interval_ms),
            ("websocket.silent_after_ms", settings.websocket.silent_after_ms),
            ("server.request_timeout_ms", settings.server.request_timeout_ms),
            ("auth.access_ttl_ms", settings.auth.access_ttl_ms),
            ("auth.refresh_ttl_ms", settings.auth.refresh_ttl_ms),
            ("auth.session_ttl_ms", settings.auth.session_ttl_ms),
            ("auth.invitation_ttl_ms", settings.auth.invitation_ttl_ms),
            ("auth.link_ttl_ms", settings.auth.link_ttl_ms),
        ] {
            self.check(span < Millis(100), key, "must be at least 100 milliseconds");
        }
        let issuer = &settings.auth.totp_issuer;
        let is_fine = (1..=64).contains(&issuer.len()) && !issuer.contains(':');
        self.check(!is_fine, "auth.totp_issuer", "must have 1 to 64 bytes and no colon");
        let is_long = settings.auth.access_ttl_ms > Millis::from_secs(86_400);
        self.check(is_long, "auth.access_ttl_ms", "must be a day at most");
        let is_short = settings.auth.key_life_ms < Millis::from_secs(3_600);
        self.check(is_short, "auth.key_life_ms", "must be an hour at least");
    }

    fn provider(&mut self, name: &str, provider: &Provider) {
        let key = |field: &str| format!("providers.{name}.{field}");
        let fine_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        self.check(
            !fine_name,
            &format!("providers.{name}"),
            "must be named with letters, digits and hyphens",
        );
        self.check(
            !matches!(provider.kind.as_str(), "twilio" | "loopback"),
            &key("kind"),
            "must be twilio or loopback",
        );
        self.check(provider.account_sid.is_empty(), &key("account_sid"), "must be set");
        self.check(provider.auth_token.is_empty(), &key("auth_token"), "must be set");
        self.url(&key("public_url"), &provider.public_url);
        self.url(&key("api_base"), &provider.api_base);
        if !provider.listen.is_empty() {
            self.listen(&key("listen"), &provider.listen, true);
        }
    }
}
