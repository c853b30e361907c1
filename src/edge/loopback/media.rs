//! What legs hear and leave: music while waiting, recorded messages, queues.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::leg::{Leg, Queued, Status, Taping};
use super::lines::{put, seconds, voice_fields};
use super::script::{Flow, Page, speak};
use super::switch::Switch;
use super::twiml::{Enqueue, Link, Record, Verb};
use super::webhooks::Form;

/// How the music of a queue ended.
enum Heard {
    /// The document ran out.
    All,
    /// Could not be had.
    Nothing,
    Leave,
    Hangup,
}

/// Plays what a wait or hold URL says, once; redirects are followed, failures are silence.
pub(super) async fn music(switch: &Arc<Switch>, leg: &Arc<Leg>, link: Link, fields: &Form) {
    listen(switch, leg, link, fields).await;
}

async fn listen(switch: &Arc<Switch>, leg: &Arc<Leg>, link: Link, fields: &Form) -> Heard {
    let mut next = link;
    loop {
        let page = match switch.ask(leg, &next, fields.clone()).await {
            Ok(page) => page,
            Err(failure) => {
                tracing::debug!(%failure, call.sid = leg.sid, "silence instead of music");
                return Heard::Nothing;
            }
        };
        let mut elsewhere = None;
        for verb in &page.document.verbs {
            match verb {
                Verb::Redirect(link) => {
                    elsewhere = Some(page.absolute(link));
                    break;
                }
                Verb::Leave => return Heard::Leave,
                Verb::Hangup => return Heard::Hangup,
                Verb::Say { .. } | Verb::Play { .. } | Verb::Pause { .. } => {
                    speak(switch, verb, switch.settings.timing.music_ms).await;
                }
                Verb::Gather { prompts, .. } => {
                    for prompt in prompts {
                        speak(switch, prompt, switch.settings.timing.music_ms).await;
                    }
                }
                // Not allowed here: skipped.
                Verb::Dial(_) | Verb::Reject { .. } | Verb::Record(_) | Verb::Enqueue(_) => {}
            }
        }
        match elsewhere {
            Some(link) => next = link,
            None => return Heard::All,
        }
    }
}

/// Lets the caller leave a message, then asks the action what to do.
pub(super) async fn record(switch: &Arc<Switch>, leg: &Arc<Leg>, page: &Page, record: &Record) -> Flow {
    let mut verb = record.clone();
    verb.action = verb.action.map(|link| page.absolute(&link));
    verb.callback = verb.callback.map(|link| page.absolute(&link));
    let sid = switch.sids.next("RE");
    let taping = Taping { verb, sid, began: Instant::now(), began_at: switch.clock.now() };
    {
        let mut state = leg.state();
        state.served = true;
        state.taping = Some(taping);
    }
    leg.note("recording");
    let span = leg.habits.record_ms.unwrap_or(switch.settings.timing.record_ms);
    sleep(Duration::from_millis(span.min(record.max_length_s.saturating_mul(1000)))).await;
    switch
        .end_taping(leg, false)
        .map_or(Flow::Next, |(link, fields)| Flow::Goto(super::leg::Source::Ask(link, fields)))
}

/// Waits in a named queue, listening to its wait URL again and again.
pub(super) async fn enqueue(switch: &Arc<Switch>, leg: &Arc<Leg>, page: &Page, verb: &Enqueue) -> Flow {
    let mut asked = verb.clone();
    asked.action = asked.action.map(|link| page.absolute(&link));
    let queued = Queued { verb: asked, sid: switch.sids.next("QU"), since: Instant::now() };
    leg.state().queued = Some(queued.clone());
    leg.note(format!("queued in {}", verb.name));
    let Some(wait) = verb.wait.as_ref().map(|link| page.absolute(link)) else {
        return std::future::pending().await;
    };
    let heard = loop {
        let mut fields = queue_fields(&queued);
        for (name, value) in [
            ("QueuePosition", "1"),
            ("AvgQueueTime", "0"),
            ("CurrentQueueSize", "1"),
            ("MaxQueueSize", "1000"),
        ] {
            put(&mut fields, name, value);
        }
        match listen(switch, leg, wait.clone(), &fields).await {
            // An empty document must not become a storm of requests.
            Heard::All => sleep(Duration::from_millis(switch.settings.timing.speech_ms.max(20))).await,
            Heard::Nothing => sleep(Duration::from_millis(switch.settings.timing.music_ms)).await,
            Heard::Leave => break "leave",
            Heard::Hangup => break "hangup",
        }
    };
    leg.state().queued = None;
    if heard == "hangup" {
        return Flow::End(Status::Completed);
    }
    let mut fields = queue_fields(&queued);
    put(&mut fields, "QueueResult", heard);
    verb.action.as_ref().map_or(Flow::Next, |action| Flow::Goto(page.follow(action, fields)))
}

fn queue_fields(queued: &Queued) -> Form {
    let mut fields = Form::new();
    put(&mut fields, "QueueSid", queued.sid.as_str());
    put(&mut fields, "QueueTime", queued.since.elapsed().as_secs().to_string());
    fields
}

impl Switch {
    /// Ends the message being left, reports it, and gives back the action to ask.
    ///
    /// When the caller hung up, the action is told and its answer goes nowhere.
    pub(super) fn end_taping(&self, leg: &Arc<Leg>, hung_up: bool) -> Option<(Link, Form)> {
        let taping = leg.state().taping.take()?;
        leg.note("recorded");
        let length = seconds(u64::try_from(taping.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let url = self.recording_url(&taping.sid);
        let mut fields = Form::new();
        put(&mut fields, "RecordingUrl", url.as_str());
        put(&mut fields, "RecordingSid", taping.sid.as_str());
        put(&mut fields, "RecordingDuration", length.as_str());
        put(&mut fields, "Digits", if hung_up { "hangup" } else { "#" });
        if let Some(action) = taping.verb.action.as_ref().filter(|_| hung_up) {
            let mut form = voice_fields(&self.settings.account_sid, leg);
            form.extend(fields.clone());
            self.courier.post(&leg.lane, action, form);
        }
        let wanted = taping.verb.events.split_whitespace().any(|event| event == "completed");
        if let Some(link) = taping.verb.callback.as_ref().filter(|_| wanted) {
            let mut form = Form::new();
            put(&mut form, "AccountSid", self.settings.account_sid.as_str());
            put(&mut form, "CallSid", leg.sid.as_str());
            put(&mut form, "RecordingSid", taping.sid.as_str());
            put(&mut form, "RecordingUrl", url);
            put(&mut form, "RecordingStatus", "completed");
            put(&mut form, "RecordingDuration", length);
            put(&mut form, "RecordingChannels", "1");
            put(&mut form, "RecordingStartTime", taping.began_at.to_rfc2822());
            put(&mut form, "RecordingSource", "RecordVerb");
            put(&mut form, "RecordingTrack", "both");
            self.courier.post(&leg.lane, link, form);
        }
        taping.verb.action.map(|action| (action, fields))
    }

    /// Tells the action of a queue that its caller has hung up.
    pub(super) fn leave_queue(&self, leg: &Arc<Leg>, queued: &Queued) {
        let Some(action) = &queued.verb.action else { return };
        let mut form = voice_fields(&self.settings.account_sid, leg);
        form.extend(queue_fields(queued));
        put(&mut form, "QueueResult", "hangup");
        self.courier.post(&leg.lane, action, form);
    }
}
