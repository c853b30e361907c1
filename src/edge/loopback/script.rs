//! Obeying documents: fetched, read, and carried out verb by verb on one leg.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::leg::{Leg, Source, Status};
use super::lines::{put, voice_fields};
use super::policy::Failure;
use super::stats::count;
use super::switch::Switch;
use super::twiml::{Document, Link, Verb, read};
use super::webhooks::Form;

/// What follows a verb.
pub(super) enum Flow {
    /// The next verb.
    Next,
    /// Another document.
    Goto(Source),
    /// The end of the leg.
    End(Status),
}

/// A document and the URL that relative ones in it start from.
pub(super) struct Page {
    pub(super) document: Document,
    pub(super) base: String,
}

impl Page {
    /// The source behind a link of this page.
    pub(super) fn follow(&self, link: &Link, fields: Form) -> Source {
        Source::Ask(self.absolute(link), fields)
    }

    /// The link with its URL made absolute; an absolute one stays as it is, byte for byte.
    pub(super) fn absolute(&self, link: &Link) -> Link {
        if link.url.starts_with("http://") || link.url.starts_with("https://") {
            return link.clone();
        }
        let joined = url::Url::parse(&self.base).and_then(|base| base.join(&link.url));
        Link { url: joined.map_or_else(|_| link.url.clone(), String::from), get: link.get }
    }
}

/// Obeys documents until one of them ends, or the leg does; the status is the last one of the leg.
pub(super) async fn obey(switch: &Arc<Switch>, leg: &Arc<Leg>, first: Source) -> Status {
    let mut source = first;
    loop {
        let Some(page) = switch.page(leg, source).await else {
            // The caller hears that something is wrong.
            answer(switch, leg);
            sleep(Duration::from_millis(switch.settings.timing.speech_ms)).await;
            return Status::Completed;
        };
        match play(switch, leg, &page).await {
            Flow::Goto(next) => source = next,
            Flow::End(status) => return status,
            Flow::Next => {
                answer(switch, leg);
                return Status::Completed;
            }
        }
    }
}

/// An inbound leg is answered by the first verb that needs it.
pub(super) fn answer(switch: &Switch, leg: &Arc<Leg>) {
    if leg.status() == Status::Ringing {
        switch.enter(leg, Status::InProgress);
    }
}

async fn play(switch: &Arc<Switch>, leg: &Arc<Leg>, page: &Page) -> Flow {
    for (place, verb) in page.document.verbs.iter().enumerate() {
        let waits_for_bridge = matches!(verb, Verb::Dial(dial) if dial.answer_on_bridge);
        if !matches!(verb, Verb::Pause { .. } | Verb::Reject { .. } | Verb::Redirect(_)) && !waits_for_bridge
        {
            answer(switch, leg);
        }
        let flow = match verb {
            Verb::Say { .. } | Verb::Play { .. } | Verb::Pause { .. } => {
                speak(switch, verb, switch.settings.timing.speech_ms).await;
                Flow::Next
            }
            Verb::Gather { prompts, timeout_s, on_nothing } => {
                for prompt in prompts {
                    speak(switch, prompt, switch.settings.timing.speech_ms).await;
                }
                sleep(Duration::from_secs(*timeout_s)).await;
                on_nothing.as_ref().map_or(Flow::Next, |link| Flow::Goto(page.follow(link, Form::new())))
            }
            Verb::Redirect(link) => Flow::Goto(page.follow(link, Form::new())),
            Verb::Hangup => Flow::End(Status::Completed),
            Verb::Reject { busy } if place == 0 && leg.status() == Status::Ringing => {
                Flow::End(if *busy { Status::Busy } else { Status::NoAnswer })
            }
            Verb::Reject { .. } => Flow::End(Status::Completed),
            Verb::Dial(dial) => Box::pin(super::dial::dial(switch, leg, page, dial)).await,
            Verb::Record(record) => super::media::record(switch, leg, page, record).await,
            Verb::Enqueue(enqueue) => Box::pin(super::media::enqueue(switch, leg, page, enqueue)).await,
            // Means something only while waiting in a queue.
            Verb::Leave => Flow::Next,
        };
        if !matches!(flow, Flow::Next) {
            return flow;
        }
    }
    Flow::Next
}

/// Says, plays or pauses for as long as that takes; other verbs take no time.
pub(super) async fn speak(switch: &Switch, verb: &Verb, play_ms: u64) {
    let speech_ms = switch.settings.timing.speech_ms;
    let span = match verb {
        Verb::Say { times } => times.map(|times| times.saturating_mul(speech_ms)),
        Verb::Play { times } => times.map(|times| times.saturating_mul(play_ms)),
        Verb::Pause { seconds } => Some(seconds.saturating_mul(1000)),
        Verb::Dial(_) | Verb::Redirect(_) | Verb::Hangup | Verb::Reject { .. } | Verb::Record(_) => Some(0),
        Verb::Enqueue(_) | Verb::Gather { .. } | Verb::Leave => Some(0),
    };
    match span {
        Some(span) => sleep(Duration::from_millis(span)).await,
        None => std::future::pending().await,
    }
}

impl Switch {
    /// Gets and reads a document, from the fallback URL when the first one fails.
    async fn page(self: &Arc<Self>, leg: &Arc<Leg>, source: Source) -> Option<Page> {
        let (link, fields) = match source {
            Source::Ask(link, fields) => (link, fields),
            Source::Inline(text) => {
                let document = read(&text).ok()?;
                return Some(Page { document, base: self.settings.public_url.clone() });
            }
        };
        let failure = match self.ask(leg, &link, fields.clone()).await {
            Ok(page) => return Some(page),
            Err(failure) => failure,
        };
        tracing::warn!(%failure, call.sid = leg.sid, "no document for a call");
        leg.note(format!("document failed: {failure}"));
        let fallback = leg.fallback.clone().filter(|fallback| fallback.url != link.url)?;
        count(&self.stats.fallbacks);
        let mut fields = fields;
        put(&mut fields, "ErrorCode", failure.code());
        put(&mut fields, "ErrorUrl", link.url);
        self.ask(leg, &fallback, fields).await.ok()
    }

    /// Asks one URL for a document about a leg.
    pub(super) async fn ask(
        self: &Arc<Self>,
        leg: &Arc<Leg>,
        link: &Link,
        fields: Form,
    ) -> Result<Page, Failure> {
        let mut form = voice_fields(&self.settings.account_sid, leg);
        form.extend(fields);
        let text = self.courier.fetch(link, form).await?;
        let document = read(&text).map_err(|error| {
            tracing::warn!(%error, webhook.url = link.url, "unreadable document");
            count(&self.stats.webhooks_failed);
            Failure::Unreadable
        })?;
        self.stats.twiml_warnings.fetch_add(document.unknown, std::sync::atomic::Ordering::Relaxed);
        Ok(Page { document, base: link.url.clone() })
    }
}
