//! The documents that legs get: what to do next, in TwiML.

use super::links::Links;
use super::twiml::{Element, document};
use crate::domain::call::Document;
use crate::domain::id::CallId;

/// Seconds of one pause in a waiting loop.
const PAUSE_SECONDS: &str = "10";
/// Longest message in seconds.
const MESSAGE_SECONDS: &str = "120";
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
    match wanted {
        Document::WaitInRoom => document([dial(call, links, caller_side(call, links))]),
        Document::JoinRoom { leg_id } => {
            let side = Element::new("Conference")
                .with("startConferenceOnEnter", "true")
                .with("endConferenceOnExit", "false")
                .with("beep", "false")
                .with("participantLabel", leg_id.to_string());
            document([dial(call, links, with_callbacks(side, call, links))])
        }
        Document::WaitMusic => document(waiting(&links.wait(call), phrases)),
        Document::HoldMusic => document(waiting(&links.hold(call), phrases)),
        Document::Voicemail => document([
            say(&phrases.voicemail),
            Element::new("Record")
                .with("action", links.next(call))
                .with("maxLength", MESSAGE_SECONDS)
                .with("playBeep", "true")
                .with("recordingStatusCallback", links.recording(call))
                .with("recordingStatusCallbackEvent", "completed absent"),
            Element::new("Hangup"),
        ]),
        Document::Goodbye => document([say(&phrases.goodbye), Element::new("Hangup")]),
        Document::Hangup => document([Element::new("Hangup")]),
        Document::Refuse => document([Element::new("Reject")]),
        Document::Acknowledge => document([]),
    }
}

/// The safe document: needs nothing but itself.
#[must_use]
pub fn apology(phrases: &Phrases) -> String {
    document([say(&phrases.apology), Element::new("Hangup")])
}

fn say(text: &str) -> Element {
    Element::new("Say").text(text)
}

fn dial(call: CallId, links: &Links, conference: Element) -> Element {
    Element::new("Dial").with("action", links.next(call)).child(conference)
}

fn caller_side(call: CallId, links: &Links) -> Element {
    let side = Element::new("Conference")
        .with("startConferenceOnEnter", "false")
        .with("endConferenceOnExit", "true")
        .with("beep", "false")
        .with("waitUrl", links.wait(call))
        .with("waitMethod", "POST")
        .with("participantLabel", "caller");
    with_callbacks(side, call, links)
}

/// Twilio takes the callbacks of whoever enters first, so both sides name them.
fn with_callbacks(side: Element, call: CallId, links: &Links) -> Element {
    side.with("statusCallback", links.conference(call))
        .with("statusCallbackEvent", ROOM_EVENTS)
        .text(call.to_string())
}

/// Music or a text, then the same address again: a waiting document does not repeat by itself.
fn waiting(again: &str, phrases: &Phrases) -> Vec<Element> {
    let sound = match &phrases.music_url {
        Some(music) => Element::new("Play").text(music),
        None => say(&phrases.waiting),
    };
    vec![sound, Element::new("Pause").with("length", PAUSE_SECONDS), Element::new("Redirect").text(again)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::LegId;

    #[test]
    fn the_room_is_named_after_the_call_and_ends_with_the_caller() {
        let links = Links::new("https://hooks.example.org", "twilio").unwrap();
        let call = CallId::derived("twilio", "CA1");
        let xml = render(&Document::WaitInRoom, call, &links, &Phrases::default());
        assert!(xml.contains(&format!(">{call}</Conference></Dial></Response>")), "{xml}");
        assert!(xml.contains(r#"startConferenceOnEnter="false" endConferenceOnExit="true""#));
        let leg_id = LegId::fresh();
        let xml = render(&Document::JoinRoom { leg_id }, call, &links, &Phrases::default());
        assert!(xml.contains(r#"startConferenceOnEnter="true" endConferenceOnExit="false""#));
        assert!(xml.contains(&format!(">{call}</Conference>")));
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
