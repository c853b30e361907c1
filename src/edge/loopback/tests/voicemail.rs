//! Messages that callers leave, and queues that they wait in.

use super::*;

const RECORDS: &str = r#"<Say>Speak</Say><Record action="/recorded" recordingStatusCallback="/recording"/>"#;

#[tokio::test]
async fn a_caller_leaves_a_message_and_the_action_says_goodbye() {
    let world = World::start().await;
    world.engine.answers("/voice", RECORDS);
    world.engine.answers("/recorded", "<Hangup/>");
    let caller = world.place(CallPlan { patience_ms: Some(2_000), ..CallPlan::default() });
    world.leg(&caller, |leg| leg.recording).await;
    world.leg(&caller, |leg| leg.status == Status::Completed).await;
    world.engine.until("the recording", |engine| engine.got("/recording").len() == 1).await;
    let action = &world.engine.got("/recorded")[0];
    let ready = &world.engine.got("/recording")[0];
    assert_eq!((action.field("Digits"), action.field("RecordingDuration")), ("#", "1"));
    assert_eq!(action.field("RecordingSid"), ready.field("RecordingSid"));
    assert_eq!((ready.field("RecordingStatus"), ready.field("RecordingSource")), ("completed", "RecordVerb"));
    assert_eq!(ready.field("CallSid"), caller);
    let sound =
        world.client.get(ready.field("RecordingUrl")).basic_auth(ACCOUNT, Some(TOKEN)).send().await.unwrap();
    assert_eq!(sound.status().as_u16(), 200);
    assert!(sound.bytes().await.unwrap().starts_with(b"RIFF"));
    world.end().await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_while_speaking_leaves_a_message_too() {
    let world = World::start().await;
    world.engine.answers("/voice", RECORDS);
    let caller = world.place(CallPlan { record_ms: Some(60_000), ..CallPlan::default() });
    world.leg(&caller, |leg| leg.recording).await;
    assert!(world.carrier.hang_up(&caller));
    world.engine.until("the recording", |engine| engine.got("/recording").len() == 1).await;
    assert_eq!(world.engine.got("/recorded")[0].field("Digits"), "hangup");
    world.end().await;
}

#[tokio::test]
async fn a_queue_asks_its_wait_url_again_and_tells_when_the_caller_gives_up() {
    let world = World::start().await;
    world.engine.answers("/voice", r#"<Enqueue action="/queue-done" waitUrl="/wait">support</Enqueue>"#);
    world.engine.answers("/wait", "<Say>Please wait</Say>");
    let caller = world.place(CallPlan::default());
    world.engine.until("music again", |engine| engine.got("/wait").len() >= 3).await;
    assert!(world.carrier.hang_up(&caller));
    world.engine.until("the result", |engine| engine.got("/queue-done").len() == 1).await;
    let done = &world.engine.got("/queue-done")[0];
    assert_eq!((done.field("QueueResult"), done.field("CallStatus")), ("hangup", "completed"));
    assert_eq!(done.field("QueueSid"), world.engine.got("/wait")[0].field("QueueSid"));
    world.end().await;
}
