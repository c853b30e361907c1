//! A node becomes one of several: it registers, renews its lease, opens its way to the others.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_lc_rs::hmac;
use tokio::sync::mpsc;

use crate::actors::{self, Engine};
use crate::cluster::Cluster;
use crate::cluster::beat::{BeatReport, BeatSettings, BeatThread, HeartRenewal};
use crate::cluster::lease::LeaseHandle;
use crate::cluster::link::{self, Identity, LinkSettings, Links, PemFiles};
use crate::cluster::membership::MembershipSettings;
use crate::config::Settings;
use crate::domain::node::{NodeRef, Role};
use crate::domain::time::{Clock, Millis, Timestamp};
use crate::seeded::{self, Bug};
use crate::store::Stores;
use crate::store::members::{ClusterSecret, Members, NewNode};

/// How much sooner than the others a node takes its lease for over.
const MARGIN: Duration = Duration::from_millis(150);
/// Pause before something that went wrong is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// What the key of tokens is made from, beside the secret of the cluster.
const TOKEN_KEY: &[u8] = b"eml token signing key";

/// A node that is registered and not yet known to its engine.
pub(super) struct Registered {
    /// The stores under this run of the node.
    pub(super) stores: Stores,
    /// What the engine gets.
    pub(super) cluster: Cluster,
    /// What `Joining::join` needs.
    pub(super) joining: Joining,
}

/// What is left to do once the engine runs.
pub(super) struct Joining {
    me: NodeRef,
    secret: ClusterSecret,
    origin: Instant,
    beat: BeatThread,
    beats: mpsc::Receiver<BeatReport>,
}

/// Writes this run of the node into the node table and begins to renew its lease.
pub(super) async fn register(
    settings: &Settings,
    stores: &Stores,
    public_url: &str,
) -> anyhow::Result<Registered> {
    let members = members(stores)?;
    let secret = secret(settings, stores).await?;
    let lease_length = settings.cluster.lease_ms;
    let origin = Instant::now();
    let me = members.register(&new_node(settings, public_url), lease_length).await?;
    let lease = LeaseHandle::new(lease_length.duration(), MARGIN, origin);
    let renewal = Box::new(HeartRenewal::new(members.heart(), me.clone(), lease_length));
    let every = settings.cluster.heartbeat_ms.duration();
    let limit = (lease_length.duration() / 2).max(every);
    let (beat, beats) =
        BeatThread::start(renewal, lease.clone(), BeatSettings { every, limit, pause: every / 5 })
            .context("the thread that renews the lease")?;
    tracing::info!(node = %me.node, incarnation = %me.incarnation, "registered in the cluster");
    Ok(Registered {
        stores: if seeded::has(Bug::SkipFence) { stores.clone() } else { stores.fenced(&me) },
        cluster: Cluster::new(me.clone(), lease, members),
        joining: Joining { me, secret, origin, beat, beats },
    })
}

/// The secret that all nodes know.
pub(super) async fn secret(settings: &Settings, stores: &Stores) -> anyhow::Result<ClusterSecret> {
    let made = secret_of(settings)?;
    Ok(members(stores)?.cluster_secret(&|| made.clone()).await?)
}

fn members(stores: &Stores) -> anyhow::Result<Arc<dyn Members>> {
    stores.members.clone().context("cluster.enabled needs store.url = postgres://…")
}

/// The master secret of the vault that all nodes have.
pub(super) fn token_seed(secret: &ClusterSecret) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.secret.as_bytes());
    let mut seed = [0; 32];
    seed.copy_from_slice(hmac::sign(&key, TOKEN_KEY).as_ref());
    seed
}

impl Joining {
    /// The master secret of the vault that all nodes have.
    pub(super) fn token_seed(&self) -> [u8; 32] {
        token_seed(&self.secret)
    }

    /// Opens the way to the other nodes and lets the engine claim shards. The beat goes on as long as
    /// what is returned lives.
    pub(super) async fn join(self, engine: &Engine, settings: &Settings) -> anyhow::Result<BeatThread> {
        let Self { me, secret, origin, beat, beats } = self;
        let members = engine.stores().members.clone().context("the store has no node table")?;
        let identity = identity(settings, me, &secret, store_clock(members.view().await?.now))?;
        let links = LinkSettings {
            listen: settings.cluster.listen.clone(),
            silent_after: settings.cluster.silent_after_ms.duration(),
            ..LinkSettings::default()
        };
        let (inbound, living) = actors::gateway(engine);
        let links = Links::start(links, identity, inbound, living)
            .await
            .with_context(|| format!("cluster.listen: {}", settings.cluster.listen))?;
        engine.connect(Arc::new(links));
        let membership = MembershipSettings {
            beat: settings.cluster.heartbeat_ms.duration(),
            lease: settings.cluster.lease_ms.duration(),
            margin: MARGIN,
            retry: RETRY,
        };
        actors::join(engine, membership, origin, beats).await?;
        Ok(beat)
    }
}

/// The roles of the configuration.
pub(super) fn roles(settings: &Settings) -> Vec<Role> {
    let words = &settings.node.roles;
    if words.iter().any(|word| word == "all") {
        return Role::ALL.to_vec();
    }
    words.iter().filter_map(|word| word.parse().ok()).collect()
}

fn new_node(settings: &Settings, public_url: &str) -> NewNode {
    let cluster = &settings.cluster;
    let address = if cluster.advertise.is_empty() { &cluster.listen } else { &cluster.advertise };
    NewNode {
        node: settings.node.name.clone(),
        address: address.clone(),
        public_url: public_url.to_owned(),
        roles: roles(settings),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// What is kept in the store when it holds nothing yet.
fn secret_of(settings: &Settings) -> anyhow::Result<ClusterSecret> {
    let made = link::Authority::generate(Clock.now())?;
    let secret = &settings.cluster.cookie;
    let secret = if secret.is_empty() { made.secret } else { secret.clone() };
    Ok(ClusterSecret { secret, ca_cert_pem: made.certificate_pem, ca_key_pem: made.key_pem })
}

/// The clock of the store, which all nodes share: tokens between nodes last a minute, so a wall clock that
/// is wrong or jumps would cut a node off.
fn store_clock(read: Timestamp) -> link::Now {
    let at = Instant::now();
    Arc::new(move || read + Millis(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)))
}

/// Who this node is for the others: by files, or by a certificate that it issues to itself.
fn identity(
    settings: &Settings,
    me: NodeRef,
    kept: &ClusterSecret,
    now: link::Now,
) -> anyhow::Result<Identity> {
    let cluster = &settings.cluster;
    let secret = if cluster.cookie.is_empty() { &kept.secret } else { &cluster.cookie };
    if cluster.tls_ca_file.as_os_str().is_empty() {
        let authority = link::Authority {
            certificate_pem: kept.ca_cert_pem.clone(),
            key_pem: kept.ca_key_pem.clone(),
            secret: secret.clone(),
        };
        return Ok(Identity::issued(me, &authority, now)?);
    }
    let read = |key: &str, file: &Path| {
        fs::read_to_string(file).with_context(|| format!("cluster.{key}: {}", file.display()))
    };
    let files = PemFiles {
        authority: read("tls_ca_file", &cluster.tls_ca_file)?,
        certificate: read("tls_cert_file", &cluster.tls_cert_file)?,
        key: read("tls_key_file", &cluster.tls_key_file)?,
    };
    Ok(Identity::given(me, &files, secret, now)?)
}
