//! `eml move --to URL`: copies an embedded installation to another store, with counts and checksums.

mod identity;

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, output};
use crate::config::{Settings, without_secret};
use crate::domain::agent::AgentSession;
use crate::domain::call::Call;
use crate::domain::machine::Machine;
use crate::domain::record::{EntityKind, EntityRef, FactRecord};
use crate::store::audit::AuditLog as _;
use crate::store::journal::{Append, AppendOutcome, Journal};
use crate::store::records::RecordKind;
use crate::store::sqlite::SqliteStore;
use crate::store::{self, StoreError, Stores};

/// Facts of one commit.
const BATCH: usize = 4_000;
/// Facts of one read.
const PAGE: usize = 1_000;
/// Entities of one read.
const ENTITIES: usize = 1_000;

/// Where to.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The store to copy to, as in `postgres://eml:secret@db/eml`; it must be empty.
    #[arg(long, value_name = "URL")]
    to: String,
}

pub(super) async fn run(arguments: Arguments, settings: Settings) -> Result<(), Failure> {
    let url = settings.store_url();
    if !url.starts_with(store::sqlite::SCHEME) {
        return Err(Failure::failed("only an embedded store can be moved: store.url is not sqlite://…"));
    }
    if !store::sqlite::exists(&url) {
        return Err(Failure::failed(format!("there is no store at {url}")));
    }
    let source = SqliteStore::open(&url).await?;
    let target = store::open(&arguments.to).await?;
    refuse_unless_empty(&target, &arguments.to).await?;
    let before = source.last_position().await?;
    let audited = source.audit_end().await?;
    let mut mover = Mover::new(&source, &target, before);
    let records = mover.records().await?;
    let grants = identity::grants(&source, &target).await?;
    let entries = identity::audit(&source, &target).await?;
    let copied = mover.facts().await?;
    mover.bar.finish_and_clear();
    if source.last_position().await? != before || source.audit_end().await? != audited {
        return Err(Failure::failed(
            "a node wrote to the store while it was copied: stop it, then move again",
        ));
    }
    let found = mover.checksum(&*target.journal).await?;
    if found != copied {
        return Err(Failure::failed(format!("the copy differs: {copied} here, {found} there")));
    }
    output::line(format!("moved {records} records, {grants} grants, {entries} audit entries and {copied}"));
    output::line("both sides have the same checksum; set store.url to the new store, or");
    output::line("EML__STORE__URL, and start the node. The embedded file is left as it is.");
    Ok(())
}

async fn refuse_unless_empty(target: &Stores, url: &str) -> Result<(), Failure> {
    let mut records = 0;
    for kind in RecordKind::ALL {
        records += target.records.all(kind).await?.len();
    }
    let is_used = target.journal.last_position().await? > 0 || target.audit.audit_end().await?.number > 0;
    if records > 0 || is_used {
        return Err(Failure::failed(format!("the store at {} is not empty", without_secret(url))));
    }
    Ok(())
}

/// What was copied, or is there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    facts: u64,
    calls: u64,
    sessions: u64,
    digest: String,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { facts, calls, sessions, digest } = self;
        let short = digest.get(..12).unwrap_or(digest);
        write!(f, "{facts} facts of {calls} calls and {sessions} agent sessions, checksum {short}")
    }
}

/// Counts facts and digests them, entity by entity in a fixed order.
struct Reckoning {
    tally: Tally,
    digest: Context,
}

impl Reckoning {
    fn new() -> Self {
        Self { tally: Tally::default(), digest: Context::new(&SHA256) }
    }

    fn begin(&mut self, entity: EntityRef) {
        match entity.kind {
            EntityKind::Call => self.tally.calls += 1,
            EntityKind::Agent => self.tally.sessions += 1,
        }
        self.digest.update(entity.id.as_bytes());
    }

    fn take(&mut self, fact: &FactRecord) {
        self.tally.facts += 1;
        self.digest.update(fact.id.uuid().as_bytes());
        self.digest.update(&fact.seq.to_be_bytes());
        self.digest.update(&fact.at.millis().to_be_bytes());
        self.digest.update(fact.kind.as_bytes());
        self.digest.update(fact.body.get().as_bytes());
        if let Some(cause) = fact.cause {
            self.digest.update(cause.uuid().as_bytes());
        }
    }

    fn finish(mut self) -> Tally {
        self.tally.digest = hex::encode(self.digest.finish());
        self.tally
    }
}

struct Mover<'a> {
    source: &'a SqliteStore,
    target: &'a Stores,
    batch: Vec<Append>,
    batched: usize,
    bar: ProgressBar,
}

impl<'a> Mover<'a> {
    fn new(source: &'a SqliteStore, target: &'a Stores, facts: u64) -> Self {
        let bar = ProgressBar::new(facts);
        // A template that cannot be read would be a fault of ours; the plain bar will do then.
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} facts, {eta} left")
        {
            bar.set_style(style);
        }
        Self { source, target, batch: Vec::new(), batched: 0, bar }
    }

    /// Copies everything that is set up; answers how many records.
    async fn records(&self) -> Result<u64, Failure> {
        use store::records::Records as _;
        let mut copied = 0;
        for kind in RecordKind::ALL {
            for record in self.source.all(kind).await? {
                self.target.records.insert(kind, record).await?;
                copied += 1;
            }
        }
        Ok(copied)
    }

    /// Copies every fact, with heads, summaries and names as its machine makes them.
    async fn facts(&mut self) -> Result<Tally, Failure> {
        let mut reckoning = Reckoning::new();
        let mut after = None;
        loop {
            let entities = self.source.entities(after, ENTITIES).await?;
            let Some(last) = entities.last().copied() else { break };
            for entity in entities {
                match entity.kind {
                    EntityKind::Call => self.entity::<Call>(entity, &mut reckoning).await?,
                    EntityKind::Agent => self.entity::<AgentSession>(entity, &mut reckoning).await?,
                }
            }
            after = Some(last);
        }
        self.commit().await?;
        Ok(reckoning.finish())
    }

    async fn entity<M: Machine>(
        &mut self,
        entity: EntityRef,
        reckoning: &mut Reckoning,
    ) -> Result<(), Failure> {
        let (mut machine, mut seq) = (M::vacant(entity), 0);
        reckoning.begin(entity);
        loop {
            let facts = self.source.facts(entity, seq, PAGE).await?;
            let Some(last) = facts.last().map(|fact| fact.seq) else { return Ok(()) };
            for fact in &facts {
                let known = serde_json::from_str(fact.body.get()).map_err(|_| StoreError::Corrupt {
                    table: "facts",
                    column: "body",
                    id: fact.id.to_string(),
                })?;
                machine.apply(&known, fact.at);
                reckoning.take(fact);
            }
            self.batched += facts.len();
            self.bar.inc(facts.len() as u64);
            self.batch.push(Append {
                entity,
                after_seq: seq,
                facts,
                summary: machine.summary(),
                refs: machine.provider_refs(),
            });
            seq = last;
            if self.batched >= BATCH {
                self.commit().await?;
            }
        }
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        self.batched = 0;
        let outcomes = self.target.journal.append(std::mem::take(&mut self.batch)).await?;
        match outcomes.iter().find(|outcome| **outcome != AppendOutcome::Stored) {
            None => Ok(()),
            Some(_) => Err(Failure::failed("somebody else writes to the new store")),
        }
    }

    /// Reads everything back from the copy.
    async fn checksum(&self, copy: &dyn Journal) -> Result<Tally, Failure> {
        let mut reckoning = Reckoning::new();
        let mut after = None;
        loop {
            let entities = self.source.entities(after, ENTITIES).await?;
            let Some(last) = entities.last().copied() else { return Ok(reckoning.finish()) };
            for entity in entities {
                reckoning.begin(entity);
                let mut seq = 0;
                loop {
                    let facts = copy.facts(entity, seq, PAGE).await?;
                    for fact in &facts {
                        reckoning.take(fact);
                    }
                    let Some(last) = facts.last() else { break };
                    seq = last.seq;
                }
            }
            after = Some(last);
        }
    }
}
