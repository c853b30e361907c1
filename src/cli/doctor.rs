//! `eml doctor`: whether each configured part can be reached, written and read back.

use std::future::Future;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Failure, output};
use crate::config::{Settings, without_secret};
use crate::domain::event::Event;
use crate::domain::time::{Clock, Millis};
use crate::store::archive::ReportResult;
use crate::store::records::Claim;
use crate::store::{self, Inspection, StoreError};

/// How long one part may take before it counts as not answering.
const PATIENCE: Duration = Duration::from_secs(15);
/// A clock that is further off than this makes times of calls misleading.
const CLOCK_TOLERANCE: Millis = Millis(1_000);
/// How long what the doctor leaves in a cache stays.
const TRACE_TTL: Millis = Millis::from_secs(60);
/// Name of everything that the doctor writes.
const TRACE: &str = "doctor";

/// How to print.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON object per part.
    #[arg(long)]
    json: bool,
}

/// What was found about one part.
#[derive(Debug, Serialize)]
struct Finding {
    part: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Failed,
}

pub(super) async fn run(arguments: Arguments, settings: Settings) -> Result<(), Failure> {
    let mut failed = 0;
    let findings = [
        data_folder(&settings),
        examine("store", "store.url", &settings.store_url(), Box::pin(examine_store(&settings))).await,
        examine("archive", "archive.url", &settings.archive.url, Box::pin(examine_archive(&settings))).await,
        examine("cache", "cache.url", &settings.cache.url, Box::pin(examine_cache(&settings))).await,
        examine("bus", "bus.url", &settings.bus.url, Box::pin(examine_bus(&settings))).await,
    ];
    for finding in findings {
        failed += usize::from(finding.status == Status::Failed);
        show(&finding, arguments.json)?;
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::dependency(format!("{failed} of the parts above cannot be used")))
}

fn show(finding: &Finding, is_json: bool) -> Result<(), Failure> {
    if is_json {
        output::line(serde_json::to_string(finding).map_err(|error| Failure::failed(error.to_string()))?);
        return Ok(());
    }
    let word = match finding.status {
        Status::Ok => "ok",
        Status::Warning => "warn",
        Status::Failed => "FAIL",
    };
    output::line(format!("{:<10} {word:<5} {}", finding.part, finding.detail));
    if let Some(fix) = &finding.fix {
        output::line(format!("{:<10} fix   {fix}", ""));
    }
    Ok(())
}

fn data_folder(settings: &Settings) -> Finding {
    let folder = &settings.node.data_dir;
    let trace = folder.join(".doctor");
    let tried = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&trace, TRACE))
        .and_then(|()| std::fs::remove_file(&trace));
    match tried {
        Ok(()) => Finding {
            part: "data",
            status: Status::Ok,
            detail: format!("{} can be written", folder.display()),
            fix: None,
        },
        Err(error) => Finding {
            part: "data",
            status: Status::Failed,
            detail: format!("{}: {error}", folder.display()),
            fix: Some("let the user of this program write there, or set node.data_dir".to_owned()),
        },
    }
}

/// What an examination found: the product, and what else is worth knowing.
struct Examined {
    inspection: Inspection,
    notes: Vec<String>,
    /// What is not as it should be, with what to do about it.
    warning: Option<(String, String)>,
}

async fn examine(
    part: &'static str,
    key: &str,
    url: &str,
    examination: impl Future<Output = Result<Examined, StoreError>>,
) -> Finding {
    let started = Instant::now();
    let asked_at = Clock.now();
    let examined = tokio::time::timeout(PATIENCE, examination).await;
    let took = started.elapsed().as_millis();
    let error = match examined {
        Ok(Ok(examined)) => {
            return describe(part, examined, took, off_by(asked_at, started));
        }
        Ok(Err(error)) => error,
        Err(_) => StoreError::Unavailable(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let variable = format!("EML__{}", key.replace('.', "__").to_uppercase());
    let fix = match &error {
        StoreError::Unavailable(_) | StoreError::InDoubt(_) => {
            format!("start it or let it be reached from here, or correct {key} ({variable})")
        }
        StoreError::Refused(_) | StoreError::Fenced(_) => format!("correct {key} ({variable})"),
        StoreError::Corrupt { .. } | StoreError::Exists(_) | StoreError::Changed => {
            "look into it with the tools of the product; nothing was changed".to_owned()
        }
    };
    let detail = format!("{}: {error}", without_secret(url));
    Finding { part, status: Status::Failed, detail, fix: Some(fix) }
}

/// The middle of the examination by our clock, with which the part's clock is compared.
fn off_by(asked_at: crate::domain::time::Timestamp, started: Instant) -> i64 {
    let half = i64::try_from(started.elapsed().as_millis() / 2).unwrap_or_default();
    asked_at.millis() + half
}

fn describe(part: &'static str, examined: Examined, took: u128, our_clock: i64) -> Finding {
    let Examined { inspection, notes, warning } = examined;
    let mut detail = vec![inspection.product, format!("written and read back in {took} ms")];
    let off = inspection.clock.map(|clock| clock.millis() - our_clock);
    detail.extend(off.map(|off| format!("clock {off:+} ms")));
    detail.extend(notes);
    let is_off = off.is_some_and(|off| off.unsigned_abs() > CLOCK_TOLERANCE.0);
    let clock_fix = "let both machines take their time from the same source (NTP)";
    let (status, fix) = match (warning, is_off) {
        (Some((what, fix)), _) => {
            detail.push(what);
            (Status::Warning, Some(fix))
        }
        (None, true) => (Status::Warning, Some(clock_fix.to_owned())),
        (None, false) => (Status::Ok, None),
    };
    Finding { part, status, detail: detail.join(", "), fix }
}

async fn examine_store(settings: &Settings) -> Result<Examined, StoreError> {
    let url = settings.store_url();
    // Before it is opened, which brings it up to date.
    let known = store::migrations::status(&url).await?;
    let pending = known.iter().filter(|migration| migration.is_pending()).count();
    let stores = store::open(&url).await?;
    let inspection = stores.journal.inspect().await?;
    stores.journal.ping().await?;
    let now = Clock.now();
    let key = format!("{TRACE}/{now}");
    let before = now - Millis::from_secs(24 * 3_600);
    let claim =
        Claim { key: &key, request_hash: TRACE, now, expired_before: before, abandoned_before: before };
    stores.records.claim_key(claim).await?;
    let found = stores.records.claim_key(claim).await?;
    stores.records.settle_key(&key, None).await?;
    came_back(found.is_some_and(|answer| answer.request_hash == TRACE))?;
    let note = match pending {
        0 => "migrations up to date".to_owned(),
        pending => format!("{pending} migrations applied just now"),
    };
    Ok(Examined { inspection, notes: vec![note], warning: None })
}

async fn examine_archive(settings: &Settings) -> Result<Examined, StoreError> {
    let archive = match settings.archive.url.as_str() {
        store::archive::SAME_STORE => store::open(&settings.store_url()).await?.archive,
        url => store::archive::open(url).await?,
    };
    archive.ping().await?;
    let report = ReportResult {
        id: TRACE.to_owned(),
        name: TRACE.to_owned(),
        made_at: Clock.now(),
        body: serde_json::json!({ "made_at": Clock.now().to_string() }),
    };
    archive.put_report(&report).await?;
    came_back(archive.report(TRACE).await?.as_ref() == Some(&report))?;
    Ok(Examined { inspection: archive.inspect().await?, notes: Vec::new(), warning: None })
}

async fn examine_cache(settings: &Settings) -> Result<Examined, StoreError> {
    let cache = store::cache::open_plain(&settings.cache.url)?;
    let value = Clock.now().to_string();
    cache.put(TRACE, &value, TRACE_TTL).await?;
    came_back(cache.take(TRACE).await? == Some(value))?;
    Ok(Examined { inspection: cache.inspect().await?, notes: Vec::new(), warning: None })
}

async fn examine_bus(settings: &Settings) -> Result<Examined, StoreError> {
    let bus = store::bus::open(&settings.bus.url).await?;
    let mut subscription = bus.subscribe("doctor.*").await?;
    let data =
        RawValue::from_string("{}".to_owned()).map_err(|error| StoreError::Refused(error.to_string()))?;
    let id = format!("{TRACE}/{}", Clock.now());
    let event = Event {
        specversion: "1.0".to_owned(),
        id: id.clone(),
        source: format!("/nodes/{}", settings.node.name),
        kind: "doctor.probe".to_owned(),
        subject: settings.node.name.clone(),
        time: Clock.now().to_string(),
        datacontenttype: "application/json".to_owned(),
        sequence: 0,
        causationid: None,
        data,
    };
    bus.publish(&[event]).await?;
    while let Some(event) = subscription.next().await {
        if event.id == id {
            return Ok(Examined { inspection: bus.inspect().await?, notes: Vec::new(), warning: None });
        }
    }
    came_back(false)?;
    Err(StoreError::Unavailable("the subscription ended".to_owned()))
}

fn came_back(did: bool) -> Result<(), StoreError> {
    if did {
        return Ok(());
    }
    Err(StoreError::Refused("what was written did not come back".to_owned()))
}
