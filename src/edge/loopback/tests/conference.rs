//! Callers and agents who meet in a conference.

use super::*;

const WAITS: &str = r#"<Dial action="/caller-done"><Conference startConferenceOnEnter="false"
    endConferenceOnExit="true" participantLabel="caller" waitUrl="/wait?call=c1&amp;x=1"
    statusCallback="/conference" statusCallbackEvent="start end join leave mute hold">c1</Conference></Dial>"#;
const JOINS: &str = r#"<Dial action="/agent-done"><Conference participantLabel="agent:ana"
    statusCallback="/ignored" statusCallbackEvent="join">c1</Conference></Dial>"#;

async fn world() -> World {
    let world = World::start().await;
    world.engine.answers("/voice", WAITS);
    world.engine.answers("/agent", JOINS);
    world.engine.answers("/wait", r#"<Play loop="0">https://example.org/music.mp3</Play>"#);
    world.engine.answers("/hold", r#"<Play loop="0">https://example.org/hold.mp3</Play>"#);
    world.engine.answers("/agent-done", "<Hangup/>");
    world
}

async fn bridged(world: &World, plan: CallPlan) -> (String, String) {
    let caller = world.place(plan);
    world.leg(&caller, |leg| leg.conference.is_some()).await;
    let agent = world.call_agent("ana").await;
    world.leg(&caller, |leg| leg.bridged).await;
    world.leg(&agent, |leg| leg.bridged).await;
    (caller, agent)
}

#[tokio::test]
async fn a_waiting_caller_is_joined_by_an_agent_and_hangs_up() {
    let world = world().await;
    let (caller, agent) = bridged(&world, CallPlan { talk_ms: Some(80), ..CallPlan::default() }).await;
    let ended = world.leg(&caller, |leg| leg.status.is_final()).await;
    assert_eq!((ended.status, ended.was_bridged), (Status::Completed, true));
    world.leg(&agent, |leg| leg.status == Status::Completed).await;
    world.engine.until("the end of both legs", |engine| engine.got("/agent-status").len() == 4).await;
    world.engine.until("the end of the caller", |engine| engine.got("/status").len() == 1).await;
    world.engine.until("the end of the room", |engine| engine.events().len() == 6).await;

    let first = &world.engine.got("/voice")[0];
    assert_eq!(
        ["CallSid", "CallStatus", "Direction", "From", "To", "AccountSid"].map(|name| first.field(name)),
        [caller.as_str(), "ringing", "inbound", CALLER, NUMBER, ACCOUNT]
    );
    let waiting = &world.engine.got("/wait")[0];
    assert_eq!((waiting.query.as_str(), waiting.field("CallStatus")), ("call=c1&x=1", "in-progress"));
    assert_eq!(
        world.engine.events(),
        [
            "participant-join",
            "participant-join",
            "conference-start",
            "participant-leave",
            "conference-end",
            "participant-leave"
        ]
    );
    let rooms = world.engine.got("/conference");
    let numbers: Vec<_> = rooms.iter().map(|got| got.field("SequenceNumber")).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(rooms[4].field("ReasonConferenceEnded"), "participant-with-end-conference-on-exit-left");
    assert_eq!(rooms[4].field("CallSidEndingConference"), caller);
    assert_eq!(
        (rooms[3].field("ReasonParticipantLeft"), rooms[3].field("ParticipantCallStatus")),
        ("participant_hung_up", "completed")
    );
    assert_eq!(
        (rooms[5].field("ReasonParticipantLeft"), rooms[5].field("ParticipantCallStatus")),
        ("moderator_ended_conference", "in-progress")
    );
    assert_eq!(world.engine.got("/ignored").len(), 0, "callbacks belong to the first participant");

    let done = &world.engine.got("/agent-done")[0];
    assert_eq!((done.field("DialCallStatus"), done.field("DialBridged")), ("answered", "true"));
    assert_eq!(done.field("DialCallSid"), "");
    assert_eq!(world.engine.got("/caller-done").len(), 0, "who hangs up is not asked what to do");
    let told = world.engine.got("/agent-status");
    let order: Vec<_> =
        told.iter().map(|got| (got.field("SequenceNumber"), got.field("CallStatus"))).collect();
    assert_eq!(order, [("0", "initiated"), ("1", "ringing"), ("2", "in-progress"), ("3", "completed")]);
    assert_eq!((told[3].field("SipResponseCode"), told[3].query.as_str()), ("200", "leg=l2"));
    assert_eq!(world.engine.got("/status")[0].field("SequenceNumber"), "0");
    assert_eq!(world.carrier.stats().calls_completed, 1);
    world.end().await;
}

#[tokio::test]
async fn the_agent_hangs_up_and_the_action_decides_about_the_caller() {
    let world = world().await;
    world.engine.answers("/voice", &WAITS.replace(r#"endConferenceOnExit="true""#, ""));
    world
        .engine
        .answers("/agent", &JOINS.replace("<Conference ", r#"<Conference endConferenceOnExit="true" "#));
    world.engine.answers("/caller-done", "<Say>Goodbye</Say><Hangup/>");
    let (caller, agent) = bridged(&world, CallPlan::default()).await;
    assert!(world.carrier.hang_up(&agent));
    world.leg(&caller, |leg| leg.status == Status::Completed).await;
    let done = &world.engine.got("/caller-done")[0];
    assert_eq!((done.field("CallSid"), done.field("DialCallStatus")), (caller.as_str(), "answered"));
    assert_eq!(world.engine.got("/agent-done").len(), 0);
    world.end().await;
}

#[tokio::test]
async fn hold_plays_music_apart_and_unhold_joins_again() {
    let world = world().await;
    let (caller, agent) = bridged(&world, CallPlan::default()).await;
    let room = world.carrier.leg(&caller).unwrap().conference_sid.unwrap();
    let named = "/Conferences.json?FriendlyName=c1&Status=in-progress";
    let (_, found) = world.rest(Method::GET, named, &[]).await;
    assert_eq!(found["conferences"][0]["sid"], room.as_str());
    let (_, found) = world.rest(Method::GET, "/Conferences.json?FriendlyName=other", &[]).await;
    assert_eq!(found["conferences"], serde_json::json!([]));
    let seat = format!("/Conferences/{room}/Participants/{caller}.json");
    let music = format!("{PUBLIC}/hold?call=c1");
    let (status, body) = world.post(&seat, &[("Hold", "true"), ("HoldUrl", &music)]).await;
    assert_eq!((status, body["hold"].as_bool()), (200, Some(true)));
    world.leg(&caller, |leg| leg.held && !leg.bridged).await;
    world.engine.until("hold music", |engine| engine.got("/hold").len() == 1).await;
    let asked = &world.engine.got("/hold")[0];
    assert_eq!(asked.method, Method::GET, "hold music is asked for by GET unless told otherwise");
    assert!(asked.query.starts_with("call=c1&AccountSid="));
    world.post(&seat.replace(&room, "c1"), &[("Hold", "false"), ("Muted", "true")]).await;
    world.leg(&caller, |leg| leg.bridged).await;
    world.engine.until("all changes", |engine| engine.events().len() == 6).await;
    assert_eq!(world.engine.events()[3..], ["participant-hold", "participant-mute", "participant-unhold"]);
    let (status, _) =
        world.rest(Method::DELETE, &format!("/Conferences/{room}/Participants/{agent}.json"), &[]).await;
    assert_eq!(status, 204);
    world.leg(&agent, |leg| leg.status == Status::Completed).await;
    world.leg(&caller, |leg| leg.conference.is_some() && !leg.bridged).await;
    world.post(&format!("/Conferences/{room}.json"), &[("Status", "completed")]).await;
    world.leg(&caller, |leg| leg.status == Status::Completed).await;
    world.engine.until("the end", |engine| engine.events().len() == 9).await;
    assert_eq!(world.engine.got("/conference")[7].field("ReasonConferenceEnded"), "conference-ended-via-api");
    world.end().await;
}

#[tokio::test]
async fn the_same_room_name_gets_a_new_conference_each_time() {
    let world = world().await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let caller = world.place(CallPlan { patience_ms: Some(60), ..CallPlan::default() });
        let leg = world.leg(&caller, |leg| leg.conference_sid.is_some()).await;
        seen.push(leg.conference_sid.unwrap());
        let ended = world.leg(&caller, |leg| leg.status.is_final()).await;
        assert_eq!((ended.status, ended.was_bridged), (Status::Completed, false));
    }
    assert_ne!(seen[0], seen[1]);
    assert_eq!(world.carrier.stats().calls_gave_up, 2);
    let (status, body) =
        world.post(&format!("/Conferences/{}.json", seen[0]), &[("Status", "completed")]).await;
    assert_eq!((status, body["code"].as_u64()), (404, Some(20404)));
    world.end().await;
}

#[tokio::test]
async fn agents_who_cannot_be_reached_are_reported_as_such() {
    let world = world().await;
    for (outcome, status, sip, events) in [
        (Outcome::Busy, Status::Busy, "486", vec!["initiated", "busy"]),
        (Outcome::NoAnswer, Status::NoAnswer, "487", vec!["initiated", "ringing", "no-answer"]),
        (Outcome::Fail, Status::Failed, "404", vec!["initiated", "failed"]),
    ] {
        world
            .carrier
            .set_phone("client:ana", PhonePlan { outcome, answer_after_ms: 20, ..PhonePlan::default() });
        let agent = world.call_agent("ana").await;
        world.leg(&agent, |leg| leg.status == status).await;
        let count = events.len();
        world.engine.until("the end", |it| it.statuses("/agent-status", &agent).len() == count).await;
        assert_eq!(world.engine.statuses("/agent-status", &agent), events);
        let last = world.engine.got("/agent-status").pop().unwrap();
        assert_eq!((last.field("SipResponseCode"), last.field("CallDuration")), (sip, "0"));
    }
    assert_eq!(world.engine.got("/agent").len(), 0, "nobody answered, so no document is asked for");
    world.end().await;
}

#[tokio::test]
async fn a_ringing_leg_can_be_canceled_once() {
    let world = world().await;
    world.carrier.set_phone("ana", PhonePlan { answer_after_ms: 60_000, ..PhonePlan::default() });
    let agent = world.call_agent("ana").await;
    world.leg(&agent, |leg| leg.status == Status::Ringing).await;
    let path = format!("/Calls/{agent}.json");
    assert_eq!(world.post(&path, &[("Url", &format!("{PUBLIC}/agent"))]).await.1["code"], 21220);
    assert_eq!(world.post(&path, &[("Status", "canceled")]).await.0, 200);
    world.leg(&agent, |leg| leg.status == Status::Canceled).await;
    let (status, body) = world.post(&path, &[("Status", "canceled")]).await;
    assert_eq!((status, body["code"].as_u64()), (400, Some(21220)));
    let (_, shown) = world.rest(Method::GET, &path, &[]).await;
    assert_eq!(shown["status"], "canceled");
    world.end().await;
}

#[tokio::test]
async fn a_live_leg_can_be_sent_elsewhere_without_its_dial_action() {
    let world = world().await;
    world.engine.answers("/voicemail", "<Pause length=\"60\"/>");
    let (caller, agent) = bridged(&world, CallPlan::default()).await;
    let (status, _) = world
        .post(&format!("/Calls/{caller}.json"), &[("Url", &format!("{PUBLIC}/voicemail?why=timeout"))])
        .await;
    assert_eq!(status, 200);
    world.engine.until("the new document", |engine| engine.got("/voicemail").len() == 1).await;
    world.leg(&agent, |leg| leg.status == Status::Completed).await;
    let leg = world.leg(&caller, |leg| leg.conference.is_none()).await;
    assert_eq!(leg.status, Status::InProgress);
    assert_eq!(world.engine.got("/caller-done").len(), 0);
    world.end().await;
}
