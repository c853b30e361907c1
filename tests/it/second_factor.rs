//! Second factors from outside: sign-in, step-up, recovery, wrong codes, and codes that come again.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eml::domain::id::{ClientId, UserId};
use eml::domain::identity::RoleName;
use eml::domain::time::{Clock, Millis};
use eml::edge::auth::{Authority, Claims, Gate, Sessions, Subject};
use eml::edge::{EdgeState, router};
use eml::store::audit::AuditFilter;
use eml::store::grants::GrantKind;
use futures_util::stream::{self, StreamExt as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use totp_rs::{Builder, Secret, Totp};

use crate::samples::Schema;
use crate::support::{House, HouseSettings, canary};

const PASSWORD: &str = "a kettle beside nine violins";
/// Requests at a time.
const AT_ONCE: usize = 32;

/// An authenticator app.
struct Phone {
    totp: Totp,
    last: u64,
}

impl Phone {
    fn of(enrolment: &Value) -> Self {
        let secret = Secret::try_from_base32(enrolment["secret"].as_str().unwrap()).unwrap();
        let totp = Builder::new().with_secret(secret).with_account_name("x").build().unwrap();
        Self { totp, last: 0 }
    }

    fn at(&self, step: u64) -> String {
        self.totp.generate(step * 30).to_string()
    }

    /// A code that counts now and was not taken before: of the step before the present one, while that
    /// counts a while longer, or of the present or next. There are two for each test.
    fn code(&mut self) -> String {
        let seconds = u64::try_from(Clock.now().millis() / 1000).unwrap();
        let first = seconds / 30 - u64::from(seconds % 30 < 20);
        self.last = first.max(self.last + 1);
        self.at(self.last)
    }

    /// A code that cannot count for the next minutes.
    fn wrong(&self) -> String {
        let present = u64::try_from(Clock.now().millis()).unwrap() / 30_000;
        let near: Vec<_> = (present - 2..present + 10).map(|step| self.at(step)).collect();
        (0..).map(|number| format!("{number:06}")).find(|code| !near.contains(code)).unwrap()
    }
}

/// A user who signs in over HTTP.
struct Person {
    login: String,
    id: UserId,
    base: String,
    http: reqwest::Client,
}

impl Person {
    async fn new(house: &House, login: &str, role: &str) -> Self {
        let body = json!({ "login": login, "password": PASSWORD, "role": role });
        let made = house.post("/users/register", body).await;
        let id = made["id"].as_str().unwrap().parse().unwrap();
        Self { login: login.to_owned(), id, base: house.base.clone(), http: house.http.clone() }
    }

    async fn ask(&self, method: Method, path: &str, body: Value, token: Option<&str>) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !body.is_null() {
            request = request.json(&body);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        canary::secrets_in(&body);
        let response = request.send().await.unwrap();
        let (status, answer) = (response.status(), response.json().await.unwrap_or(Value::Null));
        canary::secrets_in(&answer);
        (status, answer)
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(Method::POST, path, body, None).await
    }

    async fn sign_in(&self) -> (StatusCode, Value) {
        self.post("/auth/login", json!({ "login": self.login, "password": PASSWORD })).await
    }

    /// Signs in with the password alone.
    async fn token(&self) -> String {
        let (status, answer) = self.sign_in().await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        text(&answer["access_token"])
    }

    /// Signs in with the password; answers with the challenge that comes.
    async fn challenge(&self) -> String {
        let (status, problem) = self.sign_in().await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("EML-2004")), "{problem}");
        text(&problem["challenge"])
    }

    async fn answer(&self, challenge: &str, code: &str) -> (StatusCode, Value) {
        self.post("/auth/2fa", json!({ "challenge": challenge, "code": code })).await
    }

    /// Sets a second factor up; answers with the phone and what the confirmation brought.
    async fn enroll(&self, token: &str) -> (Phone, Value) {
        let (status, enrolment) = self.ask(Method::POST, "/auth/2fa/enroll", json!({}), Some(token)).await;
        assert_eq!(status, StatusCode::OK, "{enrolment}");
        let mut phone = Phone::of(&enrolment);
        let code = json!({ "code": phone.code() });
        let (status, confirmed) = self.ask(Method::POST, "/auth/2fa/confirm", code, Some(token)).await;
        assert_eq!(status, StatusCode::OK, "{confirmed}");
        (phone, confirmed)
    }

    async fn view(&self, token: &str) -> Value {
        self.ask(Method::GET, "/auth/2fa", Value::Null, Some(token)).await.1
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn claims(token: &str) -> Value {
    let body = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn refused(answer: &(StatusCode, Value), code: &str, why: &str) {
    assert_eq!(answer.1["code"], code, "{why}: {answer:?}");
}

async fn house() -> House {
    House::bare(HouseSettings::default()).await
}

/// Acts of the audit trail about a user, oldest first.
async fn acts(house: &House, subject: UserId) -> Vec<Value> {
    let filter = AuditFilter { subject: Some(subject.to_string()), ..AuditFilter::default() };
    let audit = &house.node().engine.stores().audit;
    let page = audit.audit_page(&filter, None, 1_000).await.unwrap();
    page.iter().rev().map(|sealed| serde_json::from_str(&sealed.body).unwrap()).collect()
}

#[tokio::test]
async fn who_has_a_second_factor_signs_in_with_both() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let token = ann.token().await;
    assert_eq!(claims(&token)["amr"], json!(["pwd"]));
    let nothing = json!({ "enrolled": false, "required": false, "since": null, "recovery_codes_left": 0 });
    assert_eq!(ann.view(&token).await, nothing);
    let (mut phone, confirmed) = ann.enroll(&token).await;
    assert_eq!(confirmed["recovery_codes"].as_array().unwrap().len(), 10);
    assert_eq!(claims(&text(&confirmed["tokens"]["access_token"]))["amr"], json!(["pwd", "otp"]));
    let view = ann.view(&token).await;
    assert_eq!((&view["enrolled"], &view["recovery_codes_left"]), (&json!(true), &json!(10)));

    let (_, problem) = ann.sign_in().await;
    assert_eq!(problem["methods"], json!(["totp", "recovery_code"]), "{problem}");
    assert!(problem["expires_in"].as_u64().unwrap() > 60 && problem.get("access_token").is_none());
    let challenge = text(&problem["challenge"]);
    refused(&ann.answer(&challenge, &phone.wrong()).await, "EML-2013", "a wrong code");
    refused(&ann.answer(&challenge, "12345").await, "EML-1002", "no code at all");
    refused(&ann.answer("no-such-challenge", &phone.wrong()).await, "EML-2017", "a made-up challenge");
    let code = phone.code();
    let (status, answer) = ann.answer(&challenge, &code).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["user"]["login"], "ann");
    assert_eq!(claims(&text(&answer["access_token"]))["amr"], json!(["pwd", "otp"]));
    assert!(answer["refresh_token"].is_string());
    refused(&ann.answer(&challenge, &code).await, "EML-2017", "a challenge that was answered");
    refused(&ann.answer(&ann.challenge().await, &code).await, "EML-2013", "a code that was taken");
    house.close().await;
}

#[tokio::test]
async fn a_code_may_come_with_the_password() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let (mut phone, _) = ann.enroll(&ann.token().await).await;
    let code = phone.code();
    let body = json!({ "login": "ann", "password": PASSWORD, "code": code });
    let (status, answer) = ann.post("/auth/login", body.clone()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    refused(&ann.post("/auth/login", body).await, "EML-2013", "the same again");
    let body = json!({ "login": "ann", "password": "the wrong violins and kettles", "code": code });
    refused(&ann.post("/auth/login", body).await, "EML-2005", "the password is looked at first");
    house.close().await;
}

#[tokio::test]
async fn a_recovery_code_works_once_and_new_ones_replace_the_old() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let (_, confirmed) = ann.enroll(&ann.token().await).await;
    let codes: Vec<String> = confirmed["recovery_codes"].as_array().unwrap().iter().map(text).collect();
    let typed = codes[0].to_uppercase().replace('-', " ");
    let (status, answer) = ann.answer(&ann.challenge().await, &typed).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let token = text(&answer["access_token"]);
    assert_eq!(claims(&token)["amr"], json!(["pwd", "recovery"]));
    refused(&ann.answer(&ann.challenge().await, &codes[0]).await, "EML-2013", "it was used");
    assert_eq!(ann.view(&token).await["recovery_codes_left"], 9);

    let path = "/auth/2fa/recovery-codes";
    let (status, renewed) = ann.ask(Method::POST, path, Value::Null, Some(&token)).await;
    assert_eq!(status, StatusCode::OK, "a recovery code is a second factor: {renewed}");
    refused(&ann.answer(&ann.challenge().await, &codes[1]).await, "EML-2013", "it was replaced");
    let fresh = text(&renewed["recovery_codes"][0]);
    assert_eq!(ann.answer(&ann.challenge().await, &fresh).await.0, StatusCode::OK);
    let used =
        acts(&house, ann.id).await.iter().filter(|act| act["what"] == "user.recovery_code_used").count();
    assert_eq!(used, 2);
    house.close().await;
}

#[tokio::test]
async fn of_many_who_show_one_recovery_code_at_a_time_one_gets_in() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let (_, confirmed) = ann.enroll(&ann.token().await).await;
    let code = text(&confirmed["recovery_codes"][3]);
    let mut challenges = Vec::new();
    for _ in 0..15 {
        challenges.push(ann.challenge().await);
    }
    let answers = challenges.iter().map(|challenge| ann.answer(challenge, &code));
    let answers = futures_util::future::join_all(answers).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == StatusCode::OK).count(), 1, "{answers:?}");
    house.close().await;
}

#[tokio::test]
async fn a_critical_act_asks_for_the_second_factor_and_goes_on_with_it() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let (status, signed_in) = ann.sign_in().await;
    assert_eq!(status, StatusCode::OK);
    let (weak, refresh) = (text(&signed_in["access_token"]), text(&signed_in["refresh_token"]));
    let (mut phone, _) = ann.enroll(&ann.token().await).await;
    let path = "/auth/2fa/recovery-codes";
    let asked = ann.ask(Method::POST, path, Value::Null, Some(&weak)).await;
    refused(&asked, "EML-2009", "this session never showed a second factor");
    assert_eq!(asked.1["methods"], json!(["totp", "recovery_code"]));
    let challenge = text(&asked.1["challenge"]);
    refused(&ann.answer(&challenge, &phone.wrong()).await, "EML-2013", "a wrong code");
    let (status, answer) = ann.answer(&challenge, &phone.code()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(answer.get("refresh_token").is_none(), "the one of before goes on");
    let strong = text(&answer["access_token"]);
    let (before, after) = (claims(&weak), claims(&strong));
    assert_eq!((&before["sid"], &before["sub"]), (&after["sid"], &after["sub"]));
    assert_eq!(ann.ask(Method::POST, path, Value::Null, Some(&strong)).await.0, StatusCode::OK);
    refused(&ann.ask(Method::POST, path, Value::Null, Some(&weak)).await, "EML-2009", "the token of before");

    let (status, refreshed) = ann.post("/auth/refresh", json!({ "refresh_token": refresh })).await;
    assert_eq!(status, StatusCode::OK, "{refreshed}");
    let refreshed = text(&refreshed["access_token"]);
    assert_eq!(ann.ask(Method::POST, path, Value::Null, Some(&refreshed)).await.0, StatusCode::OK);
    let acts: Vec<_> = acts(&house, ann.id).await.iter().map(|act| text(&act["what"])).collect();
    for what in [
        "user.second_factor_enrolled",
        "user.second_factor_asked",
        "user.second_factor_refused",
        "user.stepped_up",
    ] {
        assert!(acts.iter().any(|act| act == what), "{what} is missing in {acts:?}");
    }
    house.close().await;
}

/// The same token, made an hour ago.
fn aged(house: &House, token: &str) -> String {
    let authority = &house.node().authority;
    let shown = authority.verify(token).unwrap();
    authority.mint(&Claims { auth_time: shown.auth_time - 3_600, ..(*shown).clone() }).unwrap()
}

#[tokio::test]
async fn what_was_shown_too_long_ago_must_be_shown_again() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let token = ann.token().await;
    let late = ann.ask(Method::POST, "/auth/2fa/enroll", json!({}), Some(&aged(&house, &token))).await;
    refused(&late, "EML-2009", "the password was shown too long ago to set up a factor");
    assert!(late.1.get("challenge").is_none(), "there is nothing else to show: {late:?}");
    let (mut phone, confirmed) = ann.enroll(&token).await;
    let old = aged(&house, &text(&confirmed["tokens"]["access_token"]));
    let path = "/auth/2fa/recovery-codes";
    let asked = ann.ask(Method::POST, path, Value::Null, Some(&old)).await;
    refused(&asked, "EML-2009", "the second factor was shown too long ago");
    let (status, answer) = ann.answer(&text(&asked.1["challenge"]), &phone.code()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let fresh = text(&answer["access_token"]);
    assert_eq!(ann.ask(Method::POST, path, Value::Null, Some(&fresh)).await.0, StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn a_role_that_asks_for_a_second_factor_lets_nobody_in_without() {
    let change = |settings: &mut eml::config::Settings| {
        settings.auth.second_factor_roles = vec!["supervisor".to_owned()];
    };
    let house = House::bare(HouseSettings { change, ..HouseSettings::default() }).await;
    let ben = Person::new(&house, "ben", "agent").await;
    let (status, signed_in) = ben.sign_in().await;
    assert_eq!(status, StatusCode::OK, "others are not asked");
    let (path, roles) = (format!("/users/{}/roles", ben.id), json!({ "roles": ["supervisor"] }));
    let (status, _) = house.request(Method::PUT, &path, roles, &house.admin()).await;
    assert_eq!(status, StatusCode::OK);
    let refresh = json!({ "refresh_token": signed_in["refresh_token"] });
    refused(&ben.post("/auth/refresh", refresh).await, "EML-2011", "it must have one from now on");
    let ann = Person::new(&house, "ann", "supervisor").await;
    let (_, problem) = ann.sign_in().await;
    refused(&(StatusCode::OK, problem.clone()), "EML-2004", "it must have one");
    assert_eq!(problem["methods"], json!(["enroll"]));
    let challenge = text(&problem["challenge"]);

    for (method, path) in
        [(Method::GET, "/users/profile"), (Method::GET, "/auth/2fa"), (Method::POST, "/auth/2fa/enroll")]
    {
        let with_it = ann.ask(method, path, Value::Null, Some(&challenge)).await;
        refused(&with_it, "EML-2001", &format!("a challenge is no token for {path}"));
    }
    refused(&ann.answer(&challenge, "123456").await, "EML-2013", "there is nothing to answer with");
    let body = json!({ "challenge": challenge });
    let (status, enrolment) = ann.post("/auth/2fa/enroll", body.clone()).await;
    assert_eq!(status, StatusCode::OK, "{enrolment}");
    let mut phone = Phone::of(&enrolment);
    let confirm = |code: String| json!({ "challenge": challenge, "code": code });
    refused(&ann.post("/auth/2fa/confirm", confirm(phone.wrong())).await, "EML-2013", "a wrong code");
    let (status, confirmed) = ann.post("/auth/2fa/confirm", confirm(phone.code())).await;
    assert_eq!(status, StatusCode::OK, "{confirmed}");
    let token = text(&confirmed["tokens"]["access_token"]);
    assert!(confirmed["tokens"]["refresh_token"].is_string());
    assert_eq!(ann.view(&token).await["required"], true);
    refused(&ann.post("/auth/2fa/enroll", body).await, "EML-2017", "the challenge is over");

    let body = json!({ "challenge": ann.challenge().await });
    refused(&ann.post("/auth/2fa/enroll", body).await, "EML-1009", "a password does not replace a factor");
    let removed = ann.ask(Method::DELETE, "/auth/2fa", Value::Null, Some(&token)).await;
    refused(&removed, "EML-2003", "what a role asks for cannot be removed");
    house.close().await;
}

/// Lets there have been as many wrong codes, the last one so long ago.
async fn set_tries(house: &House, user: UserId, wrong: u32, ago: Millis) {
    let (grants, now) = (&house.node().engine.stores().grants, Clock.now());
    let mut factor = grants.about(GrantKind::Factor, user.uuid(), now).await.unwrap().remove(0);
    factor.body["tries"] = json!({ "wrong": wrong, "last": now - ago });
    grants.replace(factor).await.unwrap();
}

#[tokio::test]
async fn after_wrong_codes_a_right_one_waits_too() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let (mut phone, confirmed) = ann.enroll(&ann.token().await).await;
    let (challenge, code) = (ann.challenge().await, phone.code());
    set_tries(&house, ann.id, 12, Millis(0)).await;
    let request = ann.http.post(format!("{}/auth/2fa", ann.base));
    let response = request.json(&json!({ "challenge": challenge, "code": code })).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((60..=128).contains(&seconds), "{seconds}");
    let recovery = text(&confirmed["recovery_codes"][0]);
    refused(&ann.answer(&challenge, &recovery).await, "EML-2006", "so does a recovery code");

    set_tries(&house, ann.id, 100, Millis::from_secs(7_200)).await;
    refused(&ann.answer(&challenge, &code).await, "EML-2013", "somebody is guessing");
    let (status, answer) = ann.answer(&challenge, &recovery).await;
    assert_eq!(status, StatusCode::OK, "nobody guesses these: {answer}");
    let (status, answer) = ann.answer(&ann.challenge().await, &code).await;
    assert_eq!(status, StatusCode::OK, "and then all is as before: {answer}");
    house.close().await;
}

#[tokio::test]
async fn however_many_guess_at_a_time_only_a_few_guesses_are_looked_at() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let (phone, _) = ann.enroll(&ann.token().await).await;
    let (challenge, wrong, began) = (ann.challenge().await, phone.wrong(), Clock.now());
    let answers = (0..300).map(|_| ann.answer(&challenge, &wrong));
    let answers: Vec<_> = stream::iter(answers).buffer_unordered(AT_ONCE).collect().await;
    let seconds = Clock.now().since(began).0 / 1000 + 1;
    let count = |code: &str| answers.iter().filter(|(_, answer)| answer["code"] == code).count();
    let (looked_at, slowed) = (count("EML-2013"), count("EML-2006"));
    assert_eq!(looked_at + slowed, 300, "{answers:?}");
    // Five, then one after a second, two more, four more …
    let most = 5 + usize::try_from((seconds + 1).ilog2()).unwrap();
    assert!((1..=most).contains(&looked_at), "{looked_at} in {seconds} s");
    house.close().await;
}

/// Another node's state on the same stores: with keys, gate and sessions of its own.
async fn beside(state: &EdgeState) -> String {
    let authority =
        Authority::new(state.vault.clone(), state.authority.issuer(), Millis::from_secs(3600)).unwrap();
    authority.keep_up(state.engine.stores()).await.unwrap();
    let state = EdgeState {
        authority: Arc::new(authority),
        gate: Arc::new(Gate::default()),
        sessions: Arc::new(Sessions::new(state.vault.clone())),
        ..state.clone()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let service = router(state).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    base
}

/// One code for two nodes: many show it at a time and one gets in; then it comes again `replays` times.
async fn replay(ann: &Person, there: &Person, replays: usize) {
    let (phone, _) = ann.enroll(&ann.token().await).await;
    let mut doors = Vec::new();
    for number in 0..16 {
        let person = if number % 2 == 0 { ann } else { there };
        doors.push((person, person.challenge().await));
    }
    // The last code that counts now does so for more than half a minute.
    let code = phone.at(u64::try_from(Clock.now().millis()).unwrap() / 30_000 + 1);
    let race = doors.iter().map(|(person, challenge)| person.answer(challenge, &code));
    let race = futures_util::future::join_all(race).await;
    assert_eq!(race.iter().filter(|(status, _)| *status == StatusCode::OK).count(), 1, "{race:?}");

    let open: Vec<_> = doors.iter().zip(&race).filter(|(_, answer)| answer.0 != StatusCode::OK).collect();
    let again = (0..replays).map(|number| {
        let ((person, challenge), _) = open[number % open.len()];
        person.answer(challenge, &code)
    });
    let answers: Vec<_> = stream::iter(again).buffer_unordered(AT_ONCE).collect().await;
    assert_eq!(answers.len(), replays);
    let count = |code: &str| answers.iter().filter(|(_, answer)| answer["code"] == code).count();
    let (refused, slowed) = (count("EML-2013"), count("EML-2006"));
    // Once its time is over it is a wrong one, and those are slowed down.
    assert_eq!(refused + slowed, replays, "{:?}", answers.iter().find(|(status, _)| status.is_success()));
    assert!(refused >= replays / 10, "{refused} of {replays} came in its time");
    eprintln!("{replays} replays: {refused} refused in its time, {slowed} slowed down, 0 accepted");
}

#[tokio::test]
async fn ten_thousand_codes_that_come_again_on_two_nodes_are_all_refused() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let there = Person {
        login: ann.login.clone(),
        id: ann.id,
        base: beside(&house.node().edge).await,
        http: house.http.clone(),
    };
    replay(&ann, &there, 10_000).await;
    house.close().await;
}

#[tokio::test]
async fn codes_that_come_again_on_two_nodes_of_one_postgres_are_all_refused() {
    let Some(schema) = Schema::fresh().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = || HouseSettings {
        store_url: Some(schema.url()),
        folder: Some(folder.path().to_owned()),
        ..HouseSettings::default()
    };
    let (here, other) = (House::bare(settings()).await, House::bare(settings()).await);
    let ann = Person::new(&here, "ann", "agent").await;
    let there =
        Person { login: ann.login.clone(), id: ann.id, base: other.base.clone(), http: other.http.clone() };
    replay(&ann, &there, 1_000).await;
    here.close().await;
    other.close().await;
    schema.remove().await;
}

#[tokio::test]
async fn a_second_factor_is_replaced_and_removed_only_with_the_one_of_before() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let (weak, other) = (ann.token().await, ann.token().await);
    let (_, confirmed) = ann.enroll(&ann.token().await).await;
    let strong = text(&confirmed["tokens"]["access_token"]);
    for (method, path) in [(Method::POST, "/auth/2fa/enroll"), (Method::DELETE, "/auth/2fa")] {
        refused(&ann.ask(method, path, Value::Null, Some(&weak)).await, "EML-2009", path);
    }
    let (mut phone, replaced) = ann.enroll(&strong).await;
    let old = text(&confirmed["recovery_codes"][0]);
    refused(&ann.answer(&ann.challenge().await, &old).await, "EML-2013", "the codes of before have gone");

    let (status, signed_in) = ann.answer(&ann.challenge().await, &phone.code()).await;
    assert_eq!(status, StatusCode::OK, "the new phone counts: {signed_in}");
    let (token, refresh) = (text(&signed_in["access_token"]), text(&signed_in["refresh_token"]));
    let challenge = ann.challenge().await;
    let (status, _) = ann.ask(Method::DELETE, "/auth/2fa", Value::Null, Some(&token)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    for (why, token) in [("its own", &token), ("of another session", &other), ("of the enrolment", &strong)] {
        let shown = ann.ask(Method::GET, "/users/profile", Value::Null, Some(token)).await;
        refused(&shown, "EML-2011", why);
    }
    let code = text(&replaced["recovery_codes"][0]);
    refused(&ann.answer(&challenge, &code).await, "EML-2017", "a challenge of before");
    let (status, refreshed) = ann.post("/auth/refresh", json!({ "refresh_token": refresh })).await;
    assert_eq!(status, StatusCode::OK, "this session goes on: {refreshed}");
    let token = text(&refreshed["access_token"]);
    assert_eq!(ann.view(&token).await["enrolled"], false);
    let gone = ann.ask(Method::DELETE, "/auth/2fa", Value::Null, Some(&token)).await;
    refused(&gone, "EML-1003", "there is none any more");
    assert_eq!(ann.sign_in().await.0, StatusCode::OK, "the password is enough again");
    house.close().await;
}

#[tokio::test]
async fn what_is_stored_of_a_second_factor_is_of_no_use_to_who_reads_it() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let token = ann.token().await;
    let (_, enrolment) = ann.ask(Method::POST, "/auth/2fa/enroll", json!({}), Some(&token)).await;
    let mut phone = Phone::of(&enrolment);
    let code = phone.code();
    let body = json!({ "code": code });
    let (_, confirmed) = ann.ask(Method::POST, "/auth/2fa/confirm", body, Some(&token)).await;
    let challenge = ann.challenge().await;
    let mut secrets: Vec<String> = confirmed["recovery_codes"].as_array().unwrap().iter().map(text).collect();
    secrets.extend(secrets.clone().iter().map(|code| code.replace('-', "")));
    secrets.extend([text(&enrolment["secret"]), challenge, hex::encode(phone.totp.secret().as_bytes())]);

    let (stores, now) = (house.node().engine.stores().clone(), Clock.now());
    let mut stored = Vec::new();
    for kind in GrantKind::ALL {
        let grants = stores.grants.about(kind, ann.id.uuid(), now).await.unwrap();
        stored.extend(grants.iter().map(|grant| format!("{} {}", grant.key, grant.body)));
    }
    assert!(stored.len() >= 4, "sessions, a factor and a challenge: {stored:?}");
    let acts = acts(&house, ann.id).await;
    stored.extend(acts.iter().map(Value::to_string));
    for (kept, secret) in stored.iter().flat_map(|kept| secrets.iter().map(move |secret| (kept, secret))) {
        assert!(!kept.contains(secret.as_str()), "{secret} in {kept}");
    }
    let noted = acts.iter().map(|act| act["details"].to_string());
    assert!(noted.into_iter().all(|details| !details.contains(&code)), "codes are not noted");
    house.close().await;
}

#[tokio::test]
async fn recovery_codes_are_not_remembered_for_a_request_that_comes_again() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let (_, confirmed) = ann.enroll(&ann.token().await).await;
    let token = text(&confirmed["tokens"]["access_token"]);
    let mut codes = Vec::new();
    for _ in 0..2 {
        let request = ann.http.post(format!("{}/auth/2fa/recovery-codes", ann.base)).bearer_auth(&token);
        let response = request.header("idempotency-key", "once").send().await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store");
        codes.push(response.json::<Value>().await.unwrap()["recovery_codes"].clone());
    }
    assert!(codes[0] != codes[1] && codes[0].is_array(), "{codes:?}");
    house.close().await;
}

#[tokio::test]
async fn a_client_does_nothing_with_its_users_second_factor() {
    let house = house().await;
    let ann = Person::new(&house, "ann", "agent").await;
    let authority = &house.node().authority;
    let own = authority.claims(Subject::User(ann.id), Millis::from_secs(600));
    let own = Claims { roles: [RoleName::agent()].into(), client_id: Some(ClientId::fresh()), ..own };
    let token = authority.mint(&own).unwrap();
    for (method, path, body) in [
        (Method::GET, "/auth/2fa", Value::Null),
        (Method::POST, "/auth/2fa/enroll", json!({})),
        (Method::POST, "/auth/2fa/confirm", json!({ "code": "123456" })),
        (Method::POST, "/auth/2fa/recovery-codes", Value::Null),
        (Method::DELETE, "/auth/2fa", Value::Null),
    ] {
        refused(&ann.ask(method, path, body, Some(&token)).await, "EML-2003", path);
    }
    let nobody = ann.post("/auth/2fa/enroll", json!({})).await;
    refused(&nobody, "EML-2001", "neither a token nor a challenge");
    house.close().await;
}
