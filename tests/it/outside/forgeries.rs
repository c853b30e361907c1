//! What must not be believed, whoever sends it.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use url::Url;

use super::browser::{Browser, Page};
use super::forger::{Answer, Forger, Script, Signer};
use super::stand::{CALLBACK, PAGE, Stand, ann, code, open_section, roles, section, token};

/// Sets out; answers state and nonce.
async fn set_out(stand: &Stand, browser: &mut Browser, query: &str) -> (String, String) {
    let page = stand.set_out(browser, query).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
    let there = page.location();
    let named = |name: &str| there.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned();
    assert_eq!((named("response_type"), named("code_challenge_method")), ("code".into(), "S256".into()));
    assert_eq!(named("redirect_uri"), CALLBACK);
    (named("state"), named("nonce"))
}

/// The URL that a provider would send the browser to.
fn way_back(state: &str, rest: &[(&str, &str)]) -> Url {
    let mut url = Url::parse(CALLBACK).unwrap();
    url.query_pairs_mut().append_pair("state", state).extend_pairs(rest);
    url
}

/// One whole sign-in with an answer that may be changed.
async fn sign_in(stand: &Stand, forger: &Forger, change: impl FnOnce(&mut Script)) -> Page {
    let mut browser = Browser::new();
    let (state, nonce) = set_out(stand, &mut browser, "").await;
    let mut script = forger.good(&nonce);
    change(&mut script);
    forger.answers(script);
    let url = way_back(&state, &[("code", "c"), ("iss", forger.issuer())]);
    stand.come_back(&mut browser, &url).await
}

type Change = fn(&mut Script);

/// Each is one thing that is wrong; the rest is right.
const FORGERIES: &[(&str, Change)] = &[
    ("signed with another key", |it| it.signer = Signer::Other),
    ("signed with the client's secret", |it| {
        (it.signer, it.header["alg"]) = (Signer::ClientSecret, "HS256".into());
    }),
    ("signed with the public key as a secret", |it| {
        (it.signer, it.header["alg"]) = (Signer::PublicKey, "HS256".into());
    }),
    ("not signed", |it| (it.signer, it.header["alg"]) = (Signer::Nobody, "none".into())),
    ("not signed, in other letters", |it| (it.signer, it.header["alg"]) = (Signer::Nobody, "nOnE".into())),
    ("signed by nobody", |it| it.signer = Signer::Nobody),
    ("signed with another algorithm than it says", |it| it.header["alg"] = "RS256".into()),
    ("of an unknown key", |it| it.header["kid"] = "unknown".into()),
    ("of a key without a name that fits", |it| it.header["kid"] = "".into()),
    ("with a header that must be understood", |it| {
        it.header["crit"] = json!(["exp"]);
    }),
    ("encrypted, it says", |it| it.header["alg"] = "RSA-OAEP".into()),
    ("changed after it was signed", |it| {
        it.spoil = |token| {
            let parts: Vec<_> = token.split('.').collect();
            let claims = super::forgeries::other_subject(parts[1]);
            format!("{}.{claims}.{}", parts[0], parts[2])
        };
    }),
    ("with a changed signature", |it| {
        it.spoil = |token| {
            let (rest, signature) = token.rsplit_once('.').unwrap();
            let first = if signature.starts_with('A') { "B" } else { "A" };
            format!("{rest}.{first}{}", &signature[1..])
        };
    }),
    ("without a signature part", |it| it.spoil = |token| token.rsplit_once('.').unwrap().0.to_owned()),
    ("no token at all", |it| it.spoil = |_| "abc".to_owned()),
    ("of another sign-in", |it| it.claims["nonce"] = "other".into()),
    ("without a nonce", |it| drop(it.claims.as_object_mut().unwrap().remove("nonce"))),
    ("of another issuer", |it| it.claims["iss"] = "https://id.example.org".into()),
    ("of the issuer with a slash", |it| {
        it.claims["iss"] = format!("{}/", it.claims["iss"].as_str().unwrap()).into();
    }),
    ("without an issuer", |it| drop(it.claims.as_object_mut().unwrap().remove("iss"))),
    ("for another client", |it| it.claims["aud"] = "other".into()),
    ("for another client too", |it| it.claims["aud"] = json!(["eml", "other"])),
    ("for nobody", |it| drop(it.claims.as_object_mut().unwrap().remove("aud"))),
    ("made for another party", |it| it.claims["azp"] = "other".into()),
    ("expired", |it| it.claims["exp"] = 1.into()),
    ("without an end", |it| drop(it.claims.as_object_mut().unwrap().remove("exp"))),
    ("made in the future", |it| {
        it.claims["iat"] = (it.claims["iat"].as_u64().unwrap() + 3600).into();
        it.claims["exp"] = (it.claims["iat"].as_u64().unwrap() + 7200).into();
    }),
    ("without a subject", |it| drop(it.claims.as_object_mut().unwrap().remove("sub"))),
    ("with an empty subject", |it| it.claims["sub"] = "".into()),
    ("with a subject that is too long", |it| it.claims["sub"] = "x".repeat(256).into()),
    ("with a subject of another type", |it| it.claims["sub"] = 7.into()),
    ("of another access token", |it| it.claims["at_hash"] = "AAAA".into()),
    ("with user info of somebody else", |it| it.user_info["sub"] = "ben-1".into()),
    ("with user info of nobody", |it| it.user_info = json!({})),
    ("with an access token that no header takes", |it| {
        it.claims.as_object_mut().unwrap().remove("at_hash");
        it.answer = Answer::BadAccessToken;
    }),
    ("missing", |it| it.answer = Answer::NoIdToken),
    ("not given out", |it| it.answer = Answer::Failure),
    ("not JSON", |it| it.answer = Answer::NoJson),
    ("too long", |it| it.answer = Answer::TooLong),
    ("elsewhere", |it| it.answer = Answer::Elsewhere),
];

/// The claims of another person.
pub(super) fn other_subject(claims: &str) -> String {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut claims: Value = serde_json::from_slice(&base64.decode(claims).unwrap()).unwrap();
    claims["sub"] = "ben-1".into();
    base64.encode(claims.to_string())
}

#[tokio::test]
async fn no_forged_or_broken_answer_lets_anybody_in() {
    let forger = Forger::start().await;
    let stand = Stand::open(open_section(forger.issuer())).await;
    for (why, change) in FORGERIES {
        let page = sign_in(&stand, &forger, change).await;
        assert_eq!(page.status, StatusCode::BAD_GATEWAY, "{why}: {}", page.body);
        assert_eq!(code(&page), "EML-2015", "{why}");
    }
    assert_eq!(stand.times("user.login_failed").await, FORGERIES.len());
    assert_eq!(stand.times("user.login_succeeded").await, 0);
    // The same without a fault: it was nothing else that kept them out.
    let page = sign_in(&stand, &forger, |_| {}).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    stand.close().await;
}

#[tokio::test]
async fn an_answer_works_once_and_only_in_the_browser_that_asked() {
    let forger = Forger::start().await;
    let stand = Stand::open(open_section(forger.issuer())).await;
    let issuer = forger.issuer().to_owned();
    let mut browser = Browser::new();

    let (state, nonce) = set_out(&stand, &mut browser, "").await;
    forger.answers(forger.good(&nonce));
    let url = way_back(&state, &[("code", "c"), ("iss", &issuer)]);
    let elsewhere = stand.come_back(&mut Browser::new(), &url).await;
    assert_eq!((elsewhere.status, code(&elsewhere)), (StatusCode::FORBIDDEN, "EML-2014".to_owned()));
    let spent = stand.come_back(&mut browser, &url).await;
    assert_eq!((spent.status, code(&spent)), (StatusCode::GONE, "EML-2012".to_owned()));

    let (state, nonce) = set_out(&stand, &mut browser, "").await;
    let (second, _) = set_out(&stand, &mut browser, "").await;
    assert_ne!(state, second);
    forger.answers(forger.good(&nonce));
    let url = way_back(&state, &[("code", "c"), ("iss", &issuer)]);
    assert_eq!(stand.come_back(&mut browser, &url).await.status, StatusCode::OK, "two at a time");
    assert_eq!(code(&stand.come_back(&mut browser, &url).await), "EML-2012", "again");

    for (why, url, want) in [
        ("no state", Url::parse(&format!("{CALLBACK}?code=c")).unwrap(), "EML-2012"),
        ("an unknown state", way_back("x", &[("code", "c")]), "EML-2012"),
        (
            "another issuer",
            way_back(&second, &[("code", "c"), ("iss", "https://id.example.org")]),
            "EML-2015",
        ),
    ] {
        assert_eq!(code(&stand.come_back(&mut browser, &url).await), want, "{why}");
    }
    for (why, rest, want) in [
        ("no issuer where there always is one", vec![("code", "c")], "EML-2015"),
        ("no code", vec![("iss", issuer.as_str())], "EML-2015"),
        ("turned down", vec![("error", "access_denied"), ("iss", &issuer)], "EML-2005"),
        ("a fault there", vec![("error", "server_error"), ("iss", &issuer)], "EML-2015"),
        (
            "a code and an error",
            vec![("code", "c"), ("error", "access_denied"), ("iss", &issuer)],
            "EML-2005",
        ),
    ] {
        let (state, nonce) = set_out(&stand, &mut browser, "").await;
        forger.answers(forger.good(&nonce));
        assert_eq!(code(&stand.come_back(&mut browser, &way_back(&state, &rest)).await), want, "{why}");
    }
    stand.close().await;
}

#[tokio::test]
async fn an_answer_for_one_provider_is_not_taken_by_another() {
    let forger = Forger::start().await;
    let stand = Stand::open(open_section(forger.issuer())).await;
    let mut browser = Browser::new();
    let (state, nonce) = set_out(&stand, &mut browser, "").await;
    forger.answers(forger.good(&nonce));
    let url = way_back(&state, &[("code", "c"), ("iss", forger.issuer())]);
    let other = Url::parse(&url.as_str().replace("/op/", "/other/")).unwrap();
    assert_eq!(code(&stand.come_back(&mut browser, &other).await), "EML-2012");
    let unknown = Url::parse(&url.as_str().replace("/op/", "/none/")).unwrap();
    assert_eq!(stand.come_back(&mut browser, &unknown).await.status, StatusCode::NOT_FOUND);
    stand.close().await;
}

#[tokio::test]
async fn a_provider_may_change_its_keys() {
    let forger = Forger::start().await;
    let stand = Stand::open(open_section(forger.issuer())).await;
    assert_eq!(sign_in(&stand, &forger, |_| {}).await.status, StatusCode::OK);
    forger.rotate("two");
    // Keys that were read within the last second are not read again.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let page = sign_in(&stand, &forger, |_| {}).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    stand.close().await;
}

#[tokio::test]
async fn a_second_factor_shown_there_counts_only_if_the_section_says_so() {
    let forger = Forger::start().await;
    for (trusted, methods, want) in [
        (true, json!(["pwd", "mfa"]), vec!["ext", "mfa"]),
        (true, json!(["pwd", "otp"]), vec!["ext"]),
        (false, json!(["pwd", "mfa"]), vec!["ext"]),
    ] {
        let section = eml::config::Oidc { trust_second_factor: trusted, ..open_section(forger.issuer()) };
        let stand = Stand::open(section).await;
        let page = sign_in(&stand, &forger, |it| it.claims["amr"] = methods.clone()).await;
        let (status, sessions) = stand.ask(reqwest::Method::GET, "/auth/sessions", token(&page.json())).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(sessions["data"][0]["amr"], json!(want), "{trusted} {methods}");
        stand.close().await;
    }
}

#[tokio::test]
async fn a_role_that_asks_for_a_second_factor_asks_those_who_come_from_outside_too() {
    let forger = Forger::start().await;
    for (trusted, methods, want) in [
        (false, json!(["mfa"]), Err("EML-2004")),
        (true, json!(["pwd"]), Err("EML-2004")),
        (true, json!(["mfa"]), Ok(())),
    ] {
        let section = eml::config::Oidc { trust_second_factor: trusted, ..open_section(forger.issuer()) };
        let ask = |settings: &mut eml::config::Settings| {
            settings.auth.second_factor_roles = vec!["agent".to_owned()];
        };
        let stand = Stand::open_with(section, ask).await;
        let page = sign_in(&stand, &forger, |it| it.claims["amr"] = methods.clone()).await;
        match want {
            Ok(()) => assert_eq!(page.status, StatusCode::OK, "{methods}: {}", page.body),
            Err(refusal) => {
                assert_eq!((page.status, code(&page)), (StatusCode::UNAUTHORIZED, refusal.to_owned()));
                assert!(page.json()["challenge"].is_string() && page.json()["access_token"].is_null());
                assert_eq!(stand.times("user.login_succeeded").await, 0);
            }
        }
        stand.close().await;
    }
}

#[tokio::test]
async fn only_pages_that_are_listed_get_users_back() {
    let forger = Forger::start().await;
    let stand = Stand::open(open_section(forger.issuer())).await;
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    for query in [
        format!("?return_to=https://evil.example.org/&code_challenge={challenge}"),
        format!("?return_to={PAGE}.evil.example.org&code_challenge={challenge}"),
        format!("?return_to={PAGE}/../other&code_challenge={challenge}"),
        format!("?return_to=//evil.example.org&code_challenge={challenge}"),
        format!("?return_to={PAGE}"),
        format!("?return_to={PAGE}&code_challenge=short"),
        format!("?code_challenge={challenge}"),
        "?other=1".to_owned(),
    ] {
        let page = stand.set_out(&mut Browser::new(), &query).await;
        assert_eq!((page.status, code(&page)), (StatusCode::BAD_REQUEST, "EML-1016".to_owned()), "{query}");
    }
    stand.close().await;
}

#[tokio::test]
async fn nobody_fills_the_store_with_sign_ins_that_never_end() {
    let forger = Forger::start().await;
    let few = |settings: &mut eml::config::Settings| settings.auth.login_tries_per_minute = 3;
    let stand = Stand::open_with(open_section(forger.issuer()), few).await;
    for _ in 0..3 {
        set_out(&stand, &mut Browser::new(), "").await;
    }
    for _ in 0..3 {
        let page = stand.set_out(&mut Browser::new(), "").await;
        assert_eq!((page.status, code(&page)), (StatusCode::TOO_MANY_REQUESTS, "EML-2006".to_owned()));
        assert!(page.headers.contains_key("retry-after"));
    }
    stand.close().await;
}

/// Signs in for a page of ours; answers what the page gets.
async fn handoff(stand: &Stand, forger: &Forger, change: impl FnOnce(&mut Script)) -> (String, String) {
    let mut browser = Browser::new();
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let query = format!("?return_to={PAGE}&code_challenge={challenge}");
    let (state, nonce) = set_out(stand, &mut browser, &query).await;
    let mut script = forger.good(&nonce);
    change(&mut script);
    forger.answers(script);
    let url = way_back(&state, &[("code", "c"), ("iss", forger.issuer())]);
    let page = stand.come_back(&mut browser, &url).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
    assert_eq!(page.headers["referrer-policy"], "no-referrer");
    assert_eq!(page.headers["cache-control"], "no-store");
    let place = page.location();
    assert!(place.as_str().starts_with(PAGE), "{place}");
    let (name, value) = place.query_pairs().next().unwrap();
    (name.into_owned(), value.into_owned())
}

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

#[tokio::test]
async fn a_page_gets_the_tokens_of_its_user_once_and_only_if_it_asked() {
    let forger = Forger::start().await;
    let stand = Stand::open(open_section(forger.issuer())).await;
    let path = "/auth/oidc/op/exchange";
    let ask = |handoff: &str, verifier: &str| json!({ "handoff": handoff, "code_verifier": verifier });

    let (name, given) = handoff(&stand, &forger, |_| {}).await;
    assert_eq!(name, "handoff");
    let (status, answer) = stand.post(path, &ask(&given, VERIFIER), None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(roles(&answer), ["agent"]);
    let (status, _) = stand.post(path, &ask(&given, VERIFIER), None).await;
    assert_eq!(status, StatusCode::GONE, "again");

    let (_, given) = handoff(&stand, &forger, |_| {}).await;
    let (status, _) = stand.post(path, &ask(&given, "another page's"), None).await;
    assert_eq!(status, StatusCode::GONE, "another page");
    let (status, _) = stand.post(path, &ask(&given, VERIFIER), None).await;
    assert_eq!(status, StatusCode::GONE, "after another page tried");

    let (_, given) = handoff(&stand, &forger, |_| {}).await;
    let (status, _) = stand.post("/auth/oidc/other/exchange", &ask(&given, VERIFIER), None).await;
    assert_eq!(status, StatusCode::GONE, "another provider");

    let told = handoff(&stand, &forger, |it| it.signer = Signer::Other).await;
    assert_eq!(told, ("error".to_owned(), "EML-2015".to_owned()));
    stand.close().await;
}

#[tokio::test]
async fn users_link_and_unlink_their_identities() {
    let forger = Forger::start().await;
    // Nobody comes in who is not linked; a second provider section brings the user.
    let stand = Stand::open(open_section(forger.issuer())).await;
    let person = |sub: &'static str, mail: &'static str| {
        move |it: &mut Script| {
            (it.claims["sub"], it.user_info["sub"]) = (sub.into(), sub.into());
            it.user_info["email"] = mail.into();
        }
    };
    let first = sign_in(&stand, &forger, person("ann-1", "ann@example.org")).await.json();
    let other = sign_in(&stand, &forger, person("ben-1", "ben@example.org")).await.json();
    let path = "/auth/oidc/op/link";
    let ask = |handoff: &str| json!({ "handoff": handoff, "code_verifier": VERIFIER });

    let (_, given) = handoff(&stand, &forger, person("ann-2", "ann2@example.org")).await;
    assert_eq!(stand.post(path, &ask(&given), None).await.0, StatusCode::UNAUTHORIZED);
    let (status, linked) = stand.post(path, &ask(&given), Some(token(&first))).await;
    assert_eq!((status, &linked["subject"]), (StatusCode::CREATED, &json!("ann-2")), "{linked}");
    let again = sign_in(&stand, &forger, person("ann-2", "ann2@example.org")).await.json();
    assert_eq!(again["user"]["id"], first["user"]["id"], "the linked identity leads to the same user");
    let (_, given) = handoff(&stand, &forger, person("ben-1", "ben@example.org")).await;
    let (status, refusal) = stand.post(path, &ask(&given), Some(token(&first))).await;
    assert_eq!((status, &refusal["code"]), (StatusCode::CONFLICT, &json!("EML-1009")), "another user's");

    let (_, list) = stand.ask(reqwest::Method::GET, "/auth/identities", token(&first)).await;
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2, "{list}");
    let remove = |id: &str| format!("/auth/identities/{id}");
    let (status, _) = stand.ask(reqwest::Method::DELETE, &remove(ids[1]), token(&other)).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "of another user");
    let (status, _) = stand.ask(reqwest::Method::DELETE, &remove(ids[1]), token(&first)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, refusal) = stand.ask(reqwest::Method::DELETE, &remove(ids[0]), token(&first)).await;
    assert_eq!((status, &refusal["code"]), (StatusCode::CONFLICT, &json!("EML-1018")), "the last way in");
    for what in ["user.identity_linked", "user.identity_unlinked", "user.created"] {
        assert!(stand.times(what).await > 0, "{what} is noted");
    }
    stand.close().await;
}

#[tokio::test]
async fn a_provider_that_does_not_answer_keeps_nobody_waiting() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let stand = Stand::open(section(&format!("http://{address}"))).await;
    for _ in 0..3 {
        let page = stand.set_out(&mut Browser::new(), "").await;
        assert_eq!((page.status, code(&page)), (StatusCode::BAD_GATEWAY, "EML-2015".to_owned()));
    }
    let (status, list) = stand.ask(reqwest::Method::GET, "/auth/oidc", "").await;
    assert_eq!((status, &list["data"][0]["name"]), (StatusCode::OK, &json!("op")), "{list}");
    stand.close().await;
}

#[tokio::test]
async fn sign_ins_of_one_new_person_at_a_time_make_one_user() {
    let forger = Forger::start().await;
    let stand = Stand::open(open_section(forger.issuer())).await;
    let mut waiting = Vec::new();
    // The forger answers all of them with the last nonce, so only the handing over can be at a time.
    for _ in 0..6 {
        waiting.push(handoff(&stand, &forger, |it| it.user_info = ann_info()).await.1);
    }
    let (here, waiting) = (&stand, &waiting);
    let asks = waiting.iter().map(|given| async move {
        let body = json!({ "handoff": given, "code_verifier": VERIFIER });
        let (status, answer) = here.post("/auth/oidc/op/exchange", &body, None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["user"]["id"].as_str().unwrap().to_owned()
    });
    let users = futures_util::future::join_all(asks).await;
    assert!(users.iter().all(|user| *user == users[0]), "{users:?}");
    let records = &stand.node.engine.stores().records;
    let identities = records.all(eml::store::records::RecordKind::OutsideIdentity).await.unwrap();
    assert_eq!(identities.len(), 1);
    stand.close().await;
}

fn ann_info() -> Value {
    let mut info = ann(&[]);
    info["sub"] = "ann-1".into();
    info
}
