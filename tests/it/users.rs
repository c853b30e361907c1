//! Users through the API: how they come, what they and others change, and what is refused.

use eml::domain::identity::Permission;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{House, HouseSettings, PASSWORD};

const OTHER: &str = "a violet tram in the fog";

async fn house() -> House {
    House::bare(HouseSettings::default()).await
}

fn code(problem: &Value) -> &str {
    problem["code"].as_str().unwrap_or_default()
}

/// The types of the noted acts, oldest first.
async fn acts(house: &House) -> Vec<String> {
    let sealed = house.node().engine.stores().audit.audit_after(0, 1000).await.unwrap();
    let what = |body: &str| serde_json::from_str::<Value>(body).unwrap()["what"].as_str().unwrap().to_owned();
    sealed.iter().map(|sealed| what(&sealed.body)).collect()
}

#[tokio::test]
async fn the_first_admin_is_made_with_a_link_that_works_once() {
    let house = house().await;
    let first = house.node().first_link().await.unwrap().unwrap();
    let second = house.node().first_link().await.unwrap().unwrap();
    let set_up = async |link: &str, password: &str| {
        let body =
            json!({ "link": link, "login": "Root", "password": password, "email": "root@example.org" });
        house.ask(Method::POST, "/auth/setup", None, body).await
    };
    let (status, problem) = set_up(&first.link, "too short").await;
    assert_eq!((status, code(&problem)), (StatusCode::UNPROCESSABLE_ENTITY, "EML-2010"), "{problem}");
    let (status, user) = set_up(&first.link, PASSWORD).await;
    assert_eq!(status, StatusCode::CREATED, "a refused password does not use the link up: {user}");
    assert_eq!((&user["login"], &user["roles"]), (&json!("root"), &json!(["admin"])));
    for link in [first.link.as_str(), second.link.as_str(), "lnk_x", ""] {
        let (status, problem) = set_up(link, PASSWORD).await;
        assert_eq!((status, code(&problem)), (StatusCode::GONE, "EML-2012"), "{link}: {problem}");
    }
    assert!(house.node().first_link().await.unwrap().is_none(), "there is somebody now");
    let token = house.token_of("root").await;
    let (status, profile) = house.ask(Method::GET, "/users/profile", Some(&token), Value::Null).await;
    assert_eq!((status, &profile["email"]), (StatusCode::OK, &json!("root@example.org")));
    assert_eq!(profile["permissions"].as_array().unwrap().len(), Permission::ALL.len());
    house.close().await;
}

#[tokio::test]
async fn of_many_who_use_one_link_at_a_time_one_succeeds() {
    let house = house().await;
    let link = house.node().first_link().await.unwrap().unwrap().link;
    let tries = (0..8).map(|i| {
        let body = json!({ "link": link, "login": format!("root{i}"), "password": PASSWORD });
        house.ask(Method::POST, "/auth/setup", None, body)
    });
    let answers = futures_util::future::join_all(tries).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count(), 1, "{answers:?}");
    house.close().await;
}

#[tokio::test]
async fn an_invitation_says_what_its_user_will_be() {
    let house = house().await;
    let invitation = json!({ "roles": ["supervisor"], "email": "Sue@Example.org" });
    let made = house.post("/users/invitations", invitation).await;
    assert!(made["url"].as_str().unwrap().contains("/auth/link#invitation:lnk_"), "{made}");
    let register = async |more: Value| {
        let mut body = json!({ "invitation": made["link"], "login": "sue", "password": PASSWORD });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        house.ask(Method::POST, "/users/register", None, body).await
    };
    let (status, problem) = register(json!({ "roles": ["admin"] })).await;
    assert_eq!((status, code(&problem)), (StatusCode::FORBIDDEN, "EML-2003"), "{problem}");
    let (status, user) = register(json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{user}");
    assert_eq!((&user["roles"], &user["email"]), (&json!(["supervisor"]), &json!("sue@example.org")));
    assert_eq!(user["email_verified"], true);
    let (status, problem) = register(json!({ "login": "sue2" })).await;
    assert_eq!((status, code(&problem)), (StatusCode::GONE, "EML-2012"), "{problem}");
    let taken = json!({ "roles": ["agent"], "email": "sue@example.org" });
    let (status, _) = house.request(Method::POST, "/users/invitations", taken, &house.admin()).await;
    assert_eq!(status, StatusCode::CONFLICT);
    house.close().await;
}

#[tokio::test]
async fn who_may_register_is_configured() {
    let body = |login: &str, more: Value| {
        let mut body = json!({ "login": login, "password": PASSWORD });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let house = house().await;
    let (status, problem) = house.ask(Method::POST, "/users/register", None, body("ann", json!({}))).await;
    assert_eq!((status, code(&problem)), (StatusCode::FORBIDDEN, "EML-2016"), "{problem}");
    house.close().await;

    let change = |settings: &mut eml::config::Settings| settings.auth.registration = "admin".to_owned();
    let house = House::bare(HouseSettings { change, ..HouseSettings::default() }).await;
    let invitation = json!({ "roles": ["agent"] });
    let (status, problem) =
        house.request(Method::POST, "/users/invitations", invitation, &house.admin()).await;
    assert_eq!((status, code(&problem)), (StatusCode::FORBIDDEN, "EML-2016"), "{problem}");
    house.post("/users/register", body("ann", json!({ "role": "agent" }))).await;
    house.close().await;

    let change = |settings: &mut eml::config::Settings| settings.auth.registration = "open".to_owned();
    let house = House::bare(HouseSettings { change, ..HouseSettings::default() }).await;
    let (status, user) = house.ask(Method::POST, "/users/register", None, body("ann", json!({}))).await;
    assert_eq!((status, &user["roles"]), (StatusCode::CREATED, &json!(["agent"])), "{user}");
    for more in [json!({ "role": "admin" }), json!({ "roles": ["supervisor"] }), json!({ "roles": [] })] {
        let (status, problem) =
            house.ask(Method::POST, "/users/register", None, body("ben", more.clone())).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{more}: {problem}");
    }
    house.close().await;
}

#[tokio::test]
async fn fields_that_are_not_for_the_asker_are_refused_and_change_nothing() {
    let house = house().await;
    let ann = house.person("ann", &["agent"]).await;
    let token = house.token_of("ann").await;
    let stored = async || {
        eml::edge::users::by_id(&*house.node().engine.stores().records, ann.id).await.unwrap().unwrap()
    };
    let before = stored().await;
    let fields = [
        ("id", json!("usr_01h455vb4pex5vsknk084sn02q")),
        ("login", json!("root")),
        ("role", json!("admin")),
        ("roles", json!(["admin"])),
        ("permissions", json!(["users:write"])),
        ("enabled", json!(true)),
        ("epoch", json!(0)),
        ("password", json!(OTHER)),
        ("password_hash", json!("")),
        ("email_verified", json!(true)),
        ("agent_id", json!(null)),
        ("__proto__", json!({ "roles": ["admin"] })),
        ("user", json!({ "roles": ["admin"] })),
    ];
    for (field, value) in &fields {
        let body = json!({ "name": "Ann", *field: value });
        let (status, problem) = house.ask(Method::PATCH, "/users/profile", Some(&token), body).await;
        assert_eq!(
            (status, code(&problem)),
            (StatusCode::UNPROCESSABLE_ENTITY, "EML-1006"),
            "{field}: {problem}"
        );
    }
    for field in
        ["id", "role", "roles", "permissions", "epoch", "password", "password_hash", "email_verified"]
    {
        let body = json!({ "name": "Ann", field: 1 });
        let path = format!("/users/{}", ann.id);
        let (status, problem) = house.request(Method::PATCH, &path, body, &house.admin()).await;
        assert_eq!(
            (status, code(&problem)),
            (StatusCode::UNPROCESSABLE_ENTITY, "EML-1006"),
            "{field}: {problem}"
        );
    }
    for field in ["id", "enabled", "epoch", "password_hash", "email_verified", "permissions", "agent_id"] {
        let body = json!({ "login": "ben", "password": PASSWORD, "role": "agent", field: 1 });
        let (status, problem) = house.request(Method::POST, "/users/register", body, &house.admin()).await;
        assert_eq!(
            (status, code(&problem)),
            (StatusCode::UNPROCESSABLE_ENTITY, "EML-1006"),
            "{field}: {problem}"
        );
    }
    assert_eq!(stored().await, before);
    house.close().await;
}

#[tokio::test]
async fn a_profile_is_changed_by_its_user_and_an_address_belongs_to_one() {
    let house = house().await;
    house.person("ann", &["agent"]).await;
    house.person("ben", &["agent"]).await;
    let (ann, ben) = (house.token_of("ann").await, house.token_of("ben").await);
    let change =
        async |token: &str, body: Value| house.ask(Method::PATCH, "/users/profile", Some(token), body).await;
    let (status, profile) = change(&ann, json!({ "name": " Ann Lee ", "email": "Ann@Example.org" })).await;
    assert_eq!(status, StatusCode::OK, "{profile}");
    assert_eq!((&profile["name"], &profile["email"]), (&json!("Ann Lee"), &json!("ann@example.org")));
    assert_eq!(profile["email_verified"], false, "nobody has vouched for it");
    let (status, problem) = change(&ben, json!({ "email": "ANN@example.org" })).await;
    assert_eq!((status, code(&problem)), (StatusCode::CONFLICT, "EML-1009"), "{problem}");
    for body in [
        json!({ "email": "nonsense" }),
        json!({ "name": "" }),
        json!({ "name": "a\nb" }),
        json!({ "name": 7 }),
    ] {
        let (status, problem) = change(&ben, body).await;
        assert_eq!((status, code(&problem)), (StatusCode::UNPROCESSABLE_ENTITY, "EML-1002"), "{problem}");
    }
    let (_, profile) = change(&ann, json!({ "email": null })).await;
    assert_eq!((&profile["email"], &profile["name"]), (&Value::Null, &json!("Ann Lee")));
    let (status, _) = change(&ben, json!({ "email": "ann@example.org" })).await;
    assert_eq!(status, StatusCode::OK, "it is free again");
    house.close().await;
}

#[tokio::test]
async fn a_change_of_an_older_version_is_refused() {
    let house = house().await;
    let ann = house.person("ann", &["agent"]).await;
    let url = format!("{}/users/{}", house.base, ann.id);
    let token = house.token(&house.admin());
    let shown = house.http.get(&url).bearer_auth(&token).send().await.unwrap();
    let tag = shown.headers()[header::ETAG].clone();
    for (name, want) in [("Ann", StatusCode::OK), ("Anna", StatusCode::PRECONDITION_FAILED)] {
        let request = house.http.patch(&url).bearer_auth(&token).header(header::IF_MATCH, tag.clone());
        let answer = request.json(&json!({ "name": name })).send().await.unwrap();
        assert_eq!(answer.status(), want);
    }
    house.close().await;
}

#[tokio::test]
async fn users_are_listed_by_page_and_filter() {
    let house = house().await;
    for i in 0..7 {
        house.person(&format!("agent{i}"), &["agent"]).await;
    }
    let sue = house.person("sue", &["supervisor", "agent"]).await;
    let patch = json!({ "email": "sue@example.org", "name": "Susan Storm", "enabled": false });
    let (status, _) =
        house.request(Method::PATCH, &format!("/users/{}", sue.id), patch, &house.admin()).await;
    assert_eq!(status, StatusCode::OK);
    let mut logins = Vec::new();
    let mut path = "/users/list?limit=3&count=true".to_owned();
    loop {
        let page = house.get(&path).await;
        assert_eq!(page["page"]["count"], 8);
        logins.extend(
            page["data"].as_array().unwrap().iter().map(|user| user["login"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["page"]["next_cursor"].as_str() else { break };
        path = format!("/users/list?limit=3&count=true&cursor={cursor}");
    }
    let all: Vec<String> = (0..7).map(|i| format!("agent{i}")).chain(["sue".to_owned()]).collect();
    assert_eq!(logins, all);
    for (filter, want) in [
        ("role=supervisor", 1),
        ("role=agent", 8),
        ("enabled=false", 1),
        ("enabled=true&role=supervisor", 0),
        ("q=STORM", 1),
        ("q=agent", 7),
        ("email=SUE%40example.org", 1),
        ("q=nobody", 0),
    ] {
        let page = house.get(&format!("/users/list?{filter}")).await;
        assert_eq!(page["data"].as_array().unwrap().len(), want, "{filter}");
        assert!(!page.to_string().contains("hmac384"), "no hash is shown");
    }
    for filter in ["limit=0", "cursor=%21", "role=Admin", "enabled=perhaps", "nonsense=1"] {
        let (status, _) =
            house.request(Method::GET, &format!("/users/list?{filter}"), Value::Null, &house.admin()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{filter}");
    }
    house.close().await;
}

#[tokio::test]
async fn what_is_done_to_users_is_noted() {
    let house = house().await;
    let body = json!({ "login": "ann", "password": PASSWORD, "role": "agent" });
    let ann = house.post("/users/register", body).await;
    let path = format!("/users/{}", ann["id"].as_str().unwrap());
    let admin = house.admin();
    house.request(Method::PUT, &format!("{path}/roles"), json!({ "roles": ["supervisor"] }), &admin).await;
    house.try_sign_in("ann", "wrong").await;
    house.try_sign_in("nobody at all", "wrong").await;
    house.sign_in("ann").await;
    house.request(Method::PATCH, &path, json!({ "enabled": false }), &admin).await;
    house.request(Method::PATCH, &path, json!({ "enabled": true }), &admin).await;
    house.post(&format!("{path}/password-link"), Value::Null).await;
    house.request(Method::DELETE, &path, Value::Null, &admin).await;
    let want = [
        "user.created",
        "user.roles_changed",
        "user.login_failed",
        "user.login_failed",
        "user.login_succeeded",
        "user.disabled",
        "user.enabled",
        "user.password_link_made",
        "user.removed",
    ];
    assert_eq!(acts(&house).await, want);
    house.close().await;
}

#[tokio::test]
async fn the_page_for_links_can_neither_be_framed_nor_run_anything_else() {
    let house = house().await;
    let page = house.http.get(format!("{}/auth/link", house.base)).send().await.unwrap();
    let headers = page.headers().clone();
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "script-src 'sha256-"] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let body = page.text().await.unwrap();
    let script = body.split_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, script.as_bytes());
    use base64::Engine as _;
    let sum = base64::engine::general_purpose::STANDARD.encode(sum);
    assert!(policy.contains(&format!("'sha256-{sum}'")), "the browser would not run the script");
    house.close().await;
}
