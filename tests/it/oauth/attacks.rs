//! What attackers try, and what they get.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::browser::Browser;
use super::world::{
    self, BACK, CHALLENGE, PASSWORD, VERIFIER, asking, code, exchange, post, robot, signed_in, user, web,
    with_token,
};

#[tokio::test]
async fn a_browser_is_sent_to_no_address_that_is_not_the_clients() {
    let house = world::house().await;
    let web = web(&house).await;
    let mut browser = Browser::new(&house.base);
    for address in [
        "",
        "https://evil.example/",
        "https://app.example.org/back",
        "https://app.example.org/back?tenant=1&x=2",
        "https://app.example.org/back?tenant=1#x",
        "https://app.example.org:443/back?tenant=1",
        "https://app.example.org.evil.example/back?tenant=1",
        "https://app.example.org@evil.example/back?tenant=1",
        "https://app.example.org/../back?tenant=1",
        "//app.example.org/back?tenant=1",
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "http://127.0.0.1/back",
    ] {
        // Neither when the rest is fine, nor by way of an error.
        for rest in [&[][..], &[("response_type", "token")], &[("code_challenge", "")], &[("scope", "x")]] {
            let changes = [&[("redirect_uri", address)], rest].concat();
            let page = browser.open(&asking(&web, &changes)).await;
            assert_eq!(page.status, StatusCode::BAD_REQUEST, "{address}");
            assert!(page.location().is_none(), "{address}");
            assert!(!page.html.contains("evil.example"), "{address}");
        }
    }
    let twice = format!("{}&redirect_uri=https://evil.example/", asking(&web, &[]));
    assert_eq!(browser.open(&twice).await.status, StatusCode::BAD_REQUEST);
    for client in ["", "cli_01h455vb4pex5vsknk084sn02q", "usr_01h455vb4pex5vsknk084sn02q", "<script>"] {
        let page = browser.open(&asking(&web, &[("client_id", client)])).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{client}");
        assert!(page.location().is_none() && !page.html.contains("<script>"), "{client}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_request_for_less_safety_goes_back_with_an_error_that_names_the_issuer() {
    let house = world::house().await;
    let web = web(&house).await;
    let mut browser = Browser::new(&house.base);
    for (changes, want) in [
        (vec![("code_challenge", "")], "invalid_request"),
        (vec![("code_challenge_method", "")], "invalid_request"),
        (vec![("code_challenge_method", "plain"), ("code_challenge", VERIFIER)], "invalid_request"),
        (vec![("response_type", "token")], "unsupported_response_type"),
        (vec![("response_type", "code id_token")], "unsupported_response_type"),
        (vec![("response_type", "")], "invalid_request"),
        (vec![("response_mode", "fragment")], "invalid_request"),
        (vec![("scope", "users:write")], "invalid_scope"),
        (vec![("request", "eyJhbGciOiJub25lIn0.e30.")], "request_not_supported"),
        (vec![("request_uri", "https://evil.example/")], "request_uri_not_supported"),
        (vec![("prompt", "none")], "login_required"),
    ] {
        let told = browser.open(&asking(&web, &changes)).await.told();
        assert_eq!(told["error"], want, "{changes:?}");
        assert_eq!((told["state"].as_str(), told["iss"].as_str()), ("a&b=c", house.base.as_str()));
        assert!(!told.contains_key("code"), "{told:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_code_that_comes_again_ends_what_it_led_to() {
    let house = world::house().await;
    let web = web(&house).await;
    user(&house, "sue", "supervisor").await;
    let code = code(&house, &web, "sue").await;
    let (status, given) = exchange(&house, &web, &code).await;
    assert_eq!(status, StatusCode::OK, "{given}");
    let (status, refused) = exchange(&house, &web, &code).await;
    assert_eq!((status, &refused["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    let status = with_token(&house, "/users/profile", &given["access_token"]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "its tokens are refused at once");
    let refresh = given["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let (_, refused) = post(&house, "/oauth/token", &web, &form).await;
    assert_eq!(refused["error"], "invalid_grant");
    assert!(world::trail(&house).await.contains(&"client.code_replayed".to_owned()));
    house.close().await;
}

#[tokio::test]
async fn of_many_who_show_a_code_at_a_time_none_keeps_what_it_got() {
    let house = world::house().await;
    let web = web(&house).await;
    let sue = user(&house, "sue", "supervisor").await;
    for _ in 0..10 {
        let code = code(&house, &web, "sue").await;
        let tries = (0..8).map(|_| exchange(&house, &web, &code));
        let answers = futures_util::future::join_all(tries).await;
        let given: Vec<&Value> =
            answers.iter().filter(|(status, _)| status.is_success()).map(|(_, given)| given).collect();
        assert!(given.len() <= 1, "{answers:?}");
        for given in given {
            let status = with_token(&house, "/users/profile", &given["access_token"]).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
        }
    }
    let sessions = house.get(&format!("/auth/sessions?user_id={}", sue.id)).await;
    assert_eq!(sessions["data"], json!([]), "no session is left of them");
    house.close().await;
}

#[tokio::test]
async fn a_stolen_code_is_worth_nothing_and_is_gone_once_it_was_tried() {
    let house = world::house().await;
    let (one, other) = (web(&house).await, web(&house).await);
    user(&house, "sue", "supervisor").await;
    let form = |code: &str, redirect_uri: &str, verifier: &str| {
        [
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", redirect_uri.to_owned()),
            ("code_verifier", verifier.to_owned()),
        ]
    };
    let longer = VERIFIER.to_owned() + "x";
    for (why, by, redirect_uri, verifier) in [
        ("another client", &other, BACK, VERIFIER),
        ("another address", &one, "https://app.example.org/", VERIFIER),
        ("another proof", &one, BACK, longer.as_str()),
        ("the challenge itself", &one, BACK, CHALLENGE),
    ] {
        let code = code(&house, &one, "sue").await;
        let form = form(&code, redirect_uri, verifier);
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (status, refused) = post(&house, "/oauth/token", by, &form).await;
        assert_eq!((status, &refused["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")), "{why}");
        let (status, refused) = exchange(&house, &one, &code).await;
        assert_eq!((status, &refused["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")), "{why}");
    }
    let code = code(&house, &one, "sue").await;
    for missing in ["code_verifier", "redirect_uri"] {
        let form = form(&code, BACK, VERIFIER);
        let form: Vec<_> = form
            .iter()
            .filter(|(name, _)| *name != missing)
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let (status, refused) = post(&house, "/oauth/token", &one, &form).await;
        assert_eq!(
            (status, &refused["error"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_request")),
            "{missing}"
        );
    }
    assert_eq!(exchange(&house, &one, &code).await.0, StatusCode::OK, "what makes no sense burns nothing");
    house.close().await;
}

#[tokio::test]
async fn a_refresh_token_works_for_its_client_alone_and_once() {
    let house = world::house().await;
    let (one, other) = (web(&house).await, web(&house).await);
    user(&house, "sue", "supervisor").await;
    let code = code(&house, &one, "sue").await;
    let (_, given) = exchange(&house, &one, &code).await;
    let refresh = given["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let (status, refused) = post(&house, "/oauth/token", &other, &form).await;
    assert_eq!((status, &refused["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    let own = json!({ "refresh_token": refresh });
    let own = house.http.post(format!("{}/auth/refresh", house.base)).json(&own).send().await.unwrap();
    assert_eq!(own.status(), StatusCode::UNAUTHORIZED, "nor without its client");
    let (status, fresh) = post(&house, "/oauth/token", &one, &form).await;
    assert_eq!(status, StatusCode::OK, "{fresh}");
    let (_, refused) = post(&house, "/oauth/token", &one, &form).await;
    assert_eq!(refused["error"], "invalid_grant");
    let status = with_token(&house, "/users/profile", &fresh["access_token"]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "a token that comes twice ends its session");
    house.close().await;
}

#[tokio::test]
async fn a_form_from_elsewhere_leads_nowhere() {
    let house = world::house().await;
    let web = web(&house).await;
    user(&house, "sue", "supervisor").await;
    let (mut victim, mut attacker) = (Browser::new(&house.base), Browser::new(&house.base));
    // The attacker signs in and lets the victim's browser send the last form, or the other way round.
    let page = attacker.open(&asking(&web, &[])).await;
    let prepared = signed_in(&mut attacker, &page, "sue").await.journey();
    victim.open(&asking(&web, &[])).await;
    let login = [("login", "sue"), ("password", PASSWORD)];
    for (step, fields) in [("allow", &[][..]), ("deny", &[]), ("sign_in", &login)] {
        for journey in [prepared.as_str(), "", "e30", "AAAA"] {
            let page = victim.step_with(journey, step, fields, &[]).await;
            assert_eq!(page.status, StatusCode::BAD_REQUEST, "{step}: {}", page.html);
            assert!(page.location().is_none());
        }
    }
    let mut naked = Browser::new(&house.base);
    let page = naked.step_with(&prepared, "allow", &[], &[]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "without the cookie");
    for headers in [
        &[("origin", "https://evil.example")][..],
        &[("sec-fetch-site", "cross-site"), ("origin", "null")],
        &[("sec-fetch-site", "same-site")],
    ] {
        let page = attacker.step_with(&prepared, "allow", &[], headers).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    let page = attacker.step_with(&prepared, "allow", &[], &[("sec-fetch-site", "same-origin")]).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "the browser that began it goes on");
    house.close().await;
}

#[tokio::test]
async fn steps_cannot_be_left_out_or_taken_from_another_page() {
    let house = world::house().await;
    let web = web(&house).await;
    let mut browser = Browser::new(&house.base);
    let page = browser.open(&asking(&web, &[])).await;
    for step in ["allow", "second_factor", "user_code", "", "nonsense"] {
        let next = browser.step(&page, step, &[("code", "123456"), ("user_code", "BCDF-GHJK")]).await;
        assert_eq!(next.status, StatusCode::BAD_REQUEST, "{step}");
        assert!(next.location().is_none(), "{step}");
    }
    house.close().await;
}

#[tokio::test]
async fn no_page_may_be_framed_or_kept() {
    let house = world::house().await;
    let web = web(&house).await;
    user(&house, "sue", "supervisor").await;
    let mut browser = Browser::new(&house.base);
    let first = browser.open(&asking(&web, &[])).await;
    let second = signed_in(&mut browser, &first, "sue").await;
    let wrong = browser.step(&first, "sign_in", &[("login", "sue"), ("password", "x")]).await;
    let device = browser.open("/oauth/device").await;
    let broken = browser.open("/oauth/authorize").await;
    for page in [&first, &second, &wrong, &device, &broken] {
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"),
            "{policy}"
        );
        assert_eq!(page.headers["x-frame-options"], "DENY");
        assert_eq!(page.headers["cache-control"], "no-store");
        assert_eq!(page.headers["referrer-policy"], "no-referrer");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
    }
    let policy = first.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("form-action 'self' https://app.example.org;"), "{policy}");
    let last = browser.step(&second, "allow", &[]).await;
    assert_eq!(last.headers["referrer-policy"], "no-referrer");
    assert_eq!(last.headers["cache-control"], "no-store");
    house.close().await;
}

#[tokio::test]
async fn passwords_are_tried_on_our_page_as_seldom_as_elsewhere() {
    let house = world::house().await;
    let web = web(&house).await;
    user(&house, "sue", "supervisor").await;
    let mut browser = Browser::new(&house.base);
    let mut page = browser.open(&asking(&web, &[])).await;
    let wrong = browser.step(&page, "sign_in", &[("login", "sue"), ("password", "x")]).await;
    let unknown = browser.step(&page, "sign_in", &[("login", "bob"), ("password", "x")]).await;
    let fault =
        |html: &str| html.split_once("role=\"alert\">").unwrap().1.split_once('<').unwrap().0.to_owned();
    assert_eq!((wrong.status, unknown.status), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    assert_eq!(fault(&wrong.html), fault(&unknown.html), "nobody learns which part was wrong");
    let mut seen = BTreeSet::new();
    for _ in 0..120 {
        page = browser.step(&page, "sign_in", &[("login", "sue"), ("password", "x")]).await;
        seen.insert(page.status);
    }
    assert!(seen.contains(&StatusCode::TOO_MANY_REQUESTS), "{seen:?}");
    let body = json!({ "login": "sue", "password": PASSWORD });
    let api = house.http.post(format!("{}/auth/login", house.base)).json(&body).send().await.unwrap();
    assert_eq!(api.status(), StatusCode::TOO_MANY_REQUESTS, "tries here count there");
    house.close().await;
}

#[tokio::test]
async fn a_secret_cannot_be_guessed_left_out_or_shown_twice() {
    let house = world::house().await;
    let robot = robot(&house).await;
    let secret = robot.secret.as_deref().unwrap();
    let own = ("grant_type", "client_credentials");
    let send = |form: Vec<(&str, String)>, basic: Option<(String, String)>| {
        let request = house.http.post(format!("{}/oauth/token", house.base)).form(&form);
        let request = match basic {
            Some((id, secret)) => request.basic_auth(id, Some(secret)),
            None => request,
        };
        async move {
            let answer = request.send().await.unwrap();
            let has_challenge = answer.headers().contains_key("www-authenticate");
            (answer.status(), answer.json::<Value>().await.unwrap()["error"].clone(), has_challenge)
        }
    };
    let own = (own.0, own.1.to_owned());
    let id = ("client_id", robot.id.clone());
    let unauthorized = (StatusCode::UNAUTHORIZED, json!("invalid_client"), true);
    let basic = |id: &str, secret: &str| Some((id.to_owned(), secret.to_owned()));
    let stranger = "cli_01h455vb4pex5vsknk084sn02q";
    for (why, form, header, want) in [
        ("no secret", vec![own.clone(), id.clone()], None, unauthorized.clone()),
        ("a wrong one", vec![own.clone()], basic(&robot.id, "x"), unauthorized.clone()),
        ("an empty one", vec![own.clone()], basic(&robot.id, ""), unauthorized.clone()),
        ("a client that is not there", vec![own.clone()], basic(stranger, secret), unauthorized.clone()),
        (
            "twice",
            vec![own.clone(), id.clone(), ("client_secret", secret.to_owned())],
            basic(&robot.id, secret),
            (StatusCode::BAD_REQUEST, json!("invalid_request"), false),
        ),
        (
            "a parameter twice",
            vec![own.clone(), own.clone(), id.clone()],
            None,
            (StatusCode::BAD_REQUEST, json!("invalid_request"), false),
        ),
    ] {
        assert_eq!(send(form, header).await, want, "{why}");
    }
    let json_body = house.http.post(format!("{}/oauth/token", house.base)).json(&json!({ "a": 1 }));
    assert_eq!(json_body.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let mut last = StatusCode::OK;
    for _ in 0..40 {
        last = send(vec![own.clone()], basic(&robot.id, "x")).await.0;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let right = send(vec![own.clone()], basic(&robot.id, secret)).await;
    assert_eq!(right.0, StatusCode::OK, "whoever knows the secret is not locked out");
    let noted = world::trail(&house).await.iter().filter(|what| *what == "client.sign_in_failed").count();
    assert!(noted <= 20, "{noted} failures were noted: the trail cannot be flooded");
    house.close().await;
}

#[tokio::test]
async fn codes_of_devices_cannot_be_found_by_trying() {
    let house = world::house().await;
    let mut browser = Browser::new(&house.base);
    let mut page = browser.open("/oauth/device").await;
    let mut seen = Vec::new();
    for i in 0..40 {
        let letters: String = (0..8).map(|at| char::from(b"BCDFGHJK"[(i + at) % 8])).collect();
        let next = browser.step(&page, "user_code", &[("user_code", &letters)]).await;
        seen.push(next.status);
        if next.status == StatusCode::BAD_REQUEST {
            page = next;
        }
    }
    assert_eq!(seen.first(), Some(&StatusCode::BAD_REQUEST));
    assert_eq!(seen.last(), Some(&StatusCode::TOO_MANY_REQUESTS), "{seen:?}");
    house.close().await;
}

#[tokio::test]
async fn nothing_secret_is_noted() {
    let house = world::house().await;
    let web = web(&house).await;
    user(&house, "sue", "supervisor").await;
    let code = code(&house, &web, "sue").await;
    let (_, given) = exchange(&house, &web, &code).await;
    exchange(&house, &web, &code).await;
    let trail = world::trail_text(&house).await;
    let secrets = [
        code.as_str(),
        web.secret.as_deref().unwrap(),
        given["access_token"].as_str().unwrap(),
        given["refresh_token"].as_str().unwrap(),
        PASSWORD,
        VERIFIER,
    ];
    for secret in secrets {
        assert!(!trail.contains(secret), "{trail}");
    }
    house.close().await;
}
