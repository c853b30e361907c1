//! Writing TwiML: a small tree of elements, escaped by quick-xml.

use std::borrow::Cow;

use quick_xml::escape::escape;

/// One element with its attributes and children, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, Cow<'static, str>)>,
    children: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    /// An empty element.
    #[must_use]
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), children: Vec::new() }
    }

    /// The same with one more attribute.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// The same with one more child.
    #[must_use]
    pub(super) fn child(mut self, child: Self) -> Self {
        self.children.push(Node::Element(child));
        self
    }

    /// The same with text.
    #[must_use]
    pub(super) fn text(mut self, text: impl Into<String>) -> Self {
        self.children.push(Node::Text(text.into()));
        self
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            out.push_str(&escape(value.as_ref()));
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
                Node::Text(text) => out.push_str(&quick_xml::escape::partial_escape(text.as_str())),
            }
        }
        out.push_str("</");
        out.push_str(self.name);
        out.push('>');
    }
}

/// A whole document of these verbs.
#[must_use]
pub(super) fn document(verbs: impl IntoIterator<Item = Element>) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    let response = verbs.into_iter().fold(Element::new("Response"), Element::child);
    response.write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Reads a golden document back into elements, with names leaked: test data is small.
    #[expect(clippy::wildcard_enum_match_arm, reason = "documents hold nothing else")]
    fn read(xml: &str) -> Vec<Element> {
        use quick_xml::events::Event;
        let mut reader = quick_xml::Reader::from_str(xml);
        let mut open = vec![Element::new("root")];
        let leak = |text: &[u8]| -> &'static str {
            Box::leak(String::from_utf8(text.to_vec()).unwrap().into_boxed_str())
        };
        let element = |start: &quick_xml::events::BytesStart<'_>| {
            let mut element = Element::new(leak(start.name().as_ref()));
            for attribute in start.attributes() {
                let attribute = attribute.unwrap();
                let value = quick_xml::escape::unescape(std::str::from_utf8(&attribute.value).unwrap())
                    .unwrap()
                    .into_owned();
                element = element.with(leak(attribute.key.as_ref()), value);
            }
            element
        };
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) => open.push(element(&start)),
                Event::Empty(start) => {
                    let child = element(&start);
                    let parent = open.pop().unwrap();
                    open.push(parent.child(child));
                }
                Event::End(_) => {
                    let child = open.pop().unwrap();
                    let parent = open.pop().unwrap();
                    open.push(parent.child(child));
                }
                Event::Text(text) => {
                    let text = text.decode().unwrap().into_owned();
                    push_text(&mut open, &text);
                }
                Event::GeneralRef(name) => {
                    let text = format!("&{};", name.decode().unwrap());
                    let text = quick_xml::escape::unescape(&text).unwrap().into_owned();
                    push_text(&mut open, &text);
                }
                Event::Eof => break,
                _ => {}
            }
        }
        match open.pop().unwrap().children.remove(0) {
            Node::Element(response) => response
                .children
                .into_iter()
                .map(|node| match node {
                    Node::Element(verb) => verb,
                    Node::Text(text) => panic!("text between verbs: {text}"),
                })
                .collect(),
            Node::Text(text) => panic!("text instead of a document: {text}"),
        }
    }

    fn push_text(open: &mut [Element], text: &str) {
        let children = &mut open.last_mut().unwrap().children;
        match children.last_mut() {
            Some(Node::Text(known)) => known.push_str(text),
            _ => children.push(Node::Text(text.to_owned())),
        }
    }

    #[test]
    fn every_golden_document_is_written_byte_for_byte() {
        let path = format!("{}/tests/fixtures/vectors/twiml_golden.json", env!("CARGO_MANIFEST_DIR"));
        let goldens: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let list = goldens.as_object().unwrap().values().find_map(Value::as_array).unwrap();
        assert_eq!(list.len(), 22);
        for golden in list {
            let xml = golden["xml"].as_str().unwrap();
            assert_eq!(document(read(xml)), xml, "{}", golden["name"]);
        }
    }
}
