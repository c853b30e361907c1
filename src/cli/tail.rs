//! `eml tail`: events as they become durable, from the bus, or from the journal and the audit trail of a
//! node whose bus is inside it.

use std::io::Write as _;
use std::time::Duration;

use super::{Failure, output, serve};
use crate::config::Settings;
use crate::domain::event::{self, Event};
use crate::domain::identity::{AuditEntry, Sealed};
use crate::store::{self, StoreError, Stores, bus};

/// How often the journal is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Pause before a store that is away is looked at again.
const AGAIN: Duration = Duration::from_secs(1);
/// Facts of one read.
const PAGE: usize = 1_000;

/// What to follow.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One `CloudEvents` JSON object per line.
    #[arg(long)]
    json: bool,
    /// Only types like this, as in 'call.*'.
    #[arg(long = "type", value_name = "PATTERN", default_value = "*")]
    pattern: String,
    /// From the first event on instead of from now on.
    #[arg(long)]
    from_start: bool,
}

pub(super) async fn run(arguments: Arguments, settings: Settings) -> Result<(), Failure> {
    let stop = serve::stopped();
    let follow = async {
        if settings.bus.url == bus::IN_PROCESS || arguments.from_start {
            follow_journal(&arguments, &settings).await
        } else {
            follow_bus(&arguments, &settings).await
        }
    };
    tokio::select! {
        () = stop => Ok(()),
        followed = follow => followed,
    }
}

/// Events from the bus, as others see them.
async fn follow_bus(arguments: &Arguments, settings: &Settings) -> Result<(), Failure> {
    let bus = bus::open(&settings.bus.url).await?;
    let mut events = bus.subscribe(&arguments.pattern).await?;
    while let Some(event) = events.next().await {
        if print(arguments, &event).is_err() {
            return Ok(()); // The reader of our output has gone.
        }
    }
    Ok(())
}

/// Events from the journal of a node whose bus is its own.
async fn follow_journal(arguments: &Arguments, settings: &Settings) -> Result<(), Failure> {
    let url = settings.store_url();
    if url.starts_with(store::sqlite::SCHEME) && !store::sqlite::exists(&url) {
        return Err(Failure::failed(format!("there is no store at {url}; start a node first")));
    }
    let stores = store::open(&url).await?;
    let mut place = Place { position: 0, number: 0 };
    if !arguments.from_start {
        let number = stores.audit.audit_end().await?.number;
        place = Place { position: stores.journal.last_position().await?, number };
    }
    let mut is_away = false;
    loop {
        let (events, is_full) = match place.read(&stores, &settings.node.name).await {
            Ok(page) => page,
            Err(error) if error.is_transient() => {
                if !is_away {
                    output::talk(format!("store is away, waiting for it: {error}"));
                }
                is_away = true;
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        is_away = false;
        for event in events {
            if event::is_like(&event.kind, &arguments.pattern) && print(arguments, &event).is_err() {
                return Ok(()); // The reader of our output has gone.
            }
        }
        if !is_full {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How far the journal and the audit trail were read.
struct Place {
    position: u64,
    number: u64,
}

impl Place {
    /// What comes next in both, in the order in which it happened; and whether there is more of it.
    async fn read(&mut self, stores: &Stores, node: &str) -> Result<(Vec<Event>, bool), StoreError> {
        let facts = stores.journal.read_after(self.position, &[], PAGE).await?;
        let entries = stores.audit.audit_after(self.number, PAGE).await?;
        let is_full = facts.len() == PAGE || entries.len() == PAGE;
        self.position = facts.last().map_or(self.position, |fact| fact.position);
        self.number = entries.last().map_or(self.number, |entry| entry.number);
        let read = |sealed: &Sealed| {
            let entry = serde_json::from_str::<AuditEntry>(&sealed.body).ok()?;
            Some(Event::of_entry(sealed.number, &entry))
        };
        let mut entries = entries.iter().filter_map(read).peekable();
        let mut events = Vec::new();
        for fact in &facts {
            let fact = Event::of(&fact.record, node);
            // Both are in an order of their own, which the times of several nodes may contradict.
            while let Some(entry) = entries.next_if(|entry| entry.time <= fact.time) {
                events.push(entry);
            }
            events.push(fact);
        }
        events.extend(entries);
        Ok((events, is_full))
    }
}

fn print(arguments: &Arguments, event: &Event) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, event)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}  {:<24} {} #{}", event.time, event.kind, event.subject, event.sequence)?;
    }
    out.flush()
}
