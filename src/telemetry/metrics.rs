//! Figures in `OpenMetrics` form. Labels are bounded; ids never are labels.
//!
//! Each family carries the label `service`: the one of the original five services it belongs to.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::observations::{HttpObservation, ProviderResult, WebhookResult};
use crate::domain::agent::RoutingStatus;
use crate::domain::call::Outcome;
use crate::domain::id::QueueId;
use crate::domain::record::CallSummary;
use crate::domain::time::Millis;

type Labels = Vec<(&'static str, String)>;

struct Families {
    registry: Registry,
    calls: Family<Labels, Counter>,
    call_wait: Family<Labels, Histogram>,
    call_talk: Family<Labels, Histogram>,
    offers: Family<Labels, Counter>,
    offer_latency: Histogram,
    queue_waiting: Family<Labels, Gauge>,
    queue_oldest: Family<Labels, Gauge<f64, AtomicU64>>,
    agents: Family<Labels, Gauge>,
    sockets: Gauge,
    sockets_dropped: Counter,
    webhooks: Family<Labels, Counter>,
    webhook_seconds: Family<Labels, Histogram>,
    batch_facts: Histogram,
    commit_seconds: Histogram,
    journal_pending: Gauge,
    relayed: Family<Labels, Counter>,
    relay_failures: Family<Labels, Counter>,
    relay_lag: Family<Labels, Histogram>,
    restarts: Family<Labels, Counter>,
    quarantined: Family<Labels, Gauge>,
    actors: Family<Labels, Gauge>,
    http_seconds: Family<Labels, Histogram>,
    provider_requests: Family<Labels, Counter>,
    calls_active: Gauge,
    nodes: Gauge,
    shards: Gauge,
    letters: Gauge,
    nodes_declared_dead: Counter,
}

/// The figures of a node. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Fine where an agent's patience and our aim (25 ms) lie.
const OFFER_BUCKETS: [f64; 20] = [
    0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25,
    0.5, 1.0, 2.5, 10.0,
];

/// Seconds from 1 ms to 16 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// Seconds from 1 s to about 9 h, for waits and talks.
fn spans() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 16))
}

fn seconds(span: Millis) -> f64 {
    span.duration().as_secs_f64()
}

impl Metrics {
    /// Registers every family.
    #[must_use]
    pub fn new() -> Self {
        let mut families = Families {
            registry: Registry::with_prefix("eml"),
            calls: Family::default(),
            call_wait: Family::new_with_constructor(spans),
            call_talk: Family::new_with_constructor(spans),
            offers: Family::default(),
            offer_latency: Histogram::new(OFFER_BUCKETS),
            queue_waiting: Family::default(),
            queue_oldest: Family::default(),
            agents: Family::default(),
            sockets: Gauge::default(),
            sockets_dropped: Counter::default(),
            webhooks: Family::default(),
            webhook_seconds: Family::new_with_constructor(latency),
            batch_facts: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            commit_seconds: latency(),
            journal_pending: Gauge::default(),
            relayed: Family::default(),
            relay_failures: Family::default(),
            relay_lag: Family::new_with_constructor(latency),
            restarts: Family::default(),
            quarantined: Family::default(),
            actors: Family::default(),
            http_seconds: Family::new_with_constructor(latency),
            provider_requests: Family::default(),
            calls_active: Gauge::default(),
            nodes: Gauge::default(),
            shards: Gauge::default(),
            letters: Gauge::default(),
            nodes_declared_dead: Counter::default(),
        };
        families.register_calls();
        families.register_cluster();
        families.register_edge();
        families.register_engine();
        Self(Arc::new(families))
    }

    /// All figures as `OpenMetrics` text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// A fact of a call became durable; its row and the name of its queue are asked for only when
    /// they are needed.
    pub fn call_fact(
        &self,
        kind: &str,
        row: impl FnOnce() -> CallSummary,
        queue: impl FnOnce(QueueId) -> Option<String>,
    ) {
        match kind {
            "call.received" => {
                self.0.calls_active.inc();
            }
            "call.ended" => {
                self.0.calls_active.dec();
                let row = row();
                let queue = row.queue_id.and_then(queue).unwrap_or_default();
                self.call_ended(&row, queue);
            }
            _ => {}
        }
    }

    fn call_ended(&self, call: &CallSummary, queue: String) {
        let labels = vec![
            ("direction", call.direction.as_str().to_owned()),
            ("provider", call.provider.to_string()),
            ("outcome", call.outcome.map_or("unknown", Outcome::as_str).to_owned()),
        ];
        self.0.calls.get_or_create(&labels).inc();
        if let Some(wait) = call.wait_ms {
            self.0.call_wait.get_or_create(&vec![("queue", queue)]).observe(seconds(wait));
        }
        if let Some(talk) = call.talk_ms {
            self.0.call_talk.get_or_create(&Vec::new()).observe(seconds(talk));
        }
    }

    /// Open calls came to this node: at its start, or with shards of another.
    pub fn calls_taken_up(&self, count: u64) {
        self.0.calls_active.inc_by(count.cast_signed());
    }

    /// Open calls went to another node with their shards.
    pub fn calls_handed_over(&self, count: u64) {
        self.0.calls_active.dec_by(count.cast_signed());
    }

    /// This node declared another one dead.
    pub fn node_declared_dead(&self) {
        self.0.nodes_declared_dead.inc();
    }

    /// How the cluster looks from this node: living nodes, shards that run here, letters to shards
    /// elsewhere that wait.
    pub fn cluster(&self, nodes: u64, shards: u64, letters: u64) {
        self.0.nodes.set(nodes.cast_signed());
        self.0.shards.set(shards.cast_signed());
        self.0.letters.set(letters.cast_signed());
    }

    /// A session of this node went to another one, in this state.
    pub fn agent_left(&self, status: RoutingStatus) {
        self.0.agents.get_or_create(&vec![("state", status.as_str().to_owned())]).dec();
    }

    /// Calls that are not over.
    #[must_use]
    pub fn active_calls(&self) -> u64 {
        self.0.calls_active.get().max(0).cast_unsigned()
    }

    /// A fact of an agent session became durable.
    pub fn agent_fact(&self, kind: &str) {
        if let Some(outcome) = kind.strip_prefix("offer.") {
            self.0.offers.get_or_create(&vec![("outcome", outcome.to_owned())]).inc();
        }
    }

    /// An offer was written to a socket this long after its call could be offered.
    pub fn offer_written(&self, after: Millis) {
        self.0.offer_latency.observe(seconds(after));
    }

    /// An agent session changed what it is doing.
    pub fn agent_moved(&self, before: Option<RoutingStatus>, after: RoutingStatus) {
        if before == Some(after) {
            return;
        }
        if let Some(before) = before {
            self.0.agents.get_or_create(&vec![("state", before.as_str().to_owned())]).dec();
        }
        self.0.agents.get_or_create(&vec![("state", after.as_str().to_owned())]).inc();
    }

    /// The figures of a queue.
    pub fn queue(&self, name: &str, waiting: u64, oldest: Millis) {
        let labels = vec![("queue", name.to_owned())];
        self.0.queue_waiting.get_or_create(&labels).set(waiting.cast_signed());
        self.0.queue_oldest.get_or_create(&labels).set(seconds(oldest));
    }

    /// A socket was opened or closed.
    pub fn socket_opened(&self) {
        self.0.sockets.inc();
    }

    /// A socket was closed.
    pub fn socket_closed(&self) {
        self.0.sockets.dec();
    }

    /// A socket did not keep up.
    pub fn socket_dropped(&self) {
        self.0.sockets_dropped.inc();
    }

    /// A webhook was dealt with.
    pub fn webhook(&self, provider: &str, result: WebhookResult, took: Duration) {
        let provider = ("provider", provider.to_owned());
        self.0.webhooks.get_or_create(&vec![provider.clone(), ("result", result.word().to_owned())]).inc();
        self.0.webhook_seconds.get_or_create(&vec![provider]).observe(took.as_secs_f64());
    }

    /// A webhook belongs to no known call.
    pub fn webhook_orphaned(&self, provider: &str) {
        let labels =
            vec![("provider", provider.to_owned()), ("result", WebhookResult::Orphaned.word().to_owned())];
        self.0.webhooks.get_or_create(&labels).inc();
    }

    /// A batch of facts was committed, or could not be.
    pub fn journal_commit(&self, took: Duration, facts: usize) {
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52 facts")]
        self.0.batch_facts.observe(facts as f64);
        self.0.commit_seconds.observe(took.as_secs_f64());
    }

    /// Facts were brought to a destination; `lag` is the age of the oldest of them.
    pub fn relayed(&self, destination: &str, facts: usize, lag: Millis) {
        let labels = vec![("destination", destination.to_owned())];
        self.0.relayed.get_or_create(&labels).inc_by(facts as u64);
        self.0.relay_lag.get_or_create(&labels).observe(seconds(lag));
    }

    /// Facts could not be brought to a destination; they will be tried again.
    pub fn relay_failed(&self, destination: &str) {
        self.0.relay_failures.get_or_create(&vec![("destination", destination.to_owned())]).inc();
    }

    /// Appends that wait for their commit.
    pub fn journal_pending(&self, appends: usize) {
        self.0.journal_pending.set(i64::try_from(appends).unwrap_or(i64::MAX));
    }

    /// An actor was started.
    pub fn actor_started(&self, actor: &str) {
        self.0.actors.get_or_create(&vec![("actor", actor.to_owned())]).inc();
    }

    /// An actor has stopped.
    pub fn actor_stopped(&self, actor: &str) {
        self.0.actors.get_or_create(&vec![("actor", actor.to_owned())]).dec();
    }

    /// An actor failed and is started again.
    pub fn actor_restarted(&self, actor: &str) {
        self.0.restarts.get_or_create(&vec![("actor", actor.to_owned())]).inc();
    }

    /// An actor failed too often.
    pub fn actor_quarantined(&self, actor: &str) {
        self.0.quarantined.get_or_create(&vec![("actor", actor.to_owned())]).inc();
    }

    /// An actor is tried again after its time aside.
    pub fn actor_released(&self, actor: &str) {
        self.0.quarantined.get_or_create(&vec![("actor", actor.to_owned())]).dec();
    }

    /// An HTTP request was answered.
    pub fn http(&self, observation: &HttpObservation) {
        let labels = vec![
            ("method", observation.method.clone()),
            ("route", observation.route.clone()),
            ("status", observation.status.to_string()),
        ];
        self.0.http_seconds.get_or_create(&labels).observe(observation.took.as_secs_f64());
    }

    /// A request to a provider was answered.
    pub fn provider_request(&self, provider: &str, operation: &'static str, result: ProviderResult) {
        let labels = vec![
            ("provider", provider.to_owned()),
            ("operation", operation.to_owned()),
            ("result", result.word().to_owned()),
        ];
        self.0.provider_requests.get_or_create(&labels).inc();
    }
}

impl Families {
    fn register_calls(&mut self) {
        let calls = self.registry.sub_registry_with_label(("service".into(), "communication".into()));
        calls.register("calls", "Calls that ended, by outcome", self.calls.clone());
        calls.register("calls_active", "Calls that are not over", self.calls_active.clone());
        calls.register_with_unit(
            "call_wait",
            "Wait until answer or end",
            Unit::Seconds,
            self.call_wait.clone(),
        );
        calls.register_with_unit(
            "call_talk",
            "Conversation without hold",
            Unit::Seconds,
            self.call_talk.clone(),
        );
        calls.register("offers", "Offers, by what became of them", self.offers.clone());
        calls.register_with_unit(
            "offer_latency",
            "From a call's queueing to its offer on a socket",
            Unit::Seconds,
            self.offer_latency.clone(),
        );
        calls.register("queue_waiting", "Calls that wait", self.queue_waiting.clone());
        calls.register_with_unit(
            "queue_oldest_wait",
            "Wait of the oldest",
            Unit::Seconds,
            self.queue_oldest.clone(),
        );
        calls.register("agents", "Agent sessions, by routing status", self.agents.clone());
    }

    fn register_edge(&mut self) {
        let edge = self.registry.sub_registry_with_label(("service".into(), "api_gateway".into()));
        edge.register("ws_connections", "Open WebSockets", self.sockets.clone());
        edge.register("ws_dropped", "WebSockets that did not keep up", self.sockets_dropped.clone());
        edge.register("webhooks_received", "Webhooks, by how they were dealt with", self.webhooks.clone());
        edge.register_with_unit(
            "webhook_handle",
            "From the request to the answer",
            Unit::Seconds,
            self.webhook_seconds.clone(),
        );
        edge.register_with_unit(
            "http_request",
            "Requests by route",
            Unit::Seconds,
            self.http_seconds.clone(),
        );
        edge.register("provider_requests", "Requests to providers", self.provider_requests.clone());
        let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        edge.register("build", "This program", info);
    }

    fn register_engine(&mut self) {
        let engine = self.registry.sub_registry_with_label(("service".into(), "communication".into()));
        engine.register("journal_batch_facts", "Facts in one commit", self.batch_facts.clone());
        engine.register_with_unit(
            "journal_commit",
            "Time of one commit",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        engine.register("journal_pending", "Appends that wait for a commit", self.journal_pending.clone());
        engine.register("relay_facts", "Facts brought to a destination", self.relayed.clone());
        engine.register("relay_failures", "Deliveries to be tried again", self.relay_failures.clone());
        let lag = self.relay_lag.clone();
        engine.register_with_unit("relay_lag", "Age of the oldest fact of a delivery", Unit::Seconds, lag);
        engine.register("actor_restarts", "Actors started again after a failure", self.restarts.clone());
        engine.register("actor_quarantined", "Actors put aside", self.quarantined.clone());
        engine.register("actors", "Actors in memory", self.actors.clone());
    }

    fn register_cluster(&mut self) {
        let cluster = self.registry.sub_registry_with_label(("service".into(), "communication".into()));
        cluster.register("nodes_alive", "Nodes that live, as this one sees it", self.nodes.clone());
        cluster.register("shards_owned", "Shards that run on this node", self.shards.clone());
        cluster.register("letters_waiting", "News for shards of other nodes", self.letters.clone());
        let declared = self.nodes_declared_dead.clone();
        cluster.register("nodes_declared_dead", "Nodes that this one declared dead", declared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_names_its_service_and_counts() {
        let metrics = Metrics::new();
        metrics.agent_fact("offer.created");
        metrics.journal_commit(Duration::from_millis(3), 7);
        metrics.webhook("twilio", WebhookResult::BadSignature, Duration::from_millis(1));
        let text = metrics.encode();
        assert!(text.contains(r#"eml_offers_total{service="communication",outcome="created"} 1"#), "{text}");
        assert!(text.contains(
            r#"eml_webhooks_received_total{service="api_gateway",provider="twilio",result="bad_signature"} 1"#
        ));
        assert!(text.contains("eml_journal_batch_facts_sum{service=\"communication\"} 7"));
    }
}
