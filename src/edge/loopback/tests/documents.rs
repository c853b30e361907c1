//! Documents: fallbacks, redirects, refusals, children; and refusals of the REST side.

use super::*;

#[tokio::test]
async fn the_fallback_is_asked_when_the_voice_url_answers_500() {
    let world = World::start().await;
    world.engine.fails("/voice", 99);
    world.engine.answers("/fallback", "<Say>One moment</Say><Redirect>/again?x=1</Redirect>");
    world.engine.answers("/again", "<Hangup/>");
    let caller = world.place(CallPlan::default());
    world.leg(&caller, |leg| leg.status == Status::Completed).await;
    assert_eq!(world.engine.got("/voice").len(), 1, "without #rp a 500 is not repeated");
    let asked = &world.engine.got("/fallback")[0];
    assert_eq!(asked.field("ErrorCode"), "11200");
    assert_eq!(asked.field("ErrorUrl"), format!("{PUBLIC}/voice"));
    assert_eq!(world.engine.got("/again")[0].query, "x=1");
    assert_eq!(world.carrier.stats().fallbacks, 1);
    world.end().await;
}

#[tokio::test]
async fn a_document_that_is_no_xml_leads_to_the_fallback_with_a_parse_error() {
    let world = World::start().await;
    world.engine.documents.lock().unwrap().insert("/voice".into(), "<Response><Say>".into());
    world.engine.answers("/fallback", "<Reject reason=\"busy\"/>");
    let caller = world.place(CallPlan::default());
    world.leg(&caller, |leg| leg.status == Status::Busy).await;
    assert_eq!(world.engine.got("/fallback")[0].field("ErrorCode"), "12100");
    world.end().await;
}

#[tokio::test]
async fn retries_follow_the_fragment_and_keep_their_token() {
    let world = World::start().await;
    world.engine.answers("/voice", "<Hangup/>");
    world.engine.fails("/status", 2);
    let caller = world.place(CallPlan::default());
    world.engine.until("all tries", |engine| engine.got("/status").len() == 3).await;
    let tries = world.engine.got("/status");
    assert!(tries.iter().all(|got| got.token == tries[0].token && got.token.len() == 36));
    assert!(tries.iter().all(|got| got.query == "of=number" && got.field("CallSid") == caller));
    assert_ne!(world.engine.got("/voice")[0].token, tries[0].token);
    assert_eq!(world.carrier.stats().webhooks_retried, 2);
    world.end().await;
}

#[tokio::test]
async fn a_dialled_client_is_a_child_leg_and_the_action_hears_of_it() {
    let world = World::start().await;
    world.engine.answers(
        "/voice",
        r#"<Dial action="/done" timeout="5"><Client statusCallback="/child"
           statusCallbackEvent="initiated ringing answered completed">bob</Client></Dial>"#,
    );
    world
        .carrier
        .set_phone("bob", PhonePlan { talk_ms: Some(60), answer_after_ms: 10, ..PhonePlan::default() });
    let caller = world.place(CallPlan::default());
    world.leg(&caller, |leg| leg.status == Status::Completed).await;
    let child = world.carrier.legs_to("client:bob").pop().unwrap();
    assert_eq!((child.parent_call_sid.as_deref(), child.status), (Some(caller.as_str()), Status::Completed));
    let done = &world.engine.got("/done")[0];
    assert_eq!(
        ["DialCallStatus", "DialCallSid", "DialCallDuration", "DialBridged"].map(|name| done.field(name)),
        ["completed", child.sid.as_str(), "1", "true"]
    );
    world.engine.until("the child's end", |engine| engine.got("/child").len() == 4).await;
    assert_eq!(world.engine.got("/child")[0].field("ParentCallSid"), caller);
    world.end().await;
}

#[tokio::test]
async fn the_rest_side_refuses_as_the_real_one() {
    let world = World::start().await;
    let url = format!("{PUBLIC}/agent");
    for (why, form, code) in [
        ("no number", vec![("From", NUMBER), ("Url", &url)], 21201),
        ("no caller", vec![("To", CALLER), ("Url", &url)], 21213),
        ("a bad number", vec![("To", "12025550143"), ("From", NUMBER), ("Url", &url)], 21211),
        ("a foreign caller", vec![("To", CALLER), ("From", "+12025550199"), ("Url", &url)], 21210),
        ("no document", vec![("To", CALLER), ("From", NUMBER)], 21205),
        ("a host with _", vec![("To", CALLER), ("From", NUMBER), ("Url", "http://a_b/c")], 21205),
        ("names by case", vec![("to", CALLER), ("From", NUMBER), ("Url", &url)], 21201),
    ] {
        let (status, body) = world.post("/Calls.json", &form).await;
        assert_eq!(
            (status, body["code"].as_u64(), body["status"].as_u64()),
            (400, Some(code), Some(400)),
            "{why}"
        );
    }
    assert_eq!(world.post("/Calls/CA00.json", &[("Status", "completed")]).await.1["code"], 20404);
    let address = format!("http://{}/2010-04-01/Accounts/{ACCOUNT}/Calls.json", world.carrier.local_addr());
    let stranger = world.client.get(address).basic_auth(ACCOUNT, Some("wrong")).send().await.unwrap();
    assert_eq!(stranger.status().as_u16(), 401);
    assert_eq!(stranger.json::<Value>().await.unwrap()["code"], 20003);
    world.end().await;
}

#[test]
fn documents_are_read_into_verbs() {
    use super::super::twiml::{Link, Noun, Verb, read};
    let text = r#"<?xml version="1.0" encoding="UTF-8"?><Response><!-- hello --><Say>a &amp; b</Say>
        <Nonsense/><Redirect method="GET">/x?a=1&amp;b=2</Redirect>
        <Dial action="/a?b=1&amp;c=2">+12025550143</Dial></Response>"#;
    let document = read(text).unwrap();
    assert_eq!(document.unknown, 1);
    assert_eq!(document.verbs[0], Verb::Say { times: Some(1) });
    assert_eq!(document.verbs[1], Verb::Redirect(Link { url: "/x?a=1&b=2".into(), get: true }));
    let Verb::Dial(dial) = &document.verbs[2] else { panic!("not a dial: {:?}", document.verbs[2]) };
    assert_eq!(dial.action, Some(Link { url: "/a?b=1&c=2".into(), get: false }));
    assert!(matches!(&dial.nouns[..], [Noun::Phone { to, .. }] if to == "+12025550143"));
    assert!(read("").unwrap().verbs.is_empty());
    for broken in
        ["<Response>", "hello", "<Reply/>", "<Response></Dial></Response>", "<Response>&nope;</Response>"]
    {
        assert!(read(broken).is_err(), "{broken}");
    }
}
