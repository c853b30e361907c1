//! Writing TwiML: one type per verb and noun, so that a misspelt attribute does not compile.
//!
//! Attributes and children come out in the order in which they were given. quick-xml escapes.

#[cfg(test)]
mod tests;

use quick_xml::escape::{escape, partial_escape};

/// Any element, once nothing more is to be added to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    tag: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    const fn empty(tag: &'static str) -> Self {
        Self { tag, attributes: Vec::new(), children: Vec::new() }
    }

    fn around(tag: &'static str, text: impl Into<String>) -> Self {
        Self { tag, attributes: Vec::new(), children: vec![Node::Text(text.into())] }
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(self.tag);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            out.push_str(&escape(allowed(value)));
            out.push('"');
        }
        if self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for child in &self.children {
            match child {
                Node::Element(element) => element.write(out),
                // Quotes need no escape in text, and Twilio's own writer leaves them alone.
                Node::Text(text) => out.push_str(&partial_escape(allowed(text))),
            }
        }
        out.push_str("</");
        out.push_str(self.tag);
        out.push('>');
    }
}

/// The text without the characters that XML 1.0 cannot hold at all, not even escaped.
fn allowed(text: &str) -> String {
    let is_allowed = |letter: &char| matches!(letter, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    text.chars().filter(is_allowed).collect()
}

/// A value of an attribute: a text, a number, or yes or no.
pub trait Value {
    /// The value as it is written.
    fn written(self) -> String;
}

impl Value for &str {
    fn written(self) -> String {
        self.to_owned()
    }
}

impl Value for String {
    fn written(self) -> String {
        self
    }
}

impl Value for u32 {
    fn written(self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    fn written(self) -> String {
        self.to_string()
    }
}

/// Something that a leg does; what a document is a list of.
pub trait Verb: Into<Element> {}

macro_rules! constructor {
    ($name:ident $tag:literal) => {
        impl $name {
            /// The element, with nothing in it.
            #[must_use]
            pub const fn new() -> Self {
                Self(Element::empty($tag))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    };
    ($name:ident $tag:literal text) => {
        impl $name {
            /// The element around a text.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(Element::around($tag, text))
            }
        }
    };
}

macro_rules! elements {
    ($($(#[$doc:meta])* $name:ident = $tag:literal $(around $text:ident)? {
        $($attribute:ident = $xml:literal),* $(,)?
        $(; $($child:ident: $kind:ident),*)?
    })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(Element);

        constructor!($name $tag $($text)?);

        impl $name {
            $(
                #[doc = concat!("Sets `", $xml, "`.")]
                #[must_use]
                pub fn $attribute(mut self, value: impl Value) -> Self {
                    self.0.attributes.push(($xml, value.written()));
                    self
                }
            )*
            $($(
                #[doc = concat!("Puts a [`", stringify!($kind), "`] into it.")]
                #[must_use]
                pub fn $child(mut self, child: $kind) -> Self {
                    self.0.children.push(Node::Element(child.0));
                    self
                }
            )*)?
        }

        impl From<$name> for Element {
            fn from(typed: $name) -> Self {
                typed.0
            }
        }
    )*};
}

elements! {
    /// Reads a text out.
    Say = "Say" around text { voice = "voice", language = "language", times = "loop" }
    /// Plays the sound at an address.
    Play = "Play" around text { times = "loop", digits = "digits" }
    /// Is silent for `length` seconds.
    Pause = "Pause" { length = "length" }
    /// Goes on with the document at an address.
    Redirect = "Redirect" around text { method = "method" }
    /// Hangs up.
    Hangup = "Hangup" {}
    /// Refuses a call without answering it; only as the first verb.
    Reject = "Reject" { reason = "reason" }
    /// Leaves the queue; only in what a queue plays to those who wait.
    Leave = "Leave" {}
    /// Asks for keys or speech.
    Gather = "Gather" {
        input = "input", num_digits = "numDigits", timeout = "timeout", action = "action",
        method = "method", action_on_empty_result = "actionOnEmptyResult",
        finish_on_key = "finishOnKey";
        say: Say, play: Play, pause: Pause
    }
    /// Takes a message.
    Record = "Record" {
        action = "action", method = "method", max_length = "maxLength", timeout = "timeout",
        play_beep = "playBeep", finish_on_key = "finishOnKey",
        recording_status_callback = "recordingStatusCallback",
        recording_status_callback_event = "recordingStatusCallbackEvent",
    }
    /// Starts something that goes on beside the next verbs.
    Start = "Start" {; recording: Recording }
    /// A recording beside other verbs.
    Recording = "Recording" { recording_status_callback = "recordingStatusCallback" }
    /// Waits in a queue of Twilio's.
    Enqueue = "Enqueue" around text {
        action = "action", method = "method", wait_url = "waitUrl", wait_url_method = "waitUrlMethod"
    }
    /// Waits for a task router.
    EnqueueTask = "Enqueue" { workflow_sid = "workflowSid"; task: Task }
    /// The attributes of a task, as JSON.
    Task = "Task" around text {}
    /// Joins the leg with others.
    Dial = "Dial" {
        action = "action", method = "method", timeout = "timeout", caller_id = "callerId",
        answer_on_bridge = "answerOnBridge", sequential = "sequential", record = "record",
        recording_status_callback = "recordingStatusCallback",
        recording_status_callback_event = "recordingStatusCallbackEvent";
        number: Number, client: Client, identified: IdentifiedClient, sip: Sip, queue: Queue,
        conference: Conference
    }
    /// Joins the leg with one number.
    DialNumber = "Dial" around text { action = "action", method = "method", timeout = "timeout" }
    /// A phone number.
    Number = "Number" around text {
        url = "url", status_callback = "statusCallback", status_callback_event = "statusCallbackEvent"
    }
    /// A soft phone.
    Client = "Client" around text {
        url = "url", status_callback = "statusCallback", status_callback_event = "statusCallbackEvent"
    }
    /// A soft phone that is told something.
    IdentifiedClient = "Client" {
        url = "url", status_callback = "statusCallback", status_callback_event = "statusCallbackEvent";
        identity: Identity, parameter: Parameter
    }
    /// The name of a soft phone.
    Identity = "Identity" around text {}
    /// One thing that a soft phone is told.
    Parameter = "Parameter" { name = "name", value = "value" }
    /// A SIP address.
    Sip = "Sip" around text { username = "username", password = "password" }
    /// The head of a queue.
    Queue = "Queue" around text { url = "url" }
    /// A room.
    Conference = "Conference" around text {
        start_on_enter = "startConferenceOnEnter", end_on_exit = "endConferenceOnExit",
        muted = "muted", coach = "coach", beep = "beep", wait_url = "waitUrl",
        wait_method = "waitMethod", participant_label = "participantLabel",
        status_callback = "statusCallback", status_callback_event = "statusCallbackEvent",
        record = "record", recording_status_callback = "recordingStatusCallback"
    }
    /// Answers a message.
    Message = "Message" around text {}
}

macro_rules! verbs {
    ($($name:ident)*) => {$( impl Verb for $name {} )*};
}

verbs! {
    Say Play Pause Redirect Hangup Reject Leave Gather Record Start Enqueue EnqueueTask Dial DialNumber
    Message
}

/// A whole document: what a leg does, one verb after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response(Element);

impl Default for Response {
    fn default() -> Self {
        Self::new()
    }
}

impl Response {
    /// A document that does nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Element::empty("Response"))
    }

    /// The same with one more verb at its end.
    #[must_use]
    pub fn then(mut self, verb: impl Verb) -> Self {
        self.0.children.push(Node::Element(verb.into()));
        self
    }

    /// The document as Twilio reads it.
    #[must_use]
    pub fn xml(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        self.0.write(&mut out);
        out
    }
}
