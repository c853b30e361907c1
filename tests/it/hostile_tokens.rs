//! Forged and mutated access tokens: none is accepted, none brings anything down.
//!
//! The forge knows everything that a thief could, and more: it also signs with the key of the node
//! itself, so that what is refused is refused for what the token says and not for its signature alone.

mod claims;
mod forge;
mod heads;
mod mutations;

use std::collections::HashSet;

use eml::domain::id::UserId;
use eml::domain::time::Millis;
use eml::edge::Code;
use eml::edge::auth::Holder;
use reqwest::StatusCode;

use crate::support::{House, HouseSettings};
use forge::{Class, Forge};

/// Tokens of each class.
const EACH: usize = 60;
/// Tokens of each class that are also sent to the node.
const SENT: usize = 3;

fn classes() -> Vec<Class> {
    [heads::CLASSES, claims::CLASSES, mutations::CLASSES].concat()
}

#[tokio::test]
async fn of_thousands_of_forged_and_mutated_tokens_none_is_accepted() {
    let house = House::bare(HouseSettings::default()).await;
    let forge = Forge::of(&house).await;
    let classes = classes();
    let names: HashSet<_> = classes.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), classes.len(), "two classes have one name");
    let mut tried = HashSet::new();
    for (name, make) in &classes {
        for i in 0..EACH {
            let token = make(&forge, i);
            assert_ne!(token, forge.good(), "{name} {i} changes nothing");
            let authority = &house.node().authority;
            let accepted =
                authority.verify(&token).is_ok_and(|claims| house.node().edge.gate.admits(&claims));
            assert!(!accepted, "{name} {i} was accepted: {token}");
            // What stands behind a header's last letter is not sent.
            if i < SENT && token.trim_end() != forge.good() {
                check_refused(&house, name, &token).await;
            }
            tried.insert(token);
        }
    }
    println!("{} tokens of {} classes were refused", tried.len(), classes.len());
    assert!(classes.len() >= 60 && tried.len() >= 5_000, "{} of {} classes", tried.len(), classes.len());
    // What the forge signs is right in itself: with honest claims it is let in, before and after.
    for token in [forge.good().to_owned(), forge.signed(&forge.honest())] {
        let answer = house.http.get(format!("{}/queues", house.base)).bearer_auth(token);
        assert_eq!(answer.send().await.unwrap().status(), StatusCode::OK);
    }
    house.close().await;
}

async fn check_refused(house: &House, name: &str, token: &str) {
    let Ok(value) = reqwest::header::HeaderValue::from_str(&format!("Bearer {token}")) else {
        return; // no HTTP client can send it
    };
    let request = house.http.get(format!("{}/queues", house.base)).header("authorization", value);
    // A node may cut off a header that is far too long instead of answering.
    let Ok(answer) = request.send().await else {
        assert!(token.len() > 8_000, "{name}: no answer");
        return;
    };
    let status = answer.status();
    let is_refusal = matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::BAD_REQUEST
    );
    assert!(is_refusal, "{name}: {status}");
}

#[tokio::test]
async fn a_token_counts_in_its_one_place_alone() {
    let house = House::bare(HouseSettings::default()).await;
    let token = house.token(&house.admin());
    let url = format!("{}/queues", house.base);
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("admin:{token}"));
    for (why, request) in [
        ("no token", house.http.get(&url)),
        ("in the address", house.http.get(format!("{url}?access_token={token}"))),
        ("in a cookie", house.http.get(&url).header("cookie", format!("access_token={token}"))),
        ("as a password", house.http.get(&url).header("authorization", format!("Basic {basic}"))),
        ("without its scheme", house.http.get(&url).header("authorization", &token)),
        ("with another scheme", house.http.get(&url).header("authorization", format!("DPoP {token}"))),
        ("twice", house.http.get(&url).bearer_auth(&token).header("authorization", "Bearer x")),
        ("with another behind it", house.http.get(&url).bearer_auth(format!("{token},{token}"))),
        ("in another header", house.http.get(&url).header("x-authorization", format!("Bearer {token}"))),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{why}");
        assert!(answer.headers().contains_key("www-authenticate"), "{why}");
    }
    assert_eq!(house.http.get(&url).bearer_auth(&token).send().await.unwrap().status(), StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn an_expired_token_is_told_from_one_that_never_was_good() {
    let house = House::bare(HouseSettings::default()).await;
    let forge = Forge::of(&house).await;
    let authority = &house.node().authority;
    let old = authority.token_for(&Holder::admin(UserId::fresh()), Millis(0)).unwrap();
    assert_eq!(authority.verify(&old).unwrap_err().code(), Code::TokenExpired);
    assert_eq!(authority.verify(&forge.foreign()).unwrap_err().code(), Code::NoToken);
    house.close().await;
}
