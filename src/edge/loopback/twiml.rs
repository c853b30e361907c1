//! Reading the documents that the engine answers with: XML into a typed list of verbs.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// The largest document that is accepted, in bytes.
pub(super) const LARGEST: usize = 64 * 1024;

/// One verb of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verb {
    /// Speech; `None` repeats for ever.
    Say {
        times: Option<u64>,
    },
    /// A recording; `None` repeats for ever.
    Play {
        times: Option<u64>,
    },
    Pause {
        seconds: u64,
    },
    Dial(Box<Dial>),
    Redirect(Link),
    Hangup,
    Reject {
        busy: bool,
    },
    Record(Box<Record>),
    Enqueue(Box<Enqueue>),
    /// Nobody types anything here: what is inside is played, then the flow goes on.
    Gather {
        prompts: Vec<Verb>,
        timeout_s: u64,
        on_nothing: Option<Link>,
    },
    Leave,
}

/// A URL with the method to ask it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) url: String,
    pub(super) get: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dial {
    pub(super) action: Option<Link>,
    pub(super) timeout_s: u64,
    pub(super) time_limit_s: u64,
    pub(super) caller_id: Option<String>,
    pub(super) answer_on_bridge: bool,
    pub(super) nouns: Vec<Noun>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Noun {
    Conference(Box<Conference>),
    /// A number (`+…`), `client:name` or `sip:…`, with whom to tell about it.
    Phone {
        to: String,
        callback: Option<Link>,
        events: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "attributes of the document, one each")]
pub(super) struct Conference {
    pub(super) name: String,
    pub(super) starts: bool,
    pub(super) ends: bool,
    pub(super) muted: bool,
    pub(super) coaching: Option<String>,
    pub(super) label: Option<String>,
    pub(super) max_participants: usize,
    pub(super) wait: Option<Link>,
    pub(super) callback: Option<Link>,
    pub(super) events: String,
    pub(super) record: bool,
    pub(super) recording_callback: Option<Link>,
    pub(super) recording_events: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) action: Option<Link>,
    pub(super) max_length_s: u64,
    pub(super) callback: Option<Link>,
    pub(super) events: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Enqueue {
    pub(super) name: String,
    pub(super) action: Option<Link>,
    pub(super) wait: Option<Link>,
}

/// A document and how many of its elements were not understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document {
    pub(super) verbs: Vec<Verb>,
    pub(super) unknown: u64,
}

/// The text is not XML, or not a `Response`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a document: {0}")]
pub(super) struct Unreadable(String);

#[derive(Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

/// Reads a document; an empty text is an empty document.
pub(super) fn read(text: &str) -> Result<Document, Unreadable> {
    if text.trim().is_empty() {
        return Ok(Document::default());
    }
    let root = tree(text)?;
    if root.name != "Response" {
        return Err(Unreadable(format!("root is {}", root.name)));
    }
    let mut document = Document::default();
    for element in &root.children {
        match verb(element) {
            Some(known) => document.verbs.push(known),
            None => document.unknown += 1,
        }
    }
    Ok(document)
}

fn tree(text: &str) -> Result<Element, Unreadable> {
    let broken = |error: &dyn std::fmt::Display| Unreadable(error.to_string());
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::default()];
    loop {
        match reader.read_event().map_err(|error| broken(&error))? {
            Event::Start(start) => open.push(element(&start)?),
            Event::Empty(start) => close(&mut open, element(&start)?),
            Event::End(_) => {
                if let Some(done) = open.pop() {
                    close(&mut open, done);
                }
            }
            Event::Text(part) => append(&mut open, &part.decode().map_err(|error| broken(&error))?),
            Event::CData(part) => append(&mut open, &part.decode().map_err(|error| broken(&error))?),
            Event::GeneralRef(part) => {
                let name = part.decode().map_err(|error| broken(&error))?;
                let escaped = format!("&{name};");
                append(&mut open, &quick_xml::escape::unescape(&escaped).map_err(|error| broken(&error))?);
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let unclosed = open.len() > 1;
    let root = open.pop().and_then(|mut top| top.children.pop());
    root.filter(|_| !unclosed).ok_or_else(|| Unreadable("no closed root element".to_owned()))
}

fn element(start: &BytesStart<'_>) -> Result<Element, Unreadable> {
    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| Unreadable(error.to_string()))?;
        let raw = String::from_utf8_lossy(&attribute.value).into_owned();
        let value = quick_xml::escape::unescape(&raw).map_err(|error| Unreadable(error.to_string()))?;
        attributes.push((String::from_utf8_lossy(attribute.key.as_ref()).into_owned(), value.into_owned()));
    }
    Ok(Element { name, attributes, ..Element::default() })
}

fn close(open: &mut [Element], done: Element) {
    if let Some(parent) = open.last_mut() {
        parent.children.push(done);
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(current) = open.last_mut() {
        current.text.push_str(text);
    }
}

impl Element {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str, unless_said: bool) -> bool {
        self.get(name).map_or(unless_said, |value| value == "true")
    }

    fn number(&self, name: &str, unless_said: u64) -> u64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(unless_said)
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty()).map(ToOwned::to_owned)
    }

    fn link(&self, url: &str, method: &str) -> Option<Link> {
        let get = self.get(method).is_some_and(|value| value.eq_ignore_ascii_case("get"));
        self.owned(url).map(|url| Link { url, get })
    }

    fn times(&self) -> Option<u64> {
        Some(self.number("loop", 1)).filter(|times| *times > 0)
    }
}

fn verb(element: &Element) -> Option<Verb> {
    Some(match element.name.as_str() {
        "Say" => Verb::Say { times: element.times() },
        "Play" => Verb::Play { times: element.times() },
        "Pause" => Verb::Pause { seconds: element.number("length", 1) },
        "Hangup" => Verb::Hangup,
        "Leave" => Verb::Leave,
        "Reject" => Verb::Reject { busy: element.get("reason") == Some("busy") },
        "Redirect" => Verb::Redirect(Link {
            url: element.text.trim().to_owned(),
            get: element.get("method").is_some_and(|value| value.eq_ignore_ascii_case("get")),
        }),
        "Record" => Verb::Record(Box::new(Record {
            action: element.link("action", "method"),
            max_length_s: element.number("maxLength", 3600),
            callback: element.link("recordingStatusCallback", "recordingStatusCallbackMethod"),
            events: element.owned("recordingStatusCallbackEvent").unwrap_or_else(|| "completed".to_owned()),
        })),
        "Enqueue" => Verb::Enqueue(Box::new(Enqueue {
            name: element.text.trim().to_owned(),
            action: element.link("action", "method"),
            wait: element.link("waitUrl", "waitUrlMethod"),
        })),
        "Gather" => Verb::Gather {
            prompts: element.children.iter().filter_map(verb).collect(),
            timeout_s: element.number("timeout", 5),
            on_nothing: element
                .link("action", "method")
                .filter(|_| element.flag("actionOnEmptyResult", false)),
        },
        "Dial" => Verb::Dial(Box::new(dial(element))),
        _ => return None,
    })
}

fn dial(element: &Element) -> Dial {
    let mut nouns: Vec<Noun> = element.children.iter().filter_map(noun).collect();
    let plain = element.text.trim();
    if nouns.is_empty() && !plain.is_empty() {
        nouns.push(Noun::Phone { to: plain.to_owned(), callback: None, events: String::new() });
    }
    Dial {
        action: element.link("action", "method"),
        timeout_s: element.number("timeout", 30),
        time_limit_s: element.number("timeLimit", 14_400),
        caller_id: element.owned("callerId"),
        answer_on_bridge: element.flag("answerOnBridge", false),
        nouns,
    }
}

fn noun(element: &Element) -> Option<Noun> {
    let text = element.text.trim();
    let identity = element.children.iter().find(|child| child.name == "Identity");
    let to = match element.name.as_str() {
        "Conference" => return Some(Noun::Conference(Box::new(conference(element)))),
        "Number" | "Sip" => text.to_owned(),
        "Client" => format!("client:{}", identity.map_or(text, |child| child.text.trim())),
        _ => return None,
    };
    let callback = element.link("statusCallback", "statusCallbackMethod");
    let events = element.owned("statusCallbackEvent").unwrap_or_else(|| "completed".to_owned());
    Some(Noun::Phone { to, callback, events })
}

fn conference(element: &Element) -> Conference {
    Conference {
        name: element.text.trim().to_owned(),
        starts: element.flag("startConferenceOnEnter", true),
        ends: element.flag("endConferenceOnExit", false),
        muted: element.flag("muted", false),
        coaching: element.owned("coach"),
        label: element.owned("participantLabel"),
        max_participants: usize::try_from(element.number("maxParticipants", 250)).unwrap_or(250),
        wait: element.link("waitUrl", "waitMethod"),
        callback: element.link("statusCallback", "statusCallbackMethod"),
        events: element.owned("statusCallbackEvent").unwrap_or_else(|| "start end".to_owned()),
        record: element.get("record").is_some_and(|value| value == "record-from-start" || value == "true"),
        recording_callback: element.link("recordingStatusCallback", "recordingStatusCallbackMethod"),
        recording_events: element
            .owned("recordingStatusCallbackEvent")
            .unwrap_or_else(|| "completed".to_owned()),
    }
}
