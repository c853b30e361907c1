//! Wiring: from settings to a running node, and back down again.

mod cluster;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::actors::{self, AgentLimits, Engine, EngineSettings, WriterSettings};
use crate::cluster::beat::BeatThread;
use crate::cluster::lease::EndReason;
use crate::config::{Provider, Settings};
use crate::domain::directory::ActivityRecord;
use crate::domain::id::ActivityId;
use crate::domain::node::Role;
use crate::domain::time::Clock;
use crate::edge::auth::links::{self, MadeLink, Purpose};
use crate::edge::auth::passwords::{PasswordSettings, Passwords};
use crate::edge::auth::{
    self, Authority, Gate, OutsideProvider, OutsideProviders, OutsideSettings, Sessions, Throttle, Tickets,
    Trail, Vault,
};
use crate::edge::oauth;
use crate::edge::providers::twilio::{Links, Phrases, TwilioClient, TwilioSettings};
use crate::edge::{
    Departure, EdgeSettings, EdgeState, Registration, SocketSettings, TwilioSection, Webhooks, inner_router,
    router, users,
};
use crate::store::records::{RecordKind, Records, StoredRecord};
use crate::store::{self, StoreError, StoreUrls, Stores};
use crate::telemetry::Metrics;

/// Name of the file with the signing key, in the data folder.
pub const KEY_FILE: &str = "token-key.pk8";
/// Twilio's API.
const TWILIO_API: &str = "https://api.twilio.com";
/// How long connections may take to end when the node stops.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a node that leaves a cluster may take to hand its shards over.
const HANDOVER: Duration = Duration::from_secs(30);

/// A running node.
pub struct Node {
    /// The engine.
    pub engine: Engine,
    /// Where the public listener is.
    pub address: SocketAddr,
    /// Where the figures are, if anywhere.
    pub telemetry_address: Option<SocketAddr>,
    /// Makes tokens.
    pub authority: Arc<Authority>,
    /// What the handlers of this node share.
    pub edge: EdgeState,
    drain: watch::Sender<Departure>,
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    /// Renews the lease as long as the node lives.
    beat: Option<BeatThread>,
    drain_for: Duration,
}

/// Starts a node.
///
/// # Errors
/// When a file, a listener or the store cannot be used.
pub async fn start(settings: &Settings) -> anyhow::Result<Node> {
    std::fs::create_dir_all(&settings.node.data_dir)
        .with_context(|| format!("data folder {} cannot be made", settings.node.data_dir.display()))?;
    let listener = listen("server.listen", &settings.server.listen).await?;
    let address = listener.local_addr()?;
    let stores = open_stores(settings).await?;
    seed_activities(&*stores.records).await?;
    oauth::seed(&*stores.records, Clock.now()).await?;
    let metrics = Metrics::new();
    let is_named = !settings.server.public_url.is_empty();
    let public_url = if is_named { settings.public_url() } else { format!("http://{address}") };
    let (stores, member) = if settings.cluster.enabled {
        let registered = cluster::register(settings, &stores, &public_url).await?;
        (registered.stores, Some((registered.cluster, registered.joining)))
    } else {
        (stores, None)
    };
    let (member, joining) = member.unzip();
    let engine = actors::start(engine_settings(settings), stores, metrics, member).await?;
    let webhooks = providers(settings, &engine, &public_url)?;
    let vault = Arc::new(match &joining {
        Some(joining) => Vault::of_seed(&joining.token_seed()),
        None => Vault::load_or_create(&settings.node.data_dir.join(KEY_FILE))?,
    });
    let (authority, gate) = identity(settings, &vault, engine.stores()).await?;
    let beat = if let Some(joining) = joining {
        Some(joining.join(&engine, settings).await?)
    } else {
        actors::take_up(&engine).await?;
        None
    };
    let (drain, draining) = watch::channel(Departure::No);
    let state = edge_state(settings, &engine, (webhooks, &public_url), (&authority, &gate), draining)?;
    let stop = CancellationToken::new();
    let following = auth::follow(gate, authority.clone(), engine.stores().clone(), stop.clone());
    let is_edge = cluster::roles(settings).contains(&Role::Edge);
    let public = if is_edge { router(state.clone()) } else { inner_router(state.clone()) };
    let mut servers = vec![serve(listener, public, stop.clone()), tokio::spawn(following)];
    let mut telemetry_address = None;
    if !settings.telemetry.listen.is_empty() {
        let listener = listen("telemetry.listen", &settings.telemetry.listen).await?;
        telemetry_address = Some(listener.local_addr()?);
        servers.push(serve(listener, figures(&engine), stop.clone()));
    }
    let drain_for = settings.cluster.drain_ms.duration();
    Ok(Node {
        engine,
        address,
        telemetry_address,
        authority,
        edge: state,
        drain,
        stop,
        servers,
        beat,
        drain_for,
    })
}

impl Node {
    /// A link that makes the first admin, as long as there is no user.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn first_link(&self) -> Result<Option<MadeLink>, StoreError> {
        let stores = self.engine.stores();
        if !users::all(&*stores.records).await?.is_empty() {
            return Ok(None);
        }
        let settings = &self.edge.settings;
        let now = self.engine.clock().now();
        let purpose = &Purpose::FirstAdmin;
        links::make(&*stores.grants, purpose, &settings.public_url, settings.link_ttl, now).await.map(Some)
    }

    /// Waits until this run of the node is over for the others: it was drained, or others took over.
    /// A node that stands alone is never over.
    pub async fn ended(&self) -> EndReason {
        self.engine.ended().await
    }

    /// Stops the node: no new work, sockets are sent elsewhere, what is under way is stored. A node of
    /// a cluster hands its shards over first, and goes on answering meanwhile, so that whoever still
    /// sends it something is served.
    pub async fn stop(self) {
        self.engine.drain();
        let _ = self.drain.send(Departure::Leaving);
        if self.engine.leave_cluster().await {
            let noticed = tokio::time::Instant::now() + self.drain_for;
            if tokio::time::timeout(HANDOVER, self.ended()).await.is_err() {
                tracing::error!("shards could not be handed over in time; others will take them over");
            }
            tokio::time::sleep_until(noticed).await;
        }
        let _ = self.drain.send(Departure::Closing);
        self.stop.cancel();
        for server in self.servers {
            let _ = tokio::time::timeout(LAST_WORDS, server).await;
        }
        let deadline = tokio::time::Instant::now() + LAST_WORDS;
        while self.engine.writer().pending() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if let Some(beat) = self.beat {
            beat.stop().await;
        }
    }
}

/// What makes and refuses tokens, for a command beside a node: as the node itself would.
///
/// # Errors
/// When the key file or the store cannot be used.
pub async fn identity_of(
    settings: &Settings,
    stores: &Stores,
) -> anyhow::Result<(Arc<Authority>, Arc<Gate>)> {
    let vault = if settings.cluster.enabled {
        Vault::of_seed(&cluster::token_seed(&cluster::secret(settings, stores).await?))
    } else {
        Vault::load_or_create(&settings.node.data_dir.join(KEY_FILE))?
    };
    identity(settings, &Arc::new(vault), stores).await
}

/// What makes and refuses tokens, with what the store knows of it.
async fn identity(
    settings: &Settings,
    vault: &Arc<Vault>,
    stores: &Stores,
) -> anyhow::Result<(Arc<Authority>, Arc<Gate>)> {
    let auth = &settings.auth;
    let authority = Authority::new(vault.clone(), &auth.issuer, auth.key_life_ms)?;
    authority.keep_up(stores).await.context("keys that tokens are signed with")?;
    let gate = Arc::new(Gate::default());
    gate.catch_up(&*stores.grants).await.context("tokens that are refused")?;
    Ok((Arc::new(authority), gate))
}

/// Opens every role.
async fn open_stores(settings: &Settings) -> anyhow::Result<Stores> {
    let store = settings.store_url();
    let urls = StoreUrls {
        store: &store,
        archive: &settings.archive.url,
        cache: &settings.cache.url,
        bus: &settings.bus.url,
    };
    store::open_all(urls).await.context("store.url, archive.url, cache.url or bus.url")
}

/// Activities that every call centre starts with; without one nobody could become available.
async fn seed_activities(records: &dyn Records) -> Result<(), StoreError> {
    if !records.all(RecordKind::Activity).await?.is_empty() {
        return Ok(());
    }
    for (name, available) in [("available", true), ("break", false), ("lunch", false), ("training", false)] {
        let activity = ActivityRecord { id: ActivityId::fresh(), name: name.to_owned(), available };
        let now = Clock.now();
        let record = StoredRecord {
            id: activity.id.uuid(),
            key: name.to_owned(),
            body: serde_json::to_value(&activity).map_err(|error| StoreError::Refused(error.to_string()))?,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        match records.insert(RecordKind::Activity, record).await {
            // Another node begins at the same time.
            Ok(()) | Err(StoreError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn listen(key: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
}

fn serve(listener: TcpListener, router: axum::Router, stop: CancellationToken) -> JoinHandle<()> {
    use axum::serve::ListenerExt as _;
    // Small answers must not wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "listener failed");
        }
    })
}

fn figures(engine: &Engine) -> axum::Router {
    let engine = engine.clone();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let handler = move || async move {
        engine.measure();
        ([(axum::http::header::CONTENT_TYPE, kind)], engine.metrics().encode())
    };
    axum::Router::new().route("/metrics", get(handler))
}

fn engine_settings(settings: &Settings) -> EngineSettings {
    EngineSettings {
        node: settings.node.name.clone(),
        writer: WriterSettings {
            flush_rows: settings.store.flush_rows,
            flush_after: settings.store.flush_after_ms,
            queue_rows: settings.store.queue_rows,
        },
        park_after: settings.calls.park_after_ms,
        max_active_calls: settings.calls.max_active,
        replay_events: settings.websocket.replay_events,
        agents: AgentLimits {
            grace: settings.routing.disconnect_grace_ms,
            missed_limit: settings.routing.missed_offers_limit,
            reject_backoff: settings.routing.reject_backoff_ms,
            busy_backoff: settings.routing.busy_backoff_ms,
        },
    }
}

/// Makes every provider known to the engine, and its webhooks to the edge.
fn providers(settings: &Settings, engine: &Engine, public_url: &str) -> anyhow::Result<Webhooks> {
    let mut sections = HashMap::new();
    for (name, provider) in &settings.providers {
        let public_url = if provider.public_url.is_empty() { public_url } else { &provider.public_url };
        let client = TwilioClient::new(client_settings(name, provider, public_url), engine.metrics().clone())
            .with_context(|| format!("providers.{name}"))?;
        engine.add_carrier(name, Arc::new(client));
        let mut secrets = vec![provider.auth_token.clone()];
        secrets.extend(Some(provider.auth_token_next.clone()).filter(|next| !next.is_empty()));
        let music_url = Some(provider.music_url.clone()).filter(|music| !music.is_empty());
        let phrases = Phrases { music_url, ..Phrases::default() };
        let links = Links::new(public_url, name).with_context(|| format!("providers.{name}.public_url"))?;
        sections.insert(name.clone(), Arc::new(TwilioSection { secrets, links, phrases }));
    }
    Ok(Webhooks::new(sections))
}

/// The outside providers that people sign in with.
fn outside_providers(settings: &Settings, public_url: &str) -> anyhow::Result<OutsideProviders> {
    let mut providers = Vec::new();
    for (name, section) in &settings.auth.oidc {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let base = given(&section.public_url).unwrap_or_else(|| public_url.to_owned());
        let outside = OutsideSettings {
            name: name.clone(),
            title: given(&section.title).unwrap_or_else(|| name.clone()),
            issuer: section.issuer.clone(),
            client_id: section.client_id.clone(),
            client_secret: given(&section.client_secret),
            redirect_url: format!("{}/auth/oidc/{name}/callback", base.trim_end_matches('/')),
            scopes: section.scopes.clone(),
            roles_claim: given(&section.roles_claim),
            roles: section.role_of_groups(),
            default_roles: section.roles_of_all(),
            create_users: section.create_users,
            link_by_email: section.link_by_email,
            trust_second_factor: section.trust_second_factor,
            return_urls: section.return_urls.clone(),
        };
        let provider = OutsideProvider::new(outside).with_context(|| format!("auth.oidc.{name}"))?;
        providers.push(Arc::new(provider));
    }
    Ok(OutsideProviders::new(providers))
}

fn client_settings(name: &str, provider: &Provider, public_url: &str) -> TwilioSettings {
    let api_base = if provider.api_base.is_empty() { TWILIO_API } else { &provider.api_base };
    TwilioSettings {
        name: name.to_owned(),
        account_sid: provider.account_sid.clone(),
        auth_token: provider.auth_token.clone(),
        auth_token_next: Some(provider.auth_token_next.clone()).filter(|next| !next.is_empty()),
        api_base: api_base.to_owned(),
        public_url: public_url.to_owned(),
        calls_per_second: provider.calls_per_second,
    }
}

fn edge_state(
    settings: &Settings,
    engine: &Engine,
    (webhooks, public_url): (Webhooks, &str),
    (authority, gate): (&Arc<Authority>, &Arc<Gate>),
    drain: watch::Receiver<Departure>,
) -> anyhow::Result<EdgeState> {
    let vault = authority.vault().clone();
    let auth = &settings.auth;
    let passwords =
        PasswordSettings { cost: auth.bcrypt_cost, line: auth.bcrypt_line, least: auth.password_min };
    let throttle = Throttle::new(engine.stores().grants.clone(), vault.clone(), auth.login_tries_per_minute);
    Ok(EdgeState {
        engine: engine.clone(),
        authority: authority.clone(),
        gate: gate.clone(),
        sessions: Arc::new(Sessions::new(vault.clone())),
        trail: Arc::new(Trail::new(engine.clone())),
        vault,
        tickets: Arc::new(Tickets::new(engine.stores().cache.clone())),
        passwords: Passwords::start(passwords).context("thread for passwords")?,
        throttle: Arc::new(throttle),
        webhooks: Arc::new(webhooks),
        outside: Arc::new(outside_providers(settings, public_url)?),
        settings: Arc::new(edge_settings(settings, public_url)?),
        set_up: Arc::default(),
        drain,
    })
}

fn edge_settings(settings: &Settings, public_url: &str) -> anyhow::Result<EdgeSettings> {
    let auth = &settings.auth;
    let role = |name: &String| name.parse().map_err(anyhow::Error::msg);
    let proxies = settings.server.trusted_proxies.iter().filter_map(|proxy| proxy.parse().ok());
    Ok(EdgeSettings {
        node: settings.node.name.clone(),
        max_body_bytes: settings.server.max_body_bytes,
        request_timeout: settings.server.request_timeout_ms.duration(),
        trusted_proxies: proxies.collect(),
        providers: settings.providers.keys().cloned().collect(),
        public_url: public_url.to_owned(),
        default_ring: settings.calls.default_ring_timeout_ms,
        outbound_ring: settings.calls.outbound_ring_timeout_ms,
        default_wrap_up: settings.calls.default_wrap_up_ms,
        default_max_wait: settings.calls.default_max_wait_ms,
        access_ttl: settings.auth.access_ttl_ms,
        refresh_ttl: settings.auth.refresh_ttl_ms,
        session_ttl: settings.auth.session_ttl_ms,
        step_up: settings.auth.step_up_ms,
        totp_issuer: settings.auth.totp_issuer.clone(),
        registration: match auth.registration.as_str() {
            "open" => Registration::Open,
            "invitation" => Registration::Invitation,
            _ => Registration::Admin,
        },
        registration_role: role(&auth.registration_role)?,
        second_factor_roles: auth.second_factor_roles.iter().map(role).collect::<Result<_, _>>()?,
        link_ttl: auth.link_ttl_ms,
        invitation_ttl: auth.invitation_ttl_ms,
        socket: SocketSettings {
            send_queue: settings.websocket.send_queue,
            ping_interval: settings.websocket.ping_interval_ms.duration(),
            silent_after: settings.websocket.silent_after_ms.duration(),
            commands_per_second: settings.websocket.commands_per_second,
            allowed_origins: settings.websocket.allowed_origins.clone(),
        },
    })
}
