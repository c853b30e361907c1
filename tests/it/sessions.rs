//! Sessions over two nodes that share a store: refresh tokens work once, and what is revoked on one node
//! ends on the other within a second, with its sockets.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eml::domain::directory::User;
use eml::domain::id::{SessionId, UserId};
use eml::domain::identity::RoleName;
use eml::domain::time::{Clock, Millis};
use eml::edge::auth::{self, Authority, EVERY, Gate, Origin, Sessions, SignIn, Tokens};
use eml::edge::{Code, EdgeState};
use eml::store::records::{RecordKind, StoredRecord};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::samples::Schema;
use crate::support::{Desk, House, HouseSettings, canary};

/// How long a revocation may take to be everywhere.
const EVERYWHERE: Duration = Duration::from_secs(1);
/// Refreshes at a time in a race.
const RUNNERS: usize = 8;

fn origin() -> Origin {
    Origin {
        ip: IpAddr::from([192, 0, 2, 7]),
        user_agent: Some("test".to_owned()),
        request_id: "req_1".to_owned(),
    }
}

/// A node's own state beside another node's, over the same store.
async fn neighbour(of: &EdgeState, stop: &CancellationToken) -> EdgeState {
    let stores = of.engine.stores();
    let authority =
        Arc::new(Authority::new(of.vault.clone(), of.authority.issuer(), Millis::from_secs(86_400)).unwrap());
    authority.keep_up(stores).await.unwrap();
    let gate = Arc::new(Gate::default());
    gate.catch_up(&*stores.grants).await.unwrap();
    tokio::spawn(auth::follow(gate.clone(), authority.clone(), stores.clone(), stop.clone()));
    EdgeState { authority, gate, sessions: Arc::new(Sessions::new(of.vault.clone())), ..of.clone() }
}

/// A house, and a second node on its store.
struct Two {
    house: House,
    here: EdgeState,
    there: EdgeState,
    stop: CancellationToken,
}

impl Two {
    async fn open(settings: HouseSettings) -> Self {
        let house = House::bare(settings).await;
        let stop = CancellationToken::new();
        let here = house.node().edge.clone();
        let there = neighbour(&here, &stop).await;
        Self { house, here, there, stop }
    }

    async fn memory() -> Self {
        Self::open(HouseSettings::default()).await
    }

    async fn user(&self) -> User {
        let id = UserId::fresh();
        let user: User = serde_json::from_value(json!({
            "id": id, "login": id.to_string(), "name": "Ann", "roles": [RoleName::admin()],
            "password_hash": "", "enabled": true,
        }))
        .unwrap();
        let now = Clock.now();
        let body = serde_json::to_value(&user).unwrap();
        let record = StoredRecord {
            id: id.uuid(),
            key: user.login.clone(),
            body,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        self.here.engine.stores().records.insert(RecordKind::User, record).await.unwrap();
        user
    }

    async fn sign_in(&self, user: &User) -> Tokens {
        let sign_in = SignIn { user, amr: vec!["pwd"], client: None, origin: &origin() };
        self.here.sessions.begin(&self.here, sign_in).await.unwrap()
    }

    /// One of the two nodes.
    fn node(&self, i: usize) -> &EdgeState {
        if i.is_multiple_of(2) { &self.here } else { &self.there }
    }

    async fn close(self) {
        self.stop.cancel();
        self.house.close().await;
    }
}

async fn refresh(node: &EdgeState, token: &str) -> Result<Tokens, Code> {
    let answer = node.sessions.refresh(node, token, None, &origin()).await;
    answer.map(|(tokens, _)| tokens).map_err(|error| error.code())
}

fn session_of(node: &EdgeState, tokens: &Tokens) -> SessionId {
    node.authority.verify(&tokens.access_token).unwrap().sid.unwrap()
}

fn is_let_in(node: &EdgeState, tokens: &Tokens) -> bool {
    node.gate.admits(&node.authority.verify(&tokens.access_token).unwrap())
}

/// Whether something holds within a second; answers how long it took.
async fn within_a_second(why: &str, holds: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < EVERYWHERE, "{why}: not within a second");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// How many replays and races there are.
fn many(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

async fn of_many_replays_each_ends_its_session(two: &Two, replays: usize) {
    let user = two.user().await;
    for i in 0..replays {
        let mut shown = vec![two.sign_in(&user).await];
        for step in 0..=i % 3 {
            let token = shown[step].refresh_token.clone().unwrap();
            shown.push(refresh(two.node(i + step), &token).await.unwrap());
        }
        let newest = shown.pop().unwrap();
        let replayed = shown[i % shown.len()].refresh_token.clone().unwrap();
        assert_eq!(refresh(two.node(i / 2), &replayed).await.unwrap_err(), Code::SessionOver, "replay {i}");
        // The whole family is gone: no token of it gets another one, and the access tokens are refused.
        for tokens in shown.iter().chain([&newest]) {
            let token = tokens.refresh_token.clone().unwrap();
            assert_eq!(refresh(two.node(i), &token).await.unwrap_err(), Code::SessionOver, "family {i}");
            assert!(!is_let_in(two.node(i / 2), tokens), "family {i}");
        }
    }
    assert!(two.here.sessions.list(&two.here, user.id).await.unwrap().is_empty());
}

async fn of_each_race_one_wins(two: &Two, races: usize) {
    let user = two.user().await;
    let mut won = 0;
    for race in 0..races {
        let token = two.sign_in(&user).await.refresh_token.unwrap();
        let runs = (0..RUNNERS).map(|i| {
            let (node, token) = (two.node(race + i).clone(), token.clone());
            tokio::spawn(async move { refresh(&node, &token).await })
        });
        let answers = futures_util::future::join_all(runs).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        assert_eq!(
            winners.len(),
            1,
            "race {race}: {:?}",
            answers.iter().map(Result::is_ok).collect::<Vec<_>>()
        );
        assert!(
            answers.iter().filter_map(|answer| answer.as_ref().err()).all(|code| *code == Code::SessionOver)
        );
        let last = winners[0].refresh_token.clone().unwrap();
        assert_eq!(refresh(two.node(race), &last).await.unwrap_err(), Code::SessionOver, "race {race}");
        won += winners.len();
    }
    assert_eq!(won, races);
    assert!(two.here.sessions.list(&two.here, user.id).await.unwrap().is_empty());
}

async fn all_of_a_store(settings: HouseSettings, (replays, races): (usize, usize)) {
    let two = Two::open(settings).await;
    of_many_replays_each_ends_its_session(&two, replays).await;
    of_each_race_one_wins(&two, races).await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_comes_twice_ends_its_session_in_memory() {
    all_of_a_store(HouseSettings::default(), (many("EML_REPLAYS", 10_000), many("EML_RACES", 200))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_comes_twice_ends_its_session_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("eml.db").display());
    let settings = HouseSettings { store_url: Some(url), ..HouseSettings::default() };
    all_of_a_store(settings, (60, 30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_comes_twice_ends_its_session_in_a_database() {
    let Some(schema) = Schema::fresh().await else { return };
    let settings = HouseSettings { store_url: Some(schema.url()), ..HouseSettings::default() };
    all_of_a_store(settings, (60, 30)).await;
    schema.remove().await;
}

#[tokio::test]
async fn a_session_is_listed_refreshed_and_ended_over_http() {
    let two = Two::memory().await;
    let user = two.user().await;
    let (first, second) = (two.sign_in(&user).await, two.sign_in(&user).await);
    let ask = async |method: Method, path: &str, token: &str, body: Value| {
        let request = two.house.http.request(method, format!("{}{path}", two.house.base)).bearer_auth(token);
        let answer = request.json(&body).send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap_or_default())
    };
    let refresh_token = first.refresh_token.clone().unwrap();
    let (status, body) =
        ask(Method::POST, "/auth/refresh", "", json!({ "refresh_token": refresh_token })).await;
    assert_eq!((status, &body["user"]["id"]), (StatusCode::OK, &json!(user.id)));
    assert_eq!(body["expires_in"], 900);
    let token = body["access_token"].as_str().unwrap().to_owned();
    let (_, body) = ask(Method::GET, "/auth/sessions", &token, Value::Null).await;
    let rows = body["data"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["current"] == true).count(), 1, "{body}");
    assert_eq!((rows.len(), &rows[0]["user_agent"]), (2, &Value::Null), "the last use told none: {body}");
    let other = rows.iter().find(|row| row["current"] == false).unwrap()["id"].as_str().unwrap();
    let (status, _) = ask(Method::DELETE, &format!("/auth/sessions/{other}"), &token, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, body) = ask(Method::GET, "/auth/sessions", &second.access_token, Value::Null).await;
    assert_eq!((status, &body["code"]), (StatusCode::UNAUTHORIZED, &json!("EML-2011")));
    let (status, _) = ask(Method::DELETE, &format!("/auth/sessions/{other}"), &token, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = ask(Method::POST, "/auth/logout", &token, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = ask(Method::GET, "/auth/sessions", &token, Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    // A token that belongs to no session cannot end one.
    let admin = two.house.token(&two.house.admin());
    let (status, _) = ask(Method::POST, "/auth/logout", &admin, Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT);
    for bad in ["", "x", "sid_01h455vb4pex5vsknk084sn02q.1.AAAA", token.as_str()] {
        let (status, _) = ask(Method::POST, "/auth/refresh", "", json!({ "refresh_token": bad })).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{bad}");
    }
    let what = noted(&two).await;
    assert_eq!(
        what,
        ["user.login_succeeded", "user.login_succeeded", "user.session_revoked", "user.logged_out"]
    );
    two.close().await;
}

/// What the audit trail holds, oldest first.
async fn noted(two: &Two) -> Vec<String> {
    let sealed = two.here.engine.stores().audit.audit_after(0, 100).await.unwrap();
    let entries = sealed.iter().map(|sealed| serde_json::from_str::<Value>(&sealed.body).unwrap());
    entries.map(|entry| entry["what"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_disabled_user_gets_no_fresh_tokens() {
    let two = Two::memory().await;
    let user = two.user().await;
    let tokens = two.sign_in(&user).await;
    let records = &two.here.engine.stores().records;
    let mut stored = records.by_id(RecordKind::User, user.id.uuid()).await.unwrap().unwrap();
    stored.body["enabled"] = false.into();
    records.update(RecordKind::User, stored).await.unwrap();
    let refused = refresh(&two.here, &tokens.refresh_token.clone().unwrap()).await;
    assert_eq!(refused.unwrap_err(), Code::SessionOver);
    assert!(!is_let_in(&two.here, &tokens));
    two.close().await;
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over_however_much_it_is_used() {
    let short = |settings: &mut eml::config::Settings| {
        settings.auth.refresh_ttl_ms = Millis(600);
        settings.auth.session_ttl_ms = Millis(1_000);
    };
    let two = Two::open(HouseSettings { change: short, ..HouseSettings::default() }).await;
    let user = two.user().await;
    let idle = two.sign_in(&user).await.refresh_token.unwrap();
    let mut used = two.sign_in(&user).await.refresh_token.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(800) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        used = refresh(&two.here, &used).await.unwrap().refresh_token.unwrap();
    }
    assert_eq!(refresh(&two.here, &idle).await.unwrap_err(), Code::SessionOver);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(refresh(&two.here, &used).await.unwrap_err(), Code::SessionOver);
    two.close().await;
}

#[tokio::test]
async fn what_is_revoked_on_one_node_ends_on_the_other_within_a_second_with_its_sockets() {
    let two = Two::memory().await;
    let user = two.user().await;
    let ended = two.sign_in(&user).await;
    let stays = two.sign_in(&user).await;
    let mut closed = Desk::open(&two.house.base, &ended.access_token, None).await;
    let mut open = Desk::open(&two.house.base, &stays.access_token, None).await;
    let by_ticket = ticket(&two, &ended).await;
    let late = ticket(&two, &ended).await;
    let mut ticketed = Desk::open_with_ticket(&two.house.base, &by_ticket).await;
    let id = session_of(&two.there, &ended);
    two.there.gate.revoke(&*two.there.engine.stores().grants, id.uuid(), EVERY).await.unwrap();
    let begun = Instant::now();
    for desk in [&mut closed, &mut ticketed] {
        assert_eq!(desk.event("close").await["code"], 4401);
    }
    assert!(begun.elapsed() < EVERYWHERE, "{:?}", begun.elapsed());
    assert!(!is_let_in(&two.here, &ended) && is_let_in(&two.here, &stays));
    assert_eq!(Desk::refusal(&two.house.base, &late).await, StatusCode::UNAUTHORIZED, "a ticket of before");
    // Roles that change raise the user's epoch: every token of before is refused, on sockets too.
    two.there.gate.revoke(&*two.there.engine.stores().grants, user.id.uuid(), 1).await.unwrap();
    let begun = Instant::now();
    assert_eq!(open.event("close").await["code"], 4401);
    assert!(begun.elapsed() < EVERYWHERE, "{:?}", begun.elapsed());
    two.close().await;
}

async fn ticket(two: &Two, tokens: &Tokens) -> String {
    let request = two.house.http.post(format!("{}/ws/ticket", two.house.base));
    let answer: Value = request.bearer_auth(&tokens.access_token).send().await.unwrap().json().await.unwrap();
    answer["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_its_tokens_and_sockets_on_every_node_within_a_second() {
    let two = Two::memory().await;
    let user = two.user().await;
    let tokens = two.sign_in(&user).await;
    let mut desk = Desk::open(&two.house.base, &tokens.access_token, None).await;
    let stores = two.there.engine.stores();
    let kid = Authority::stored(&*stores.records).await.unwrap().remove(0).kid;
    assert!(two.there.authority.revoke_key(stores, &kid).await.unwrap());
    let begun = Instant::now();
    assert_eq!(desk.event("close").await["code"], 4401);
    assert!(begun.elapsed() < EVERYWHERE);
    within_a_second("the key is gone", || two.here.authority.verify(&tokens.access_token).is_err()).await;
    // The session itself lives on: its refresh token gets a token of the next key.
    let fresh = refresh(&two.here, &tokens.refresh_token.unwrap()).await.unwrap();
    assert!(is_let_in(&two.here, &fresh));
    within_a_second("the other node knows the next key", || {
        two.there.authority.verify(&fresh.access_token).is_ok()
    })
    .await;
    let keys = two.house.http.get(format!("{}/jwks.json", two.house.base)).send().await.unwrap();
    let keys: Value = keys.json().await.unwrap();
    let kids: Vec<_> = keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert!(kids.len() == 1 && kids[0] != kid.as_str(), "{keys}");
    two.close().await;
}

#[tokio::test]
async fn a_key_that_another_node_made_is_known_before_it_signs() {
    let two = Two::memory().await;
    let made = two.there.authority.rotate(two.there.engine.stores()).await.unwrap();
    let knows = |node: &EdgeState| node.authority.jwks().to_string().contains(&made);
    let took = within_a_second("the new key is known", || knows(&two.here)).await;
    assert!(took < Duration::from_secs(5), "it signs after five seconds");
    two.close().await;
}

#[tokio::test]
async fn a_token_from_the_host_works_is_told_and_is_revoked_while_the_node_runs() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("eml.db").display());
    let house = HouseSettings {
        store_url: Some(url),
        folder: Some(folder.path().to_owned()),
        ..HouseSettings::default()
    };
    let two = Two::open(house).await;
    let user = two.user().await;
    let (token, done) =
        host(folder.path(), &["token", "create", &user.login, "--for", "5m", "--scope", "own setup:read"]);
    assert!(done, "{token}");
    let token = token.trim().to_owned();
    let status = async |path: &str| {
        let request = two.house.http.get(format!("{}{path}", two.house.base)).bearer_auth(&token);
        request.send().await.unwrap().status()
    };
    assert_eq!(status("/queues").await, StatusCode::OK);
    assert_eq!(status("/users/list").await, StatusCode::FORBIDDEN, "its scope is narrower than its user");
    let (told, done) = host(folder.path(), &["token", "inspect", &token]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(done && told["active"] == true && told["sub"] == user.id.to_string(), "{told}");
    let (_, done) = host(folder.path(), &["token", "revoke", &token]);
    assert!(done);
    let begun = Instant::now();
    while status("/queues").await != StatusCode::UNAUTHORIZED {
        assert!(begun.elapsed() < EVERYWHERE, "not within a second");
    }
    let (told, done) = host(folder.path(), &["token", "inspect", &token]);
    assert!(!done && told.contains("\"active\": false"), "{told}");
    // Keys, too.
    let (before, _) = host(folder.path(), &["key", "ls"]);
    assert_eq!(before.lines().count(), 2, "{before}");
    let (kid, done) = host(folder.path(), &["key", "rotate"]);
    assert!(done);
    let (after, _) = host(folder.path(), &["key", "ls"]);
    assert!(after.lines().nth(1).unwrap().starts_with(kid.trim()), "{after}");
    let tokens = two.sign_in(&user).await;
    let old = before.lines().nth(1).unwrap().split(' ').next().unwrap();
    assert!(host(folder.path(), &["key", "revoke", old]).1);
    within_a_second("the node knows", || two.here.authority.verify(&tokens.access_token).is_err()).await;
    let what = noted(&two).await;
    for act in ["token.created", "user.session_revoked", "key.rotated", "key.revoked"] {
        assert!(what.iter().any(|noted| noted == act), "{act} is missing: {what:?}");
    }
    two.close().await;
}

/// Runs a command beside the node; answers what it printed and whether it went well.
fn host(folder: &Path, arguments: &[&str]) -> (String, bool) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_eml"));
    let output = command.arg("--data-dir").arg(folder).args(arguments).current_dir(folder).output().unwrap();
    canary::keep(&output.stderr);
    let printed = String::from_utf8(output.stdout).unwrap();
    let told =
        if printed.is_empty() { String::from_utf8_lossy(&output.stderr).into_owned() } else { printed };
    (told, output.status.success())
}
