//! `eml tail`: events as they become durable, from the bus, or from the journal of a node whose bus
//! is inside it.

use std::io::Write as _;
use std::time::Duration;

use super::{Failure, output, serve};
use crate::config::Settings;
use crate::domain::event::{self, Event};
use crate::store::{self, bus};

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
    let mut position = if arguments.from_start { 0 } else { stores.journal.last_position().await? };
    let mut is_away = false;
    loop {
        let page = match stores.journal.read_after(position, &[], PAGE).await {
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
        let is_full = page.len() == PAGE;
        for positioned in page {
            position = positioned.position;
            let is_wanted = event::is_like(&positioned.record.kind, &arguments.pattern);
            if is_wanted && print(arguments, &Event::of(&positioned.record, &settings.node.name)).is_err() {
                return Ok(()); // The reader of our output has gone.
            }
        }
        if !is_full {
            tokio::time::sleep(LOOK).await;
        }
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
