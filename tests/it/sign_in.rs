//! Signing in under attack: what tells nothing, what is counted, and what is refused at once.

use std::time::{Duration, Instant};

use eml::config::Settings;
use eml::domain::identity::RoleName;
use eml::domain::time::Clock;
use eml::edge::auth::passwords::{Password, hash_now};
use eml::edge::users::{self, NewAccount};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{House, HouseSettings, PASSWORD};

/// Cost of bcrypt where its time is measured: enough to be most of a request.
const MEASURED_COST: u32 = 8;
/// Above this, two classes of times are different (as in leakage assessments).
const DISTINGUISHABLE: f64 = 4.5;

async fn house(change: fn(&mut Settings)) -> House {
    House::bare(HouseSettings { change, ..HouseSettings::default() }).await
}

async fn keep(house: &House, login: &str, password_hash: &str) -> eml::domain::id::UserId {
    let new = NewAccount {
        login: login.parse().unwrap(),
        name: None,
        email: None,
        roles: [RoleName::agent()].into(),
        password_hash: password_hash.to_owned(),
    };
    users::create(&*house.node().engine.stores().records, new, Clock.now()).await.unwrap().id
}

#[tokio::test]
async fn passwords_that_differ_only_after_byte_72_are_different_passwords() {
    let house = house(|_| {}).await;
    for (i, (start, ends)) in [
        ("the quick grey heron ".repeat(4), ["a", "b"]),
        ("réservoir à poissons ".repeat(4), ["é", "è"]),
        ("w\u{0}x y\u{0}z under it all ".repeat(4), ["\u{0}", "\u{0}\u{0}"]),
        ("plain water and stone ".repeat(40), ["1", ""]),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(start.len() > 72);
        let login = format!("user{i}");
        let [right, wrong] = ends.map(|end| format!("{start}{end}"));
        let body = json!({ "login": login, "password": right, "role": "agent" });
        house.post("/users/register", body).await;
        assert_eq!(house.try_sign_in(&login, &wrong).await.0, StatusCode::UNAUTHORIZED, "{login}");
        assert_eq!(house.try_sign_in(&login, &start[..72]).await.0, StatusCode::UNAUTHORIZED, "{login}");
        assert_eq!(house.try_sign_in(&login, &right).await.0, StatusCode::OK, "{login}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_password_of_before_works_and_is_kept_anew() {
    let house = house(|_| {}).await;
    let plain = bcrypt::hash("old and short", 4).unwrap();
    let cheaper = hash_now(&Password::new("old and cheap".to_owned()), 5).unwrap();
    for (login, password, hash) in [("olga", "old and short", &plain), ("carl", "old and cheap", &cheaper)] {
        let id = keep(&house, login, hash).await;
        assert_eq!(house.try_sign_in(login, "another one").await.0, StatusCode::UNAUTHORIZED);
        let (status, signed_in) = house.try_sign_in(login, password).await;
        assert_eq!(status, StatusCode::OK, "{signed_in}");
        let stored = users::by_id(&*house.node().engine.stores().records, id).await.unwrap().unwrap().user;
        assert!(stored.password_hash.starts_with("hmac384$$2b$04$"), "{}", stored.password_hash);
        assert_eq!(stored.epoch, 0, "nothing has changed for its sessions");
        assert_eq!(house.try_sign_in(login, password).await.0, StatusCode::OK);
    }
    house.close().await;
}

/// Welch's t of two samples.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let moments = |sample: &[f64]| {
        let count = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / count;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean, error), (other_mean, other_error)) = (moments(one), moments(other));
    (mean - other_mean) / (error + other_error).sqrt()
}

/// Both samples without what lies above a percentile of both together: what the machine did meanwhile.
fn cropped(one: &[f64], other: &[f64], percentile: usize) -> (Vec<f64>, Vec<f64>) {
    let mut all: Vec<f64> = one.iter().chain(other).copied().collect();
    all.sort_by(f64::total_cmp);
    let limit = all[(all.len() - 1) * percentile / 100];
    let crop = |sample: &[f64]| sample.iter().copied().filter(|x| *x <= limit).collect();
    (crop(one), crop(other))
}

/// How long each try took, in microseconds, in the order they were asked for.
async fn times(house: &House, tries: &[(String, StatusCode)]) -> Vec<f64> {
    let mut times = Vec::with_capacity(tries.len());
    for (login, want) in tries {
        let started = Instant::now();
        let (status, _) = house.try_sign_in(login, "not the right password").await;
        times.push(started.elapsed().as_secs_f64() * 1e6);
        assert_eq!(status, *want, "{login}");
    }
    times
}

/// Samples of two kinds of tries, taken in turns of random order.
async fn measured(house: &House, kinds: [(&[String], StatusCode); 2], rounds: usize) -> (Vec<f64>, Vec<f64>) {
    let mut random = rand::rngs::StdRng::seed_from_u64(5);
    let mut samples = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut tries: Vec<(usize, String, StatusCode)> = (0..2)
            .map(|kind| {
                let (logins, want) = kinds[kind];
                (kind, logins[round % logins.len()].clone(), want)
            })
            .collect();
        tries.shuffle(&mut random);
        let asked: Vec<_> = tries.iter().map(|(_, login, want)| (login.clone(), *want)).collect();
        for ((kind, _, _), took) in tries.iter().zip(times(house, &asked).await) {
            if *kind == 0 { samples.0.push(took) } else { samples.1.push(took) }
        }
    }
    samples
}

#[tokio::test]
async fn the_time_of_an_answer_does_not_tell_whether_there_is_such_a_login() {
    let house = house(|settings| {
        settings.auth.bcrypt_cost = MEASURED_COST;
        settings.auth.login_tries_per_minute = 1_000_000;
    })
    .await;
    let hash = hash_now(&Password::new(PASSWORD.to_owned()), MEASURED_COST).unwrap();
    let known: Vec<String> = (0..40).map(|i| format!("known-{i:02}")).collect();
    let unknown: Vec<String> = (0..40).map(|i| format!("nobody-{i:02}")).collect();
    for login in &known {
        keep(&house, login, &hash).await;
    }
    let refused = StatusCode::UNAUTHORIZED;
    measured(&house, [(known.as_slice(), refused), (unknown.as_slice(), refused)], 10).await;
    let (one, other) =
        measured(&house, [(known.as_slice(), refused), (unknown.as_slice(), refused)], 400).await;
    for percentile in [100, 90, 75] {
        let (one, other) = cropped(&one, &other, percentile);
        let t = welch(&one, &other);
        println!("wrong password against unknown login, {percentile} %: t = {t:.2}");
        assert!(t.abs() < DISTINGUISHABLE, "t = {t} at {percentile} %");
    }
    // The same measure sees what is no secret: a login that has had its tries costs no bcrypt.
    let spent = vec!["spent".to_owned()];
    while house.try_sign_in("spent", "x").await.0 == refused {}
    let kinds = [(known.as_slice(), refused), (spent.as_slice(), StatusCode::TOO_MANY_REQUESTS)];
    let (one, other) = measured(&house, kinds, 40).await;
    let t = welch(&one, &other);
    assert!(t.abs() > DISTINGUISHABLE, "the measure is blind: t = {t}");
    house.close().await;
}

#[tokio::test]
async fn tries_are_counted_over_a_restart_and_a_stranger_locks_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let open = || async {
        House::bare(HouseSettings {
            store_url: Some(format!("sqlite://{}", folder.path().join("eml.db").display())),
            folder: Some(folder.path().to_owned()),
            change: |settings| settings.server.trusted_proxies = vec!["127.0.0.1".to_owned()],
            ..HouseSettings::default()
        })
        .await
    };
    async fn try_from(house: &House, ip: String, body: Value) -> (StatusCode, Value) {
        let request = house.http.post(format!("{}/auth/login", house.base)).header("x-forwarded-for", ip);
        let response = request.json(&body).send().await.unwrap();
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=3600).contains(&wait), "{wait}");
        }
        (status, response.json().await.unwrap())
    }
    let right = json!({ "login": "ann", "password": PASSWORD, "remember_device": true });
    let wrong = json!({ "login": "ann", "password": "wrong" });
    let home = || "192.0.2.1".to_owned();

    let house = open().await;
    house.person("ann", &["agent"]).await;
    let (status, signed_in) = try_from(&house, home(), right.clone()).await;
    assert_eq!(status, StatusCode::OK, "{signed_in}");
    let device = signed_in["device_token"].as_str().unwrap().to_owned();
    let mut looked_at = 0;
    for i in 0..60 {
        let (status, _) = try_from(&house, format!("198.51.100.{i}"), wrong.clone()).await;
        looked_at += u32::from(status == StatusCode::UNAUTHORIZED);
    }
    house.close().await;

    let house = open().await;
    for i in 60..120 {
        let (status, _) = try_from(&house, format!("198.51.100.{i}"), wrong.clone()).await;
        looked_at += u32::from(status == StatusCode::UNAUTHORIZED);
    }
    assert!((20..=50).contains(&looked_at), "{looked_at} passwords of strangers were looked at");
    let (status, problem) = try_from(&house, "198.51.100.200".to_owned(), right.clone()).await;
    assert_eq!(
        status,
        StatusCode::TOO_MANY_REQUESTS,
        "even the right one tells a stranger nothing: {problem}"
    );
    assert_eq!(try_from(&house, home(), right.clone()).await.0, StatusCode::OK, "the owner at home");
    let mut travelling = right.clone();
    travelling["device_token"] = device.into();
    let (status, _) = try_from(&house, "203.0.113.77".to_owned(), travelling).await;
    assert_eq!(status, StatusCode::OK, "the owner's device elsewhere");
    house.close().await;
}

#[tokio::test]
async fn too_many_sign_ins_at_a_time_are_told_at_once() {
    let house = house(|settings| {
        settings.auth.bcrypt_cost = 12;
        settings.auth.bcrypt_line = 2;
        settings.auth.login_tries_per_minute = 1_000_000;
    })
    .await;
    let body = |i: usize| json!({ "login": format!("nobody-{i}"), "password": "wrong" });
    let slow: Vec<_> = (0..2)
        .map(|i| {
            let request = house.http.post(format!("{}/auth/login", house.base)).json(&body(i));
            tokio::spawn(async move { request.send().await.unwrap().status() })
        })
        .collect();
    while house.node().edge.passwords.turn().is_ok() {
        tokio::task::yield_now().await;
    }
    let mut i = 10;
    let mut took = Vec::new();
    while took.len() < 100 && !slow.iter().all(tokio::task::JoinHandle::is_finished) {
        i += 1;
        let started = Instant::now();
        let (status, problem) = house.ask(Method::POST, "/auth/login", None, body(i)).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            took.push(started.elapsed());
            assert_eq!(problem["code"], "EML-2006");
        }
    }
    took.sort();
    assert!(took.len() >= 20, "only {} were refused", took.len());
    let late = took[took.len() * 9 / 10];
    println!("{} refused, p50 {:?}, p90 {late:?}", took.len(), took[took.len() / 2]);
    assert!(late <= Duration::from_millis(20), "{late:?}");
    for answer in slow {
        assert_eq!(answer.await.unwrap(), StatusCode::UNAUTHORIZED);
    }
    house.close().await;
}

#[tokio::test]
async fn what_is_no_login_and_no_password_is_refused_like_any_other() {
    let house = house(|_| {}).await;
    let long = "x".repeat(100_000);
    for (login, password) in [
        ("", ""),
        (" ", "x"),
        ("a\u{0}b", "x"),
        ("ann'; DROP TABLE records; --", "x"),
        ("\u{202e}nna", "x"),
        (long.as_str(), "x"),
        ("ann", long.as_str()),
        ("no login", "x"),
    ] {
        let (status, problem) = house.try_sign_in(login, password).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("EML-2005")), "{problem}");
    }
    for body in [json!({ "login": 7, "password": "x" }), json!({ "login": "x", "password": 123456789 })] {
        let (status, problem) = house.ask(Method::POST, "/auth/login", None, body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(!problem.to_string().contains("123456789"), "{problem}");
    }
    house.close().await;
}
