//! What each request becomes.

use proptest::prelude::*;

use super::raw::TELLING;
use super::*;
use crate::edge::providers::twilio::form::parse as read;

fn form(text: &str) -> Fields {
    read(text.as_bytes()).unwrap()
}

fn news_of(kind: Kind, text: &str) -> News {
    match parse(kind, "twilio", &Vec::new(), &form(text)).unwrap() {
        Incoming::News(correlated) => correlated.news.news,
        Incoming::Arrival(arrival) => panic!("{arrival:?}"),
    }
}

#[test]
fn news_of_legs_becomes_neutral() {
    let leg = |status, end, answered_for: Option<u64>| News::Leg {
        status,
        end,
        answered_for: answered_for.map(Millis::from_secs),
    };
    for (why, kind, text, want) in [
        ("dialing", Kind::Status, "CallSid=CA1&CallStatus=initiated", leg(LegStatus::Dialing, None, None)),
        (
            "answered",
            Kind::Status,
            "CallSid=CA1&CallStatus=in-progress",
            leg(LegStatus::Connected, None, None),
        ),
        (
            "over",
            Kind::Status,
            "CallSid=CA1&CallStatus=completed&CallDuration=45",
            leg(LegStatus::Ended, Some(LegEnd::Normal), Some(45)),
        ),
        (
            "busy",
            Kind::Status,
            "CallSid=CA1&CallStatus=busy&CallDuration=0",
            leg(LegStatus::Ended, Some(LegEnd::Busy), Some(0)),
        ),
        ("an unknown status is kept only", Kind::Status, "CallSid=CA1&CallStatus=new-thing", News::Other),
        ("waits in the room", Kind::Wait, "CallSid=CA1&ConferenceSid=CF1", News::Document(Asked::Wait)),
        (
            "waits in a queue of Twilio's",
            Kind::Wait,
            "CallSid=CA1&QueuePosition=2&QueueTime=15",
            News::QueueReport { waited: Some(Millis::from_secs(15)), hung_up: false },
        ),
        (
            "gives up in it",
            Kind::DialAction,
            "CallSid=CA1&QueueResult=hangup&QueueTime=41",
            News::QueueReport { waited: Some(Millis::from_secs(41)), hung_up: true },
        ),
        (
            "dial failed",
            Kind::DialAction,
            "CallSid=CA1&DialCallStatus=busy&DialBridged=false",
            News::Document(Asked::Next { bridged: false }),
        ),
    ] {
        assert_eq!(news_of(kind, text), want, "{why}");
    }
}

#[test]
fn news_of_rooms_and_messages_becomes_neutral() {
    for (why, kind, text, want) in [
        (
            "left the room by hanging up",
            Kind::Conference,
            "CallSid=CA1&StatusCallbackEvent=participant-leave&ReasonParticipantLeft=participant_hung_up",
            News::Left { hung_up: true },
        ),
        (
            "left a message",
            Kind::DialAction,
            "CallSid=CA1&RecordingUrl=https://r&RecordingDuration=22&Digits=hangup",
            News::VoicemailLeft {
                recording_url: "https://r".into(),
                length: Some(Millis::from_secs(22)),
                hung_up: true,
            },
        ),
        (
            "left the room because it is over",
            Kind::Conference,
            "CallSid=CA1&StatusCallbackEvent=participant-leave&ParticipantCallStatus=completed",
            News::Left { hung_up: true },
        ),
        (
            "left the room but stays on the line",
            Kind::Conference,
            "CallSid=CA1&StatusCallbackEvent=participant-leave&ParticipantCallStatus=in-progress&ReasonParticipantLeft=moderator_ended_conference",
            News::Left { hung_up: false },
        ),
        (
            "found Twilio's queue full",
            Kind::DialAction,
            "CallSid=CA1&QueueResult=queue-full",
            News::Document(Asked::Next { bridged: false }),
        ),
    ] {
        assert_eq!(news_of(kind, text), want, "{why}");
    }
}

#[test]
fn news_of_dials_and_recordings_becomes_neutral() {
    for (why, kind, text, want) in [
        (
            "spoke, and asks on",
            Kind::DialAction,
            "CallSid=CA1&DialCallStatus=answered&DialBridged=true",
            News::Document(Asked::Next { bridged: true }),
        ),
        (
            "the dial's recording is no message",
            Kind::DialAction,
            "CallSid=CA1&DialCallStatus=busy&RecordingUrl=https://r",
            News::Document(Asked::Next { bridged: false }),
        ),
        (
            "a recording is ready",
            Kind::Recording,
            "CallSid=CA1&RecordingSid=RE1&RecordingStatus=in-progress&RecordingUrl=&RecordingDuration=x",
            News::Recording {
                recording_id: "RE1".into(),
                status: "in_progress".into(),
                url: None,
                length: None,
            },
        ),
        (
            "held, as Twilio confirms",
            Kind::Conference,
            "CallSid=CA1&StatusCallbackEvent=participant-hold",
            News::HoldChanged { held: true },
        ),
        (
            "the room opened",
            Kind::Conference,
            "ConferenceSid=CF1&StatusCallbackEvent=conference-start",
            News::Room { open: true },
        ),
        ("an agent's leg answered", Kind::Agent, "CallSid=CA1", News::Document(Asked::Answered)),
        (
            "a leg of ours that came to the voice address",
            Kind::Voice,
            "CallSid=CA1&Direction=outbound-api&CallStatus=in-progress",
            News::Document(Asked::Answered),
        ),
        ("keys are another matter", Kind::Gather, "CallSid=CA1&Digits=1", News::Other),
    ] {
        assert_eq!(news_of(kind, text), want, "{why}");
    }
}

#[test]
fn a_repetition_has_the_same_key_and_other_news_another() {
    let key = |kind, text: &str| match parse(kind, "twilio", &Vec::new(), &form(text)).unwrap() {
        Incoming::News(correlated) => correlated.news.raw.key,
        Incoming::Arrival(arrival) => arrival.raw.key,
    };
    let ringing = key(Kind::Status, "CallSid=CA1&CallStatus=ringing&SequenceNumber=1");
    assert_eq!(ringing, key(Kind::Status, "SequenceNumber=1&CallSid=CA1&CallStatus=ringing&New=field"));
    assert_ne!(ringing, key(Kind::Status, "CallSid=CA1&CallStatus=ringing&SequenceNumber=2"));
    assert_ne!(ringing, key(Kind::Wait, "CallSid=CA1&CallStatus=ringing&SequenceNumber=1"));
}

#[test]
fn callers_may_be_words_and_needed_fields_may_be_missing() {
    let arrival =
        parse(Kind::Voice, "twilio", &Vec::new(), &form("CallSid=CA1&From=anonymous&To=%2B12025550100"));
    match arrival.unwrap() {
        Incoming::Arrival(arrival) => assert_eq!(arrival.from, Address::Word("anonymous".into())),
        Incoming::News(news) => panic!("{news:?}"),
    }
    for text in ["", "From=a&To=b", "CallSid=&To=b"] {
        assert!(parse(Kind::Voice, "twilio", &Vec::new(), &form(text)).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_form_makes_it_panic(
        path in prop::sample::select(vec!["voice", "voice/fallback", "agent", "status", "conference", "wait", "hold", "dial-action", "gather", "recording", "amd", "messages", "messages/status"]),
        pairs in prop::collection::vec((prop::sample::select(TELLING.to_vec()), ".{0,20}"), 0..20),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut fields: Fields = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        fields.extend(read(&noise).unwrap_or_default());
        let _ = parse(Kind::of_path(path).unwrap(), "twilio", &fields.clone(), &fields);
    }
}

fn correlated(kind: Kind, query: &str, text: &str) -> Correlated {
    match parse(kind, "twilio", &form(query), &form(text)).unwrap() {
        Incoming::News(correlated) => *correlated,
        Incoming::Arrival(arrival) => panic!("{arrival:?}"),
    }
}

#[test]
fn our_own_ids_win_and_the_rooms_name_and_label_serve_too() {
    let (call, other) = (CallId::derived("twilio", "CA1"), CallId::derived("twilio", "CA2"));
    let leg = LegId::fresh();
    let found = correlated(
        Kind::Status,
        &format!("call={call}&leg={leg}"),
        &format!("CallSid=CA3&FriendlyName={other}"),
    );
    assert_eq!((found.call_id, found.news.leg.leg_id), (Some(call), Some(leg)));
    let found = correlated(
        Kind::Conference,
        "call=nonsense",
        &format!("CallSid=CA3&ConferenceSid=CF1&FriendlyName={call}&ParticipantLabel={leg}"),
    );
    assert_eq!((found.call_id, found.news.leg.leg_id), (Some(call), Some(leg)));
    assert_eq!(found.news.room.as_deref(), Some("CF1"));
    let found = correlated(Kind::Conference, "", "CallSid=CA3&FriendlyName=room-1&ParticipantLabel=caller");
    assert_eq!((found.call_id, found.news.leg.leg_id), (None, None));
    assert_eq!(found.names, ["CA3", "room-1"].map(Box::<str>::from));
}

#[test]
fn an_empty_id_is_no_id() {
    let found = correlated(Kind::Status, "", "CallSid=CA1&ParentCallSid=&ConferenceSid=&CallStatus=ringing");
    assert_eq!(found.news.leg.parent_id, None);
    assert_eq!(found.news.room, None);
    assert_eq!(found.names, ["CA1"].map(Box::<str>::from));
}

#[test]
fn only_legs_that_twilio_placed_have_their_far_end_in_to() {
    let at = |text| correlated(Kind::Status, "", text).news.leg.address;
    assert_eq!(at("CallSid=CA1&Direction=outbound-dial&To=client:ana"), Some(Address::Client("ana".into())));
    assert_eq!(at("CallSid=CA1&Direction=inbound&To=%2B12025550100"), None);
}

#[test]
fn the_fallback_tells_why_and_stays_a_document_for_our_own_legs() {
    let text = "CallSid=CA1&From=a&To=b&ErrorCode=11200";
    match parse(Kind::Fallback, "twilio", &Vec::new(), &form(text)).unwrap() {
        Incoming::Arrival(arrival) => assert_eq!(arrival.fallback.as_deref(), Some("11200")),
        Incoming::News(news) => panic!("{news:?}"),
    }
    let call = CallId::derived("twilio", "CA9");
    let found = correlated(Kind::Fallback, &format!("call={call}"), text);
    assert_eq!(found.news.news, News::Document(Asked::Answered));
}

#[test]
fn a_request_is_kept_whole_under_a_short_name() {
    let text = format!("CallSid=CA1&CallStatus={}&Brand_New=1&Brand_New=2&Empty=", "é".repeat(60));
    let raw = correlated(Kind::Status, "", &text).news.raw;
    let kept: serde_json::Value = serde_json::from_str(raw.fields.get()).unwrap();
    assert_eq!(kept["Brand_New"], serde_json::json!(["1", "2"]));
    assert_eq!(kept["Empty"], "");
    assert_eq!(&*raw.name, format!("status:{}", "é".repeat(24)));
}
