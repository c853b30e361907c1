//! The documents that legs get: what to do next, in TwiML.

use super::links::Links;
use super::twiml::{Conference, Dial, Hangup, Pause, Play, Record, Redirect, Reject, Response, Say};
use crate::domain::call::Document;
use crate::domain::id::{CallId, LegId};

/// Seconds of one pause in a waiting loop.
const PAUSE_SECONDS: u32 = 10;
/// Longest message in seconds.
const MESSAGE_SECONDS: u32 = 120;
/// How every address we hand out is asked.
const POST: &str = "POST";
/// Events of a room that we want to hear of.
const ROOM_EVENTS: &str = "start end join leave mute hold modify";

/// The texts that callers hear.
#[derive(Debug, Clone)]
pub struct Phrases {
    /// While waiting, when no music is configured.
    pub waiting: String,
    /// Before a message is taken.
    pub voicemail: String,
    /// When nobody is there.
    pub goodbye: String,
    /// When we cannot do what we should.
    pub apology: String,
    /// Address of music for waiting and hold; silence with a text when absent.
    pub music_url: Option<String>,
}

impl Default for Phrases {
    fn default() -> Self {
        Self {
            waiting: "Thank you for waiting. An agent will be with you soon.".to_owned(),
            voicemail: "Nobody can take your call now. Please leave a message after the tone.".to_owned(),
            goodbye: "Nobody can take your call now. Please call again later. Goodbye.".to_owned(),
            apology: "We are sorry, there is a technical problem. Please call again later.".to_owned(),
            music_url: None,
        }
    }
}

/// Writes a document for a leg of a call.
#[must_use]
pub fn render(wanted: &Document, call: CallId, links: &Links, phrases: &Phrases) -> String {
    let response = match wanted {
        Document::WaitInRoom => dial(call, links, caller_side(call, links)),
        Document::JoinRoom { leg_id } => dial(call, links, agent_side(call, *leg_id, links)),
        Document::WaitMusic => waiting(&links.wait(call), phrases),
        Document::HoldMusic => waiting(&links.hold(call), phrases),
        Document::Voicemail => voicemail(call, links, phrases),
        Document::Goodbye => last_words(&phrases.goodbye),
        Document::Hangup => Response::new().then(Hangup::new()),
        Document::Refuse => Response::new().then(Reject::new()),
        Document::Acknowledge => Response::new(),
    };
    response.xml()
}

/// The safe document: needs nothing but itself.
#[must_use]
pub fn apology(phrases: &Phrases) -> String {
    last_words(&phrases.apology).xml()
}

fn last_words(text: &str) -> Response {
    Response::new().then(Say::new(text)).then(Hangup::new())
}

fn dial(call: CallId, links: &Links, side: Conference) -> Response {
    // Twilio takes the callbacks of whoever enters first, so both sides name them.
    let side = side.status_callback(links.conference(call)).status_callback_event(ROOM_EVENTS);
    Response::new().then(Dial::new().action(links.next(call)).method(POST).conference(side))
}

fn caller_side(call: CallId, links: &Links) -> Conference {
    Conference::new(call.to_string())
        .start_on_enter(false)
        .end_on_exit(true)
        .beep(false)
        .wait_url(links.wait(call))
        .wait_method(POST)
        .participant_label("caller")
}

fn agent_side(call: CallId, leg: LegId, links: &Links) -> Conference {
    Conference::new(call.to_string())
        .start_on_enter(true)
        .end_on_exit(false)
        .beep(false)
        .wait_url(links.wait(call))
        .wait_method(POST)
        .participant_label(leg.to_string())
}

/// A message is taken. When nothing was said, Twilio does not ask what next and goes on.
fn voicemail(call: CallId, links: &Links, phrases: &Phrases) -> Response {
    let record = Record::new()
        .action(links.next(call))
        .method(POST)
        .max_length(MESSAGE_SECONDS)
        .play_beep(true)
        .recording_status_callback(links.recording(call))
        .recording_status_callback_event("completed absent");
    Response::new().then(Say::new(&phrases.voicemail)).then(record).then(Hangup::new())
}

/// Music without end, or a text; then the same address again, because a waiting document does not
/// repeat by itself. The pause keeps music that cannot be fetched from asking without rest.
fn waiting(again: &str, phrases: &Phrases) -> Response {
    let response = match &phrases.music_url {
        Some(music) => Response::new().then(Play::new(music).times(0)),
        None => Response::new().then(Say::new(&phrases.waiting)),
    };
    response.then(Pause::new().length(PAUSE_SECONDS)).then(Redirect::new(again).method(POST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_named_after_the_call_and_ends_with_the_caller() {
        let links = Links::new("https://hooks.example.org", "twilio").unwrap();
        let call = CallId::derived("twilio", "CA1");
        let hooks = "https://hooks.example.org/webhooks/twilio";
        let document = "#ct=2000&amp;rt=6000&amp;rc=2&amp;rp=all&amp;tt=14500";
        let around = |side: String| {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>\
                 <Dial action=\"{hooks}/dial-action?call={call}{document}\" method=\"POST\">\
                 <Conference {side} statusCallback=\"{hooks}/conference?call={call}#rc=3&amp;rp=all\" \
                 statusCallbackEvent=\"start end join leave mute hold modify\">{call}</Conference>\
                 </Dial></Response>"
            )
        };
        let wait =
            format!("beep=\"false\" waitUrl=\"{hooks}/wait?call={call}{document}\" waitMethod=\"POST\"");
        let leg_id = LegId::fresh();
        for (wanted, want) in [
            (
                Document::WaitInRoom,
                format!(
                    "startConferenceOnEnter=\"false\" endConferenceOnExit=\"true\" {wait} \
                     participantLabel=\"caller\""
                ),
            ),
            (
                Document::JoinRoom { leg_id },
                format!(
                    "startConferenceOnEnter=\"true\" endConferenceOnExit=\"false\" {wait} \
                     participantLabel=\"{leg_id}\""
                ),
            ),
        ] {
            assert_eq!(render(&wanted, call, &links, &Phrases::default()), around(want), "{wanted:?}");
        }
    }

    #[test]
    fn waiting_plays_the_music_that_is_set_up_or_says_something() {
        let links = Links::new("https://hooks.example.org", "twilio").unwrap();
        let call = CallId::derived("twilio", "CA1");
        let music = Phrases {
            music_url: Some("https://cdn.example.org/m.mp3?a=1&b=2".to_owned()),
            ..Phrases::default()
        };
        let played = render(&Document::HoldMusic, call, &links, &music);
        assert!(
            played.contains("<Play loop=\"0\">https://cdn.example.org/m.mp3?a=1&amp;b=2</Play>"),
            "{played}"
        );
        assert!(played.contains(&format!("/hold?call={call}#")), "{played}");
        let said = render(&Document::WaitMusic, call, &links, &Phrases::default());
        assert!(said.contains("<Response><Say>") && said.contains(&format!("/wait?call={call}#")), "{said}");
    }

    #[test]
    fn every_document_ends_or_goes_on_by_itself() {
        let links = Links::new("https://hooks.example.org", "twilio").unwrap();
        let call = CallId::derived("twilio", "CA1");
        for (wanted, end) in [
            (Document::Voicemail, "<Hangup/></Response>"),
            (Document::Goodbye, "<Hangup/></Response>"),
            (Document::Refuse, "<Reject/></Response>"),
            (Document::WaitMusic, "</Redirect></Response>"),
            (Document::Acknowledge, "<Response/>"),
        ] {
            let xml = render(&wanted, call, &links, &Phrases::default());
            assert!(xml.ends_with(end), "{wanted:?}: {xml}");
        }
    }
}
