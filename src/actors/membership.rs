//! The membership of this node: the shell around the pure machine of `cluster::membership`.
//!
//! Supervised by the root. It reads the node table, carries out what the machine asks for, and keeps
//! exactly those shards going that the machine says run here. When it fails the run of the node ends
//! with it: a node that does not know what it owns must not go on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::engine::Engine;
use super::looking::Looking;
use super::root::RootMessage;
use super::shard::ShardMessage;
use crate::cluster::Cluster;
use crate::cluster::beat::BeatReport;
use crate::cluster::link::Peer;
use crate::cluster::membership::{Action, Membership as Machine, MembershipSettings, Outcome};
use crate::domain::node::{ClusterView, NodeRef};
use crate::domain::placement::SHARDS;
use crate::seeded::{self, Bug};
use crate::store::StoreError;
use crate::store::members::Change;

/// How long the shell waits for an answer of the store before it counts as unknown.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before changed records are read again when the store did not answer.
const RECORDS_RETRY: Duration = Duration::from_secs(1);

/// What the membership is sent.
pub(super) enum MembershipMessage {
    /// A renewal of the own lease ended.
    Beat(BeatReport),
    /// Nodes, owners or records changed.
    Change(Change),
    /// A node's process is gone.
    Refused(NodeRef),
    /// The node table was read.
    View {
        /// When it was asked for.
        asked_at: Instant,
        /// What it says.
        view: Result<ClusterView, StoreError>,
    },
    /// An action ended.
    Done(Outcome),
    /// Hand everything over and leave.
    Drain,
    /// It may be time to look at the node table.
    Look,
}

/// The actor.
pub(super) struct Membership;

/// What it is started with.
pub(super) struct Args {
    pub(super) engine: Engine,
    pub(super) settings: MembershipSettings,
    /// When the registration was sent, from which time counts.
    pub(super) origin: Instant,
    pub(super) beats: mpsc::Receiver<BeatReport>,
}

/// What it holds.
pub(super) struct State {
    engine: Engine,
    machine: Machine,
    origin: Instant,
    /// Shards that run here.
    running: BTreeSet<u16>,
    /// Shards that ran here and are being ended.
    ending: BTreeSet<u16>,
    /// The last view.
    view: Option<ClusterView>,
    looking: Looking,
}

/// Lets a node take part: from now on it claims shards, and takes over those of nodes that die.
///
/// # Errors
/// When the actor does not start.
pub async fn join(
    engine: &Engine,
    settings: MembershipSettings,
    origin: Instant,
    beats: mpsc::Receiver<BeatReport>,
) -> Result<(), super::root::StartError> {
    let args = Args { engine: engine.clone(), settings, origin, beats };
    let (reply, joined) = oneshot::channel();
    let failed = || super::root::StartError::Actor("membership".to_owned());
    engine.root().ok_or_else(failed)?.cast(RootMessage::Join(Box::new(args), reply)).map_err(|_| failed())?;
    joined.await.map_err(|_| failed())?;
    engine.tracker().spawn(super::standing::tell(engine.clone()));
    Ok(())
}

impl Actor for Membership {
    type Msg = MembershipMessage;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        me: ActorRef<MembershipMessage>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let Args { engine, settings, origin, beats } = args;
        let cluster = engine.cluster().ok_or("there is no cluster")?;
        let machine = Machine::new(cluster.me.clone(), settings);
        engine.tracker().spawn(hear_beats(beats, me.clone()));
        engine.tracker().spawn(hear_changes(cluster.members.changes(), me.clone()));
        if let Some(transport) = cluster.transport() {
            engine.tracker().spawn(hear_refusals(transport.refused(), me.clone()));
        }
        Ok(State {
            engine,
            machine,
            origin,
            running: BTreeSet::new(),
            ending: BTreeSet::new(),
            view: None,
            looking: Looking::default(),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<MembershipMessage>,
        message: MembershipMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.origin.elapsed();
        let actions = match message {
            MembershipMessage::Beat(report) => state.machine.beat(report.since(state.origin), now),
            MembershipMessage::Change(change) => {
                state.changed(change, &me);
                Vec::new()
            }
            MembershipMessage::Refused(node) => {
                tracing::warn!(%node, "the process of a node is gone");
                state.machine.refused(node, now)
            }
            MembershipMessage::View { asked_at, view } => state.viewed(asked_at, view, &me),
            MembershipMessage::Done(outcome) => state.done(outcome, now),
            MembershipMessage::Drain => state.machine.drain(now),
            MembershipMessage::Look => {
                state.looking.rang();
                if state.machine.next_look().is_some_and(|at| at <= now) {
                    state.look(&me);
                }
                state.machine.tick(now)
            }
        };
        if state.machine.is_draining() {
            state.engine.drain();
        }
        for action in actions {
            state.carry_out(action, &me);
        }
        state.keep_going(&me).await;
        state.wind(&me);
        Ok(())
    }
}

async fn hear_beats(mut beats: mpsc::Receiver<BeatReport>, to: ActorRef<MembershipMessage>) {
    while let Some(report) = beats.recv().await {
        if to.cast(MembershipMessage::Beat(report)).is_err() {
            return;
        }
    }
}

async fn hear_changes(mut changes: broadcast::Receiver<Change>, to: ActorRef<MembershipMessage>) {
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(_)) => Change::Unknown,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if to.cast(MembershipMessage::Change(change)).is_err() {
            return;
        }
    }
}

async fn hear_refusals(mut refusals: mpsc::Receiver<NodeRef>, to: ActorRef<MembershipMessage>) {
    while let Some(node) = refusals.recv().await {
        if to.cast(MembershipMessage::Refused(node)).is_err() {
            return;
        }
    }
}

impl State {
    fn changed(&mut self, change: Change, me: &ActorRef<MembershipMessage>) {
        if matches!(change, Change::Records | Change::Unknown) {
            let engine = self.engine.clone();
            self.engine.tracker().spawn(async move {
                while let Err(error) = engine.reload_directory().await {
                    tracing::warn!(%error, "changed records cannot be read yet");
                    tokio::time::sleep(RECORDS_RETRY).await;
                }
            });
        }
        if matches!(change, Change::Nodes | Change::Unknown) {
            self.look(me);
        }
    }

    /// Reads the node table; once at a time.
    fn look(&mut self, me: &ActorRef<MembershipMessage>) {
        if !self.looking.begin() {
            return;
        }
        let (engine, me, asked_at) = (self.engine.clone(), me.clone(), Instant::now());
        self.engine.tracker().spawn(async move {
            let Some(cluster) = engine.cluster() else { return };
            let view = within(cluster.members.view()).await;
            let _ = me.cast(MembershipMessage::View { asked_at, view });
        });
    }

    fn viewed(
        &mut self,
        asked_at: Instant,
        view: Result<ClusterView, StoreError>,
        me: &ActorRef<MembershipMessage>,
    ) -> Vec<Action> {
        let now = self.origin.elapsed();
        if self.looking.ended() {
            self.look(me);
        }
        match view {
            Ok(view) => {
                self.take_in(&view);
                self.view = Some(view.clone());
                let asked_at = asked_at.saturating_duration_since(self.origin);
                self.machine.view(view, asked_at, now)
            }
            Err(error) => {
                tracing::warn!(%error, "the node table cannot be read");
                self.machine.view_failed(now);
                Vec::new()
            }
        }
    }

    /// Lets the rest of the engine know whom there is, and who has gone.
    fn take_in(&self, view: &ClusterView) {
        let Some(cluster) = self.engine.cluster() else { return };
        let gone: Vec<_> = cluster.peers().into_iter().filter(|peer| view.living(peer).is_none()).collect();
        cluster.set_nodes(view.nodes.clone());
        let reachable = view.nodes.iter().filter(|row| row.status.may_write() && row.at != cluster.me);
        let peers: Vec<_> = reachable
            .filter(|row| !row.address.is_empty())
            .map(|row| Peer { at: row.at.clone(), address: row.address.as_str().into() })
            .collect();
        if let Some(transport) = cluster.transport() {
            transport.set_peers(&peers);
        }
        for node in gone {
            tracing::info!(%node, "a node has gone");
            self.engine.forget_sockets_at(&node);
            for shard in &self.running {
                self.engine.send(*shard, ShardMessage::NodeGone(node.clone()));
            }
        }
        self.show_owners(view);
    }

    /// Owners as others see them; what is ours is ours only while it runs.
    fn show_owners(&self, view: &ClusterView) {
        let Some(cluster) = self.engine.cluster() else { return };
        let owners = (0_u16..).zip(&view.owners).filter(|(shard, _)| !self.running.contains(shard));
        let owners = owners.map(|(shard, owner)| {
            let far = owner.as_ref().filter(|owner| **owner != cluster.me && view.living(owner).is_some());
            (shard, far.cloned())
        });
        let changed = cluster.owners.set(owners);
        self.engine.forget_sockets_of(&changed);
    }

    fn done(&mut self, outcome: Outcome, now: Duration) -> Vec<Action> {
        match &outcome {
            Outcome::Declared { node, is_dead: Some(true) } => {
                tracing::warn!(%node, "a node was declared dead");
                self.engine.metrics().node_declared_dead();
            }
            Outcome::Claimed(Some(shards)) if !shards.is_empty() => {
                tracing::info!(count = shards.len(), "claimed shards");
            }
            Outcome::Handed { to, moved } => {
                if let (Some(moved), Some(cluster)) = (moved, self.engine.cluster()) {
                    tracing::info!(node = %to, count = moved.len(), "handed shards over");
                    let changed = cluster.owners.set(moved.iter().map(|shard| (*shard, Some(to.clone()))));
                    self.engine.forget_sockets_of(&changed);
                }
            }
            Outcome::Declared { .. }
            | Outcome::Claimed(_)
            | Outcome::Released { .. }
            | Outcome::Left { .. } => {}
        }
        self.machine.done(outcome, now)
    }

    fn carry_out(&mut self, action: Action, me: &ActorRef<MembershipMessage>) {
        let ended = match &action {
            Action::Hand { shards, .. } | Action::Release(shards) => self.end_shards(shards),
            Action::DeclareDead { .. } | Action::Claim(_) | Action::Leave | Action::End(_) => None,
        };
        let (engine, me) = (self.engine.clone(), me.clone());
        self.engine.tracker().spawn(async move {
            if let Some(ended) = ended {
                let _ = ended.await;
            }
            if let Some(cluster) = engine.cluster()
                && let Some(outcome) = perform(cluster, action).await
            {
                let _ = me.cast(MembershipMessage::Done(outcome));
            }
        });
    }

    /// Ends shards of this node: nobody finds them here any more, and their actors finish. Answers when
    /// they have.
    fn end_shards(&mut self, shards: &[u16]) -> Option<oneshot::Receiver<()>> {
        for shard in shards {
            self.running.remove(shard);
        }
        if let Some(cluster) = self.engine.cluster() {
            cluster.owners.set(shards.iter().map(|shard| (*shard, None)));
        }
        self.engine.shards_leave(shards);
        let (reply, ended) = oneshot::channel();
        self.engine.root()?.cast(RootMessage::Disown(shards.to_vec(), reply)).ok()?;
        Some(ended)
    }

    /// Starts and ends shards until exactly those run here that shall.
    async fn keep_going(&mut self, me: &ActorRef<MembershipMessage>) {
        let mut wanted = self.machine.runs();
        if seeded::has(Bug::DoubleClaim) {
            wanted.extend(0..SHARDS);
        }
        let superfluous: Vec<u16> = self.running.difference(&wanted).copied().collect();
        if !superfluous.is_empty() {
            self.ending.extend(&superfluous);
            let ended = self.end_shards(&superfluous);
            let me = me.clone();
            self.engine.tracker().spawn(async move {
                if let Some(ended) = ended {
                    let _ = ended.await;
                }
                let _ = me.cast(MembershipMessage::Look);
            });
        }
        let missing: Vec<u16> = wanted.difference(&self.running).copied().collect();
        if missing.is_empty() {
            return;
        }
        let (reply, started) = oneshot::channel();
        let Some(root) = self.engine.root() else { return };
        if root.cast(RootMessage::Own(missing.clone(), reply)).is_err() || started.await.is_err() {
            return;
        }
        self.running.extend(&missing);
        if let Some(cluster) = self.engine.cluster() {
            let owners = missing.iter().map(|shard| (*shard, Some(cluster.me.clone())));
            let changed = cluster.owners.set(owners);
            self.engine.forget_sockets_of(&changed);
        }
        self.engine.shards_come(missing);
    }

    /// Makes sure that the table is looked at when the machine wants it.
    fn wind(&mut self, me: &ActorRef<MembershipMessage>) {
        if let Some(at) = self.looking.wind(self.machine.next_look()) {
            me.send_after(at.saturating_sub(self.origin.elapsed()), || MembershipMessage::Look);
        }
    }
}

/// Carries out what the store has to do with; the outcome is unknown when it does not answer.
async fn perform(cluster: &Cluster, action: Action) -> Option<Outcome> {
    let (members, me) = (&cluster.members, &cluster.me);
    Some(match action {
        Action::DeclareDead { node, only_expired } => {
            let is_dead = known(within(members.declare_dead(&node, only_expired)).await, "declare_dead");
            Outcome::Declared { node, is_dead }
        }
        Action::Claim(shards) => Outcome::Claimed(known(within(members.claim(me, &shards)).await, "claim")),
        Action::Hand { to, shards } => {
            let moved = known(within(members.transfer(me, &to, &shards)).await, "transfer");
            Outcome::Handed { to, moved }
        }
        Action::Release(shards) => {
            let released = known(within(members.release(me, &shards)).await, "release");
            Outcome::Released { is_done: released.is_some() }
        }
        Action::Leave => {
            let left = known(within(members.leave(me)).await, "leave");
            Outcome::Left { is_done: left.is_some() }
        }
        Action::End(reason) => {
            cluster.lease.end(reason);
            return None;
        }
    })
}

fn known<T>(answer: Result<T, StoreError>, what: &'static str) -> Option<T> {
    answer
        .map_err(|error| tracing::warn!(%error, what, "the store did not do what the membership asked"))
        .ok()
}

async fn within<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::InDoubt("no answer in time".to_owned());
    tokio::time::timeout(STORE_TIMEOUT, answer).await.unwrap_or_else(|_| Err(late()))
}
