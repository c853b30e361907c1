//! `eml tail`: events as they become durable, read from the journal.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Failure, serve};
use crate::config::Settings;
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
        let page = stores.journal.read_after(position, PAGE).await?;
        let is_full = page.len() == PAGE;
        for positioned in page {
            position = positioned.position;
            if matches(&arguments.pattern, &positioned.record.kind)
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
        writeln!(out, "{}", cloud_event(&settings.node.name, record))?;
    } else {
        writeln!(out, "{}  {:<24} {} #{}", record.at, record.kind, record.entity, record.seq)?;
    }
    out.flush()
}

/// A fact as a `CloudEvents` 1.0 object in structured JSON.
pub(super) fn cloud_event(node: &str, record: &FactRecord) -> Value {
    let body: Value = serde_json::from_str(record.body.get()).unwrap_or_default();
    // A fact without fields is stored as its bare name.
    let data = match body {
        Value::Object(named) => named.into_iter().next().map(|(_, data)| data).unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => json!({}),
    };
    json!({
        "specversion": "1.0",
        "id": record.id,
        "source": format!("/nodes/{node}"),
        "type": record.kind,
        "subject": record.entity.to_string(),
        "time": record.at,
        "datacontenttype": "application/json",
        "sequence": record.seq,
        "data": data,
    })
}

/// Whether a type is like a pattern, in which `*` stands for anything.
fn matches(pattern: &str, kind: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == kind,
        Some((start, rest)) => kind.strip_prefix(start).is_some_and(|tail| {
            rest.is_empty()
                || (0..=tail.len()).filter(|i| tail.is_char_boundary(*i)).any(|i| matches(rest, &tail[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, kind, want) in [
            ("*", "call.queued", true),
            ("call.*", "call.queued", true),
            ("call.*", "offer.created", false),
            ("*.created", "offer.created", true),
            ("call.queued", "call.queued", true),
            ("call", "call.queued", false),
            ("c*.q*d", "call.queued", true),
        ] {
            assert_eq!(matches(pattern, kind), want, "{pattern} {kind}");
        }
    }
}
