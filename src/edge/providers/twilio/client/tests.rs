//! What is sent for each order, and what each kind of answer means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wiremock::matchers::{basic_auth, body_string, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::domain::time::Timestamp;
use crate::edge::providers::twilio::form;

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const CALL_SID: &str = "CA00000000000000000000000000000001";

fn settings(api_base: &str) -> TwilioSettings {
    TwilioSettings {
        name: "twilio".to_owned(),
        account_sid: ACCOUNT.to_owned(),
        auth_token: "secret-token".to_owned(),
        auth_token_next: None,
        api_base: api_base.to_owned(),
        public_url: "https://hooks.example.org".to_owned(),
        calls_per_second: 0,
    }
}

fn client(api_base: &str) -> TwilioClient {
    TwilioClient::new(settings(api_base), Metrics::new()).unwrap()
}

fn resource(rest: &str) -> String {
    format!("/2010-04-01/Accounts/{ACCOUNT}/{rest}.json")
}

fn ids() -> (CallId, LegId, AttemptId) {
    (CallId::derived("t", "1"), LegId::derived("t", "1"), AttemptId::derived("t", "1"))
}

fn place() -> CarrierOrder {
    CarrierOrder::Place {
        attempt: ids().2,
        to: Address::reported("client:agent_ana"),
        from: Address::reported("+12025550100"),
        ring: Millis(19_500),
    }
}

fn find(placed_at: Timestamp) -> CarrierOrder {
    CarrierOrder::Find {
        to: Address::reported("client:agent_ana"),
        from: Address::reported("+12025550100"),
        placed_at,
    }
}

fn end(answered: bool) -> CarrierOrder {
    CarrierOrder::End { provider_id: CALL_SID.into(), answered }
}

async fn carry_out(client: &TwilioClient, order: CarrierOrder) -> OrderResult {
    let (call_id, leg_id, _) = ids();
    client.carry_out(call_id, leg_id, order).await
}

fn done(sid: Option<&str>) -> OrderResult {
    OrderResult::Done { provider_id: sid.map(Into::into) }
}

fn created() -> ResponseTemplate {
    ResponseTemplate::new(201).set_body_json(json!({"sid": CALL_SID, "status": "queued"}))
}

fn refusal(status: u16, code: u32) -> ResponseTemplate {
    ResponseTemplate::new(status)
        .set_body_json(json!({"code": code, "message": "no", "more_info": "", "status": status}))
}

/// The one request that came, as form fields.
async fn sent(server: &MockServer) -> form::Fields {
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1);
    form::parse(&requests[0].body).unwrap()
}

/// A server that reads one request per connection and then does as told; counts the requests.
async fn misbehaving(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 16 * 1024];
            if stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (base, count)
}

#[tokio::test]
async fn a_new_leg_is_ordered_with_exactly_these_fields() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(resource("Calls")))
        .and(basic_auth(ACCOUNT, "secret-token"))
        .and(header("content-type", "application/x-www-form-urlencoded"))
        .respond_with(created())
        .mount(&server)
        .await;
    assert_eq!(carry_out(&client(&server.uri()), place()).await, done(Some(CALL_SID)));
    let (call, leg, attempt) = ids();
    let hooks = "https://hooks.example.org/webhooks/twilio";
    let ours = format!("call={call}&leg={leg}&attempt={attempt}");
    let document = "#ct=2000&rt=6000&rc=2&rp=all&tt=14500";
    let want = [
        ("To", "client:agent_ana".to_owned()),
        ("From", "+12025550100".to_owned()),
        ("Url", format!("{hooks}/agent?{ours}{document}")),
        ("Method", "POST".to_owned()),
        ("FallbackUrl", format!("{hooks}/voice/fallback?call={call}{document}")),
        ("FallbackMethod", "POST".to_owned()),
        ("StatusCallback", format!("{hooks}/status?{ours}#rc=3&rp=all")),
        ("StatusCallbackMethod", "POST".to_owned()),
        ("Timeout", "20".to_owned()),
        ("StatusCallbackEvent", "initiated".to_owned()),
        ("StatusCallbackEvent", "ringing".to_owned()),
        ("StatusCallbackEvent", "answered".to_owned()),
        ("StatusCallbackEvent", "completed".to_owned()),
    ];
    let want: form::Fields = want.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(sent(&server).await, want);
}

#[tokio::test]
async fn an_unclear_answer_to_a_new_leg_is_in_doubt_and_never_repeated() {
    for (why, answer) in [
        ("a server error", refusal(500, 20500)),
        ("unavailable", refusal(503, 20503)),
        ("given up on the way", ResponseTemplate::new(408)),
        ("sent elsewhere", ResponseTemplate::new(307).insert_header("location", "/elsewhere")),
        ("no sid", ResponseTemplate::new(201).set_body_string("{}")),
        ("no JSON", ResponseTemplate::new(201).set_body_string("<html>")),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(answer).expect(1).mount(&server).await;
        assert_eq!(carry_out(&client(&server.uri()), place()).await, OrderResult::InDoubt, "{why}");
        server.verify().await;
    }
}

#[tokio::test]
async fn a_connection_lost_after_sending_is_in_doubt_and_never_repeated() {
    for answer in ["", "HTTP/1.1 201 Created\r\ncontent-length: 900\r\n\r\n{\"sid\":"] {
        let (base, count) = misbehaving(answer).await;
        assert_eq!(carry_out(&client(&base), place()).await, OrderResult::InDoubt, "{answer}");
        assert_eq!(count.load(Ordering::SeqCst), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_refusal_tells_its_code_and_is_not_repeated() {
    for (answer, code) in [
        (refusal(400, 21211), 21211),
        (refusal(401, 20003), 20003),
        (ResponseTemplate::new(404).set_body_string("gone"), 404),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(answer).expect(1).mount(&server).await;
        assert_eq!(carry_out(&client(&server.uri()), place()).await, OrderResult::Refused { code });
        server.verify().await;
    }
}

#[tokio::test]
async fn a_new_leg_refused_for_the_rate_is_ordered_again() {
    let server = MockServer::start().await;
    for answer in [refusal(429, 20429), ResponseTemplate::new(429)] {
        Mock::given(method("POST")).respond_with(answer).up_to_n_times(1).mount(&server).await;
    }
    Mock::given(method("POST")).respond_with(created()).expect(1).mount(&server).await;
    assert_eq!(carry_out(&client(&server.uri()), place()).await, done(Some(CALL_SID)));
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_new_leg_refused_for_the_rate_is_given_up_in_the_end() {
    let server = MockServer::start().await;
    let times = u64::try_from(transport::REPETITIONS).unwrap() + 1;
    Mock::given(method("POST")).respond_with(refusal(429, 20429)).expect(times).mount(&server).await;
    assert_eq!(carry_out(&client(&server.uri()), place()).await, OrderResult::Refused { code: 20429 });
    server.verify().await;
}

#[tokio::test]
async fn a_new_leg_that_never_reached_twilio_is_refused_not_in_doubt() {
    // Bound and dropped: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = client(&format!("http://127.0.0.1:{port}"));
    assert_eq!(carry_out(&client, place()).await, OrderResult::Refused { code: UNREACHED });
}

#[tokio::test]
async fn new_legs_are_spread_over_time() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(created()).mount(&server).await;
    let paced = TwilioSettings { calls_per_second: 10, ..settings(&server.uri()) };
    let client = TwilioClient::new(paced, Metrics::new()).unwrap();
    let started = Instant::now();
    let all = futures_util::future::join_all((0..4).map(|_| carry_out(&client, place()))).await;
    assert!(all.iter().all(|result| *result == done(Some(CALL_SID))));
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
}

fn listed(sid: &str, status: &str, start: Option<&str>, created: &str) -> serde_json::Value {
    json!({"sid": sid, "status": status, "start_time": start, "date_created": created})
}

#[tokio::test]
async fn a_leg_in_doubt_is_found_on_a_later_page() {
    let server = MockServer::start().await;
    let page = resource("Calls");
    let next = format!("{page}?PageToken=x&PageSize=100");
    Mock::given(method("GET"))
        .and(path(&page))
        .and(query_param("To", "client:agent_ana"))
        .and(query_param("From", "+12025550100"))
        // Twilio's clock may be a little behind ours, so the search begins before midnight.
        .and(query_param("StartTime>", "2026-03-01"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({
            "calls": [
                listed("CA-over", "completed", Some("Mon, 02 Mar 2026 00:00:03 +0000"), ""),
                listed("CA-old", "in-progress", Some("Sun, 01 Mar 2026 23:59:00 +0000"), ""),
                listed("CA-old-too", "queued", None, "Sun, 01 Mar 2026 23:59:00 +0000"),
            ],
            "next_page_uri": next,
        })))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(path(&page))
        .and(query_param("PageToken", "x"))
        .and(basic_auth(ACCOUNT, "secret-token"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({
            "calls": [listed(CALL_SID, "queued", Some(""), "Mon, 02 Mar 2026 00:00:01 +0000")],
            "next_page_uri": null,
        })))
        .mount(&server)
        .await;
    let placed_at = Timestamp::from_rfc2822("Mon, 02 Mar 2026 00:00:02 +0000").unwrap();
    assert_eq!(carry_out(&client(&server.uri()), find(placed_at)).await, done(Some(CALL_SID)));
}

#[tokio::test]
async fn a_search_asks_again_before_it_says_that_there_is_no_such_leg() {
    let server = MockServer::start().await;
    let empty = ResponseTemplate::new(200).set_body_json(json!({"calls": [], "next_page_uri": null}));
    let times = u64::try_from(search::SEARCHES).unwrap();
    Mock::given(method("GET")).respond_with(empty).expect(times).mount(&server).await;
    assert_eq!(
        carry_out(&client(&server.uri()), find(Timestamp::from_millis(0))).await,
        OrderResult::NotFound
    );
    server.verify().await;
}

#[tokio::test]
async fn a_search_takes_our_secret_to_no_other_host() {
    let (server, other) = (MockServer::start().await, MockServer::start().await);
    let list = json!({"calls": [], "next_page_uri": format!("@{}/steal", other.address())});
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(list))
        .mount(&server)
        .await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(200)).expect(0).mount(&other).await;
    let (to, from) = (Address::reported("client:a"), Address::reported("client:b"));
    let found = client(&server.uri()).search(&to, &from, Timestamp::from_millis(0)).await;
    assert_eq!(found, OrderResult::InDoubt);
    other.verify().await;
}

#[tokio::test]
async fn a_ringing_leg_is_canceled_and_one_answered_meanwhile_is_ended() {
    let server = MockServer::start().await;
    let leg = resource(&format!("Calls/{CALL_SID}"));
    Mock::given(method("POST"))
        .and(path(&leg))
        .and(body_string("Status=canceled"))
        .respond_with(refusal(400, WRONG_STATE))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path(&leg))
        .and(body_string("Status=completed"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"sid": CALL_SID})))
        .expect(1)
        .mount(&server)
        .await;
    assert_eq!(carry_out(&client(&server.uri()), end(false)).await, done(None));
    server.verify().await;
}

#[tokio::test]
async fn a_leg_that_is_gone_is_ended() {
    for answer in [refusal(404, UNKNOWN), refusal(400, WRONG_STATE), ResponseTemplate::new(404)] {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        for answered in [false, true] {
            assert_eq!(carry_out(&client(&server.uri()), end(answered)).await, done(None));
        }
    }
}

#[tokio::test]
async fn a_change_is_repeated_after_a_server_error() {
    let server = MockServer::start().await;
    let broken = refusal(500, 20500);
    Mock::given(method("POST")).respond_with(broken).up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).expect(1).mount(&server).await;
    assert_eq!(carry_out(&client(&server.uri()), end(true)).await, done(None));
    server.verify().await;
}

#[tokio::test]
async fn hold_names_music_and_resume_does_not() {
    let (call, ..) = ids();
    let hold_url = format!(
        "https://hooks.example.org/webhooks/twilio/hold?call={call}#ct=2000&rt=6000&rc=2&rp=all&tt=14500"
    );
    for (held, want) in [
        (true, vec![("Hold", "true".to_owned()), ("HoldUrl", hold_url), ("HoldMethod", "POST".to_owned())]),
        (false, vec![("Hold", "false".to_owned())]),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path(resource(&format!("Conferences/CF1/Participants/{CALL_SID}"))))
            .respond_with(ResponseTemplate::new(200))
            .mount(&server)
            .await;
        let order = CarrierOrder::Hold { provider_id: CALL_SID.into(), room: "CF1".into(), held };
        assert_eq!(carry_out(&client(&server.uri()), order).await, done(None));
        let want: form::Fields = want.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(sent(&server).await, want);
    }
}

#[tokio::test]
async fn a_room_known_by_name_only_is_looked_up() {
    let (call, ..) = ids();
    let list =
        |rooms: serde_json::Value| ResponseTemplate::new(200).set_body_json(json!({ "conferences": rooms }));
    for (why, found, want) in [
        ("found", list(json!([{"sid": "CF1"}, {"sid": "CF2"}])), done(None)),
        ("no such room", list(json!([])), OrderResult::NotFound),
        ("the search is refused", refusal(403, 20003), OrderResult::Refused { code: 20003 }),
        ("no list", ResponseTemplate::new(200), OrderResult::InDoubt),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path(resource("Conferences")))
            .and(query_param("FriendlyName", call.to_string()))
            .and(query_param("Status", "in-progress"))
            .respond_with(found)
            .mount(&server)
            .await;
        Mock::given(method("POST"))
            .and(path(resource(&format!("Conferences/CF1/Participants/{CALL_SID}"))))
            .and(body_string("Hold=false"))
            .respond_with(ResponseTemplate::new(200))
            .expect(u64::from(want == done(None)))
            .mount(&server)
            .await;
        let order =
            CarrierOrder::Hold { provider_id: CALL_SID.into(), room: call.to_string().into(), held: false };
        assert_eq!(carry_out(&client(&server.uri()), order).await, want, "{why}");
        server.verify().await;
    }
}

#[tokio::test]
async fn a_check_tells_whether_a_leg_lives() {
    let status = |word| ResponseTemplate::new(200).set_body_json(json!({"sid": CALL_SID, "status": word}));
    for (why, answer, want) in [
        ("it talks", status("in-progress"), done(None)),
        ("it rings", status("ringing"), done(None)),
        ("it is over", status("completed"), OrderResult::NotFound),
        ("nobody knows it", refusal(404, UNKNOWN), OrderResult::NotFound),
        ("we may not ask", refusal(401, 20003), OrderResult::Refused { code: 20003 }),
        ("no JSON", ResponseTemplate::new(200), OrderResult::InDoubt),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path(resource(&format!("Calls/{CALL_SID}"))))
            .respond_with(answer)
            .mount(&server)
            .await;
        let order = CarrierOrder::Check { provider_id: CALL_SID.into() };
        assert_eq!(carry_out(&client(&server.uri()), order).await, want, "{why}");
    }
}

#[tokio::test]
async fn a_redirected_leg_asks_what_next() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(resource(&format!("Calls/{CALL_SID}"))))
        .respond_with(ResponseTemplate::new(200))
        .mount(&server)
        .await;
    let order = CarrierOrder::Redirect { provider_id: CALL_SID.into() };
    assert_eq!(carry_out(&client(&server.uri()), order).await, done(None));
    let (call, ..) = ids();
    let url = format!(
        "https://hooks.example.org/webhooks/twilio/dial-action?call={call}#ct=2000&rt=6000&rc=2&rp=all&tt=14500"
    );
    let want = [("Url".to_owned(), url), ("Method".to_owned(), "POST".to_owned())];
    assert_eq!(sent(&server).await, want);
}

#[test]
fn parts_of_an_address_cannot_leave_their_place() {
    let client = client("http://127.0.0.1:1/below/");
    for (part, want) in [("../../Messages", "..%2F..%2FMessages"), ("a?b#c", "a%3Fb%23c"), ("CF1", "CF1")] {
        assert_eq!(
            client.url(&["Calls", part]).as_str(),
            format!("http://127.0.0.1:1/below/2010-04-01/Accounts/{ACCOUNT}/Calls/{want}.json")
        );
    }
}

#[test]
fn settings_are_checked_and_never_show_their_secret() {
    let shown = format!("{:?}", settings("http://127.0.0.1:1"));
    assert!(shown.contains(ACCOUNT) && !shown.contains("secret-token"), "{shown}");
    let bad = |settings| TwilioClient::new(settings, Metrics::new()).err().unwrap();
    assert!(matches!(bad(settings("nowhere")), BadSettings::ApiBase));
    let underscore =
        TwilioSettings { public_url: "https://a_b.example.org".to_owned(), ..settings("http://h") };
    assert!(matches!(bad(underscore), BadSettings::PublicUrl(BadPublicUrl::Underscore)));
}
