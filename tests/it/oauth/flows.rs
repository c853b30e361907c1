//! Each way to tokens as it is meant.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eml::domain::time::Clock;
use reqwest::StatusCode;
use serde_json::{Value, json};
use totp_rs::{Builder, Secret};

use crate::support::House;

use super::browser::Browser;
use super::world::{
    self, BACK, PASSWORD, asking, device, exchange, post, robot, signed_in, user, web, with_token,
};

#[tokio::test]
async fn a_user_lets_a_client_do_some_of_what_it_may_do_itself() {
    let house = world::house().await;
    let web = web(&house).await;
    user(&house, "sue", "supervisor").await;
    let mut browser = Browser::new(&house.base);
    let page = browser.open(&asking(&web, &[])).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.html);
    assert!(page.html.contains("Wallboard &amp; Co"), "{}", page.html);
    let page = signed_in(&mut browser, &page, "sue").await;
    assert!(page.html.contains("<strong>sue</strong>") && page.html.contains("read calls"), "{}", page.html);
    assert!(!page.html.contains("read users"), "only what was asked for: {}", page.html);
    let page = browser.step(&page, "allow", &[]).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.html);
    assert!(page.location().unwrap().as_str().starts_with(BACK), "{:?}", page.location());
    let told = page.told();
    assert_eq!((told["state"].as_str(), told["iss"].as_str()), ("a&b=c", house.base.as_str()));
    assert!(browser.cookies.is_empty(), "the journey is over: {:?}", browser.cookies);

    let (status, given) = exchange(&house, &web, &told["code"]).await;
    assert_eq!(status, StatusCode::OK, "{given}");
    assert_eq!((&given["token_type"], &given["scope"]), (&json!("Bearer"), &json!("own calls:read")));
    let token = &given["access_token"];
    assert_eq!(with_token(&house, "/users/profile", token).await, StatusCode::OK);
    assert_eq!(with_token(&house, "/calls/history", token).await, StatusCode::OK);
    assert_eq!(with_token(&house, "/users/list", token).await, StatusCode::FORBIDDEN, "not in its scope");

    let refresh = given["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let (status, fresh) = post(&house, "/oauth/token", &web, &form).await;
    assert_eq!((status, &fresh["scope"]), (StatusCode::OK, &json!("own calls:read")), "{fresh}");
    let refresh = fresh["refresh_token"].as_str().unwrap();
    let narrow = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("scope", "own")];
    let (status, narrow) = post(&house, "/oauth/token", &web, &narrow).await;
    assert_eq!((status, &narrow["scope"]), (StatusCode::OK, &json!("own")), "{narrow}");
    let token = &narrow["access_token"];
    assert_eq!(with_token(&house, "/calls/history", token).await, StatusCode::FORBIDDEN);
    let refresh = narrow["refresh_token"].as_str().unwrap();
    let wide = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("scope", "own users:read")];
    let (status, refused) = post(&house, "/oauth/token", &web, &wide).await;
    assert_eq!((status, &refused["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_scope")));
    let again = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let (status, whole) = post(&house, "/oauth/token", &web, &again).await;
    assert_eq!(
        (status, &whole["scope"]),
        (StatusCode::OK, &json!("own calls:read")),
        "not used up by a refusal"
    );
    let trail = world::trail(&house).await;
    for what in ["client.created", "client.allowed", "user.login_succeeded"] {
        assert!(trail.iter().any(|known| known == what), "{what}: {trail:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_client_gets_nothing_of_its_user_that_the_user_has_not() {
    let house = world::house().await;
    let web = web(&house).await;
    user(&house, "ana", "agent").await;
    let mut browser = Browser::new(&house.base);
    let page = browser.open(&asking(&web, &[("scope", "users:read calls:read")])).await;
    let page = signed_in(&mut browser, &page, "ana").await;
    assert!(!page.html.contains("users:read"), "{}", page.html);
    let page = browser.step(&page, "allow", &[]).await;
    let (_, given) = exchange(&house, &web, &page.told()["code"]).await;
    assert_eq!(given["scope"], "calls:read");
    let page = browser.open(&asking(&web, &[("scope", "users:read")])).await;
    let page = signed_in(&mut browser, &page, "ana").await;
    let page = browser.step(&page, "allow", &[]).await;
    assert_eq!(page.told()["error"], "access_denied");
    house.close().await;
}

#[tokio::test]
async fn whoever_says_no_sends_the_client_away_with_nothing() {
    let house = world::house().await;
    let web = web(&house).await;
    user(&house, "sue", "supervisor").await;
    let mut browser = Browser::new(&house.base);
    let page = browser.open(&asking(&web, &[])).await;
    let early = browser.step(&page, "deny", &[]).await.told();
    let page = browser.open(&asking(&web, &[])).await;
    let page = signed_in(&mut browser, &page, "sue").await;
    let late = browser.step(&page, "deny", &[]).await.told();
    for told in [early, late] {
        assert_eq!((told["error"].as_str(), told["state"].as_str()), ("access_denied", "a&b=c"));
        assert_eq!(told["iss"], house.base);
        assert!(!told.contains_key("code"), "{told:?}");
    }
    house.close().await;
}

/// Codes of an authenticator app for now, each once: of the present step and those around it.
async fn app_of(house: &House, token: &Value) -> [String; 3] {
    let send = async |path: &str, body: Value| {
        let request = house.http.post(format!("{}{path}", house.base)).bearer_auth(token.as_str().unwrap());
        let answer = request.json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json::<Value>().await.unwrap()
    };
    let offer = send("/auth/2fa/enroll", json!({})).await;
    let secret = Secret::try_from_base32(offer["secret"].as_str().unwrap()).unwrap();
    let totp = Builder::new().with_secret(secret).with_account_name("x").build().unwrap();
    let step = u64::try_from(Clock.now().millis() / 30_000).unwrap();
    let code = |step: u64| totp.generate(step * 30).to_string();
    send("/auth/2fa/confirm", json!({ "code": code(step - 1) })).await;
    [code(step - 1), code(step), code(step + 1)]
}

#[tokio::test]
async fn our_page_asks_for_the_second_factor_of_whoever_has_one() {
    let house = world::house().await;
    let web = web(&house).await;
    user(&house, "sue", "supervisor").await;
    let body = json!({ "login": "sue", "password": PASSWORD });
    let login = house.http.post(format!("{}/auth/login", house.base)).json(&body).send().await.unwrap();
    let login: Value = login.json().await.unwrap();
    let [used, present, _] = app_of(&house, &login["access_token"]).await;
    let mut browser = Browser::new(&house.base);
    let page = browser.open(&asking(&web, &[])).await;
    let page = signed_in(&mut browser, &page, "sue").await;
    assert!(page.html.contains("one-time-code"), "{}", page.html);
    let early = browser.step(&page, "allow", &[]).await;
    assert_eq!(early.status, StatusCode::BAD_REQUEST, "the password alone allows nothing");
    let wrong = browser.step(&page, "second_factor", &[("code", &used)]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "a code counts once: {}", wrong.html);
    assert!(wrong.html.contains("role=\"alert\""), "{}", wrong.html);
    let page = browser.step(&page, "second_factor", &[("code", &present)]).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.html);
    let page = browser.step(&page, "allow", &[]).await;
    let (_, given) = exchange(&house, &web, &page.told()["code"]).await;
    let token = given["access_token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["amr"], json!(["pwd", "otp"]));
    house.close().await;
}

#[tokio::test]
async fn whoever_must_have_a_second_factor_gets_nowhere_without() {
    let house = world::house_with(|settings| {
        settings.server.public_url = String::new();
        settings.auth.second_factor_roles = vec!["supervisor".parse().unwrap()].into_iter().collect();
    })
    .await;
    let web = web(&house).await;
    user(&house, "sue", "supervisor").await;
    let mut browser = Browser::new(&house.base);
    let page = browser.open(&asking(&web, &[])).await;
    let page = signed_in(&mut browser, &page, "sue").await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.html);
    assert_eq!(browser.step(&page, "allow", &[]).await.status, StatusCode::BAD_REQUEST);
    house.close().await;
}

#[tokio::test]
async fn whoever_was_changed_or_disabled_meanwhile_lets_nobody_in() {
    let house = world::house().await;
    let web = web(&house).await;
    let sue = user(&house, "sue", "supervisor").await;
    let mut browser = Browser::new(&house.base);
    let page = browser.open(&asking(&web, &[])).await;
    let waiting = signed_in(&mut browser, &page, "sue").await;
    let code = world::code(&house, &web, "sue").await;
    let path = format!("/users/{}", sue.id);
    let request = house.http.patch(format!("{}{path}", house.base)).header("if-match", "*");
    let request = request.bearer_auth(house.token(&house.admin())).json(&json!({ "enabled": false }));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    let page = browser.step(&waiting, "allow", &[]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.html);
    assert!(page.location().is_none());
    let (_, refused) = exchange(&house, &web, &code).await;
    assert_eq!(refused["error"], "invalid_grant");
    house.close().await;
}

#[tokio::test]
async fn a_client_acts_for_itself_within_its_scopes() {
    let house = world::house().await;
    let robot = robot(&house).await;
    let form = [("grant_type", "client_credentials"), ("scope", "calls:read")];
    let (status, given) = post(&house, "/oauth/token", &robot, &form).await;
    assert_eq!((status, &given["scope"]), (StatusCode::OK, &json!("calls:read")), "{given}");
    assert!(given.get("refresh_token").is_none(), "{given}");
    let token = &given["access_token"];
    assert_eq!(with_token(&house, "/calls/active", token).await, StatusCode::OK);
    assert_eq!(with_token(&house, "/queues", token).await, StatusCode::FORBIDDEN, "not in the token's scope");
    let (_, whole) = post(&house, "/oauth/token", &robot, &form[..1]).await;
    assert_eq!(whole["scope"], "setup:read calls:read");
    assert_eq!(with_token(&house, "/queues", &whole["access_token"]).await, StatusCode::OK);
    let beyond = [("grant_type", "client_credentials"), ("scope", "users:write")];
    let (status, refused) = post(&house, "/oauth/token", &robot, &beyond).await;
    assert_eq!((status, &refused["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_scope")));
    let others = [("grant_type", "authorization_code"), ("code", "x")];
    let (status, refused) = post(&house, "/oauth/token", &robot, &others).await;
    assert_eq!((status, &refused["error"]), (StatusCode::BAD_REQUEST, &json!("unauthorized_client")));
    let unknown = [("grant_type", "password"), ("username", "sue"), ("password", PASSWORD)];
    let (_, refused) = post(&house, "/oauth/token", &robot, &unknown).await;
    assert_eq!(refused["error"], "unsupported_grant_type");
    house.close().await;
}

fn polling(waiting: &Value) -> [(&'static str, &str); 2] {
    let way = "urn:ietf:params:oauth:grant-type:device_code";
    [("grant_type", way), ("device_code", waiting["device_code"].as_str().unwrap())]
}

#[tokio::test]
async fn a_device_gets_tokens_once_its_user_went_on_elsewhere() {
    let house = world::house().await;
    let device = device(&house).await;
    user(&house, "sue", "supervisor").await;
    let (status, waiting) = post(&house, "/oauth/device", &device, &[("scope", "own")]).await;
    assert_eq!(status, StatusCode::OK, "{waiting}");
    let form = polling(&waiting);
    for want in ["authorization_pending", "slow_down", "slow_down"] {
        let (status, refused) = post(&house, "/oauth/token", &device, &form).await;
        assert_eq!((status, refused["error"].as_str()), (StatusCode::BAD_REQUEST, Some(want)));
    }
    let user_code = waiting["user_code"].as_str().unwrap();
    let complete = waiting["verification_uri_complete"].as_str().unwrap();
    let path = complete.strip_prefix(&house.base).unwrap();
    let mut browser = Browser::new(&house.base);
    let page = browser.open(path).await;
    assert!(page.html.contains(user_code), "{}", page.html);
    let typed = user_code.to_lowercase().replace('-', " ");
    let page = browser.step(&page, "user_code", &[("user_code", &typed)]).await;
    assert!(page.html.contains("Terminal") && page.html.contains(user_code), "{}", page.html);
    let page = signed_in(&mut browser, &page, "sue").await;
    let page = browser.step(&page, "allow", &[]).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.html);
    let (status, given) = post(&house, "/oauth/token", &device, &form).await;
    assert_eq!((status, &given["scope"]), (StatusCode::OK, &json!("own")), "{given}");
    assert_eq!(with_token(&house, "/users/profile", &given["access_token"]).await, StatusCode::OK);
    let (_, refused) = post(&house, "/oauth/token", &device, &form).await;
    assert_eq!(refused["error"], "expired_token", "it hears that once");
    let page = browser.open(path).await;
    let page = browser.step(&page, "user_code", &[("user_code", &typed)]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "the code was used: {}", page.html);
    house.close().await;
}

#[tokio::test]
async fn a_device_hears_when_its_user_says_no() {
    let house = world::house().await;
    let device = device(&house).await;
    user(&house, "sue", "supervisor").await;
    let (_, waiting) = post(&house, "/oauth/device", &device, &[]).await;
    let user_code = waiting["user_code"].as_str().unwrap();
    let mut browser = Browser::new(&house.base);
    let page = browser.open("/oauth/device").await;
    let page = browser.step(&page, "user_code", &[("user_code", user_code)]).await;
    let stranger = browser.step(&page, "deny", &[]).await;
    assert_eq!(stranger.status, StatusCode::OK);
    let (_, refused) = post(&house, "/oauth/token", &device, &polling(&waiting)).await;
    assert_eq!(refused["error"], "authorization_pending", "nobody has signed in to say no");
    let page = browser.open("/oauth/device").await;
    let page = browser.step(&page, "user_code", &[("user_code", user_code)]).await;
    let page = signed_in(&mut browser, &page, "sue").await;
    browser.step(&page, "deny", &[]).await;
    let (_, refused) = post(&house, "/oauth/token", &device, &polling(&waiting)).await;
    assert_eq!(refused["error"], "access_denied");
    house.close().await;
}

#[tokio::test]
async fn a_token_that_is_given_back_works_nowhere_and_nothing_is_told_of_it() {
    let house = world::house().await;
    let (web, robot) = (web(&house).await, robot(&house).await);
    user(&house, "sue", "supervisor").await;
    let watcher = json!({
        "name": "Gateway", "confidential": true, "grants": ["client_credentials"], "scopes": ["own"],
        "may_introspect": true,
    });
    let watcher = world::client(&house, watcher).await;
    let code = world::code(&house, &web, "sue").await;
    let (_, given) = exchange(&house, &web, &code).await;
    let own = [("grant_type", "client_credentials")];
    let (_, robots) = post(&house, "/oauth/token", &robot, &own).await;
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let (access, refresh) = (text(&given, "access_token"), text(&given, "refresh_token"));
    for token in [&access, &refresh] {
        let form = [("token", token.as_str())];
        let (_, mine) = post(&house, "/oauth/introspect", &web, &form).await;
        assert_eq!((&mine["active"], &mine["username"]), (&json!(true), &json!("sue")), "{mine}");
        assert_eq!((&mine["client_id"], &mine["scope"]), (&json!(web.id), &json!("own calls:read")));
        let (_, watched) = post(&house, "/oauth/introspect", &watcher, &form).await;
        assert_eq!(watched, mine, "who may ask about others learns the same");
        let (_, others) = post(&house, "/oauth/introspect", &robot, &form).await;
        assert_eq!(others, json!({ "active": false }), "who may not learns nothing");
        let (status, _) = post(&house, "/oauth/revoke", &robot, &form).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "nobody takes back what is another's");
    }
    assert_eq!(with_token(&house, "/users/profile", &given["access_token"]).await, StatusCode::OK);
    let (status, _) = post(&house, "/oauth/revoke", &web, &[("token", &refresh)]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(with_token(&house, "/users/profile", &given["access_token"]).await, StatusCode::UNAUTHORIZED);
    for token in [access.as_str(), refresh.as_str(), "nonsense"] {
        let (_, told) = post(&house, "/oauth/introspect", &web, &[("token", token)]).await;
        assert_eq!(told, json!({ "active": false }));
        let (status, _) = post(&house, "/oauth/revoke", &web, &[("token", token)]).await;
        assert_eq!(status, StatusCode::OK, "it does not work, which is what was asked for");
    }
    let robots_token = text(&robots, "access_token");
    let (status, _) = post(&house, "/oauth/revoke", &robot, &[("token", &robots_token)]).await;
    assert_eq!(status, StatusCode::OK);
    let status = with_token(&house, "/calls/active", &robots["access_token"]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "a client's own token too");
    house.close().await;
}

#[tokio::test]
async fn what_the_server_says_of_itself_is_true() {
    let house = world::house().await;
    let get = async |path: &str| {
        let answer = house.http.get(format!("{}{path}", house.base)).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    let metadata = get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata, get("/.well-known/openid-configuration").await);
    assert_eq!(metadata["issuer"], house.base);
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    let path = |name: &str| metadata[name].as_str().unwrap().strip_prefix(&house.base).unwrap().to_owned();
    for name in
        ["token_endpoint", "revocation_endpoint", "introspection_endpoint", "device_authorization_endpoint"]
    {
        let answer = house.http.post(format!("{}{}", house.base, path(name))).form(&[("a", "b")]).send();
        let answer: Value = answer.await.unwrap().json().await.unwrap();
        assert_eq!(answer["error"], "invalid_request", "{name}");
    }
    assert!(get(&path("jwks_uri")).await["keys"].as_array().is_some_and(|keys| !keys.is_empty()));
    let page = Browser::new(&house.base).open(&path("authorization_endpoint")).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    for (name, _) in metadata.as_object().unwrap() {
        assert!(!name.contains("id_token") && name != "userinfo_endpoint", "{name} is promised");
    }
    house.close().await;
}
