//! Every golden document, written by Twilio's own library, comes out of ours byte for byte.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::*;

const EVENTS: &str = "initiated ringing answered completed";

fn goldens() -> BTreeMap<String, String> {
    let path = format!("{}/tests/fixtures/vectors/twiml_golden.json", env!("CARGO_MANIFEST_DIR"));
    let file: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    file["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|golden| (text(&golden["name"]), text(&golden["xml"])))
        .collect()
}

fn words() -> Vec<(&'static str, Response)> {
    let one = || Response::new();
    vec![
        ("empty response", one()),
        ("empty message reply", one()),
        (
            "say with markup characters and emoji",
            one().then(Say::new("Tom & Jerry <3 \"quotes\" 👋").voice("Polly.Joanna").language("en-US")),
        ),
        (
            "play twice, pause",
            one()
                .then(Play::new("https://cdn.example.org/a.mp3?x=1&y=2").times(2))
                .then(Pause::new().length(3)),
        ),
        ("leave", one().then(Leave::new())),
        ("hangup", one().then(Hangup::new())),
        ("reject busy", one().then(Reject::new().reason("busy"))),
        ("redirect", one().then(Redirect::new("https://h.example.org/v?a=1&b=2"))),
        ("message reply", one().then(Message::new("Thanks & bye"))),
    ]
}

fn prompts() -> Vec<(&'static str, Response)> {
    let one = || Response::new();
    vec![
        (
            "gather digits with prompt and fall through",
            one()
                .then(
                    Gather::new()
                        .input("dtmf speech")
                        .num_digits(1)
                        .timeout(5)
                        .action("https://h.example.org/g?c=1&m=2")
                        .method("POST")
                        .action_on_empty_result(true)
                        .say(Say::new("Press 1")),
                )
                .then(Redirect::new("https://h.example.org/menu").method("POST")),
        ),
        (
            "record voicemail",
            one()
                .then(Say::new("Leave a message"))
                .then(
                    Record::new()
                        .action("https://h.example.org/ra")
                        .max_length(120)
                        .timeout(5)
                        .play_beep(true)
                        .finish_on_key("#")
                        .recording_status_callback("https://h.example.org/r")
                        .recording_status_callback_event("completed absent"),
                )
                .then(Hangup::new()),
        ),
        (
            "start recording beside other verbs",
            one()
                .then(
                    Start::new()
                        .recording(Recording::new().recording_status_callback("https://h.example.org/r")),
                )
                .then(DialNumber::new("+12025550171")),
        ),
        (
            "enqueue",
            Response::new().then(
                Enqueue::new("support")
                    .action("https://h.example.org/qa")
                    .wait_url("https://h.example.org/w")
                    .wait_url_method("POST"),
            ),
        ),
        (
            "enqueue with task",
            Response::new().then(
                EnqueueTask::new()
                    .workflow_sid("WW00000000000000000000000000000001")
                    .task(Task::new("{\"skill\":\"billing\"}")),
            ),
        ),
    ]
}

fn dials() -> Vec<(&'static str, Response)> {
    let dial = |dial: Dial| Response::new().then(dial);
    vec![
        (
            "dial number",
            dial(
                Dial::new()
                    .action("https://h.example.org/d")
                    .timeout(20)
                    .caller_id("+12025550100")
                    .answer_on_bridge(true)
                    .record("record-from-answer-dual")
                    .recording_status_callback("https://h.example.org/r")
                    .recording_status_callback_event("in-progress completed absent")
                    .number(
                        Number::new("+12025550171")
                            .status_callback("https://h.example.org/s")
                            .status_callback_event(EVENTS),
                    ),
            ),
        ),
        (
            "dial client with parameters",
            dial(
                Dial::new().timeout(15).identified(
                    IdentifiedClient::new()
                        .status_callback("https://h.example.org/s")
                        .status_callback_event(EVENTS)
                        .identity(Identity::new("agent_ana"))
                        .parameter(Parameter::new().name("call_id").value("c-1")),
                ),
            ),
        ),
        (
            "dial sip with headers",
            dial(
                Dial::new().sip(
                    Sip::new("sip:ana@pbx.example.org?x-mycustomheader=foo&x-other=bar")
                        .username("u")
                        .password("p"),
                ),
            ),
        ),
        (
            "dial two clients at once",
            dial(Dial::new().timeout(20).client(Client::new("agent_ana")).client(Client::new("agent_ben"))),
        ),
        (
            "dial one after the other",
            dial(
                Dial::new()
                    .timeout(20)
                    .sequential(true)
                    .number(Number::new("+12025550171"))
                    .number(Number::new("+12025550172")),
            ),
        ),
    ]
}

fn joins() -> Vec<(&'static str, Response)> {
    let dial = |dial: Dial| Response::new().then(dial);
    vec![
        (
            "dial queue",
            dial(
                Dial::new()
                    .action("https://h.example.org/d")
                    .queue(Queue::new("support").url("https://h.example.org/whisper")),
            ),
        ),
        (
            "dial conference, caller side",
            dial(
                Dial::new().conference(
                    Conference::new("room-1")
                        .start_on_enter(false)
                        .end_on_exit(true)
                        .beep("false")
                        .wait_url("https://h.example.org/w")
                        .wait_method("POST")
                        .participant_label("caller")
                        .status_callback("https://h.example.org/c")
                        .status_callback_event("start end join leave mute hold modify")
                        .record("record-from-start")
                        .recording_status_callback("https://h.example.org/r"),
                ),
            ),
        ),
        (
            "dial conference, supervisor coaching",
            dial(Dial::new().conference(
                Conference::new("room-1").coach("CA00000000000000000000000000000001").beep("false"),
            )),
        ),
    ]
}

#[test]
fn every_golden_document_is_written_byte_for_byte() {
    let goldens = goldens();
    let ours: Vec<_> = [words(), prompts(), dials(), joins()].concat();
    let names: Vec<_> = ours.iter().map(|(name, _)| *name).collect();
    assert_eq!(goldens.len(), 22);
    for name in goldens.keys() {
        assert!(names.contains(&name.as_str()), "nobody writes {name:?}");
    }
    for (name, response) in ours {
        assert_eq!(response.xml(), goldens[name], "{name}");
    }
}

#[test]
fn a_value_cannot_leave_its_place() {
    let response = Response::new()
        .then(Redirect::new("</Redirect><Hangup/>").method("\"/><Hangup a='"))
        .then(Say::new("a\u{0}b\u{ffff}c\u{1b}\nd"));
    assert_eq!(
        response.xml(),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>\
         <Redirect method=\"&quot;/&gt;&lt;Hangup a=&apos;\">&lt;/Redirect&gt;&lt;Hangup/&gt;</Redirect>\
         <Say>abc\nd</Say></Response>"
    );
}
