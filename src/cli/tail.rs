//! `eml tail`: events as they become durable, read from the journal.

use std::io::Write as _;
use std::time::Duration;

use super::{Failure, serve};
use crate::config::Settings;
use crate::domain::event::{self, Event};
use crate::domain::record::FactRecord;
use crate::store;

/// How often the journal is looked at.
const LOOK: Duration = Duration::from_millis(200);
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
    let stores = store::open(&settings.store_url()).await?;
    let mut position = if arguments.from_start { 0 } else { stores.journal.last_position().await? };
    let stop = serve::stopped();
    tokio::pin!(stop);
    loop {
        let page = stores.journal.read_after(position, &[], PAGE).await?;
        let is_full = page.len() == PAGE;
        for positioned in page {
            position = positioned.position;
            if event::is_like(&positioned.record.kind, &arguments.pattern)
                && print(&arguments, &settings, &positioned.record).is_err()
            {
                return Ok(()); // The reader of our output has gone.
            }
        }
        if !is_full {
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

fn print(arguments: &Arguments, settings: &Settings, record: &FactRecord) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &Event::of(record, &settings.node.name))?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}  {:<24} {} #{}", record.at, record.kind, record.entity, record.seq)?;
    }
    out.flush()
}
