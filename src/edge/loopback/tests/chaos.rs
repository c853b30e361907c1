//! A carrier that misbehaves, and its controls over HTTP.

use super::*;

#[tokio::test]
async fn a_doubled_callback_keeps_its_token_and_a_lost_one_never_comes() {
    let world = World::start_with(Chaos { duplicate: 1.0, ..Chaos::default() }).await;
    world.engine.answers("/voice", "<Hangup/>");
    world.place(CallPlan::default());
    world.engine.until("both copies", |engine| engine.got("/status").len() == 2).await;
    let copies = world.engine.got("/status");
    assert_eq!((&copies[0].token, &copies[0].form), (&copies[1].token, &copies[1].form));
    world.carrier.set_chaos(Chaos { lose: 1.0, ..Chaos::default() });
    let caller = world.place(CallPlan::default());
    world.leg(&caller, |leg| leg.status == Status::Completed).await;
    assert_eq!(world.carrier.stats().webhooks_lost, 1);
    world.end().await;
}

#[tokio::test]
async fn a_failing_rest_side_does_the_work_half_of_the_time() {
    let world = World::start_with(Chaos { fail_500: 1.0, seed: 7, ..Chaos::default() }).await;
    let url = format!("{PUBLIC}/agent");
    for _ in 0..20 {
        let form = [("To", "client:ana"), ("From", NUMBER), ("Url", url.as_str())];
        let (status, body) = world.post("/Calls.json", &form).await;
        assert_eq!((status, body["code"].as_u64()), (500, Some(20500)));
    }
    let made = world.carrier.stats().legs_created;
    assert!((3..=17).contains(&made), "made {made} of 20");
    world.carrier.set_chaos(Chaos::default());
    let (_, found) = world.rest(Method::GET, "/Calls.json?To=client:ana&StartTime%3E=2020-01-01", &[]).await;
    assert_eq!(found["calls"].as_array().unwrap().len() as u64, made);
    assert_eq!(found["next_page_uri"], Value::Null);
    let (_, none) = world.rest(Method::GET, "/Calls.json?To=client:ana&StartTime%3E=2120-01-01", &[]).await;
    assert!(none["calls"].as_array().unwrap().is_empty());
    world.carrier.set_chaos(Chaos { refuse_429: 1.0, ..Chaos::default() });
    assert_eq!(world.rest(Method::GET, "/Calls.json", &[]).await.0, 429);
    world.end().await;
}

#[test]
fn the_same_seed_draws_the_same_fates() {
    use super::super::chaos::Mischief;
    let chaos = Chaos { seed: 42, lose: 0.3, reorder: 0.3, delay_ms: (1, 50), ..Chaos::default() };
    let draw =
        |mischief: &Mischief| (0..50).map(|_| format!("{:?}", mischief.callback())).collect::<Vec<_>>();
    let first = draw(&Mischief::new(chaos));
    assert_eq!(first, draw(&Mischief::new(chaos)));
    assert_ne!(first, draw(&Mischief::new(Chaos { seed: 43, ..chaos })));
    assert!(first.iter().any(|fate| fate == "Lost") && first.iter().any(|fate| fate.contains("Some")));
}

#[tokio::test]
async fn the_controls_are_served_over_http() {
    let world = World::start().await;
    world.engine.answers("/voice", "<Pause length=\"60\"/>");
    let base = format!("http://{}/loopback", world.carrier.local_addr());
    let send = |method: Method, path: &str, body: Value| {
        let request = world.client.request(method, format!("{base}{path}"));
        async move { request.basic_auth(ACCOUNT, Some(TOKEN)).json(&body).send().await.unwrap() }
    };
    let plan = serde_json::json!({ "from": CALLER, "to": NUMBER });
    let placed = send(Method::POST, "/calls", plan.clone()).await;
    assert_eq!(placed.status().as_u16(), 201);
    let sid = placed.json::<Value>().await.unwrap()["sid"].as_str().unwrap().to_owned();
    let shown: Value = send(Method::GET, &format!("/calls/{sid}"), Value::Null).await.json().await.unwrap();
    assert_eq!((shown["sid"].as_str(), shown["direction"].as_str()), (Some(sid.as_str()), Some("inbound")));
    let phone = serde_json::json!({ "outcome": "busy" });
    assert_eq!(send(Method::PUT, "/phones/client:ana", phone).await.status().as_u16(), 204);
    let agent = world.call_agent("ana").await;
    world.leg(&agent, |leg| leg.status == Status::Busy).await;
    assert_eq!(send(Method::POST, &format!("/calls/{sid}/hangup"), Value::Null).await.status().as_u16(), 202);
    world.leg(&sid, |leg| leg.status.is_final()).await;
    let figures: Value = send(Method::GET, "/stats", Value::Null).await.json().await.unwrap();
    assert_eq!((figures["calls_placed"].as_u64(), figures["calls_active"].as_u64()), (Some(1), Some(0)));
    assert!(figures["webhook_p99_ms"].as_f64().unwrap() > 0.0);
    send(Method::POST, "/stats/reset", Value::Null).await;
    assert_eq!(world.carrier.stats().calls_placed, 0);
    let nobody = world.client.post(format!("{base}/calls")).json(&plan).send().await.unwrap();
    assert_eq!(nobody.status().as_u16(), 401);
    world.end().await;
}
