//! What users may do to each other, and how fast that ends which was taken from them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{House, HouseSettings, PASSWORD};

const OTHER: &str = "a violet tram in the fog";

async fn house() -> House {
    House::bare(HouseSettings::default()).await
}

fn code(problem: &Value) -> &str {
    problem["code"].as_str().unwrap_or_default()
}

async fn put_role(house: &House, name: &str, permissions: &[&str]) {
    let body = json!({ "permissions": permissions });
    let (status, answer) = house.request(Method::PUT, &format!("/roles/{name}"), body, &house.admin()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn nobody_gives_or_takes_more_than_it_has_itself() {
    let house = house().await;
    put_role(&house, "hr", &["own", "users:read", "users:write", "roles:write", "calls:read"]).await;
    put_role(&house, "reader", &["own", "calls:read"]).await;
    house.person("hana", &["hr"]).await;
    let root = house.person("root", &["admin"]).await;
    let sue = house.person("sue", &["supervisor"]).await;
    let ray = house.person("ray", &["reader"]).await;
    let hana = house.token_of("hana").await;
    let ask =
        async |method: Method, path: String, body: Value| house.ask(method, &path, Some(&hana), body).await;
    let new = |login: &str, role: &str| json!({ "login": login, "password": PASSWORD, "role": role });
    for (method, path, body) in [
        (Method::POST, "/users/register".to_owned(), new("x", "admin")),
        (Method::POST, "/users/register".to_owned(), new("x", "agent")),
        (Method::POST, "/users/invitations".to_owned(), json!({ "roles": ["supervisor"] })),
        (Method::PUT, format!("/users/{}/roles", ray.id), json!({ "roles": ["reader", "admin"] })),
        (Method::PUT, format!("/users/{}/roles", sue.id), json!({ "roles": ["reader"] })),
        (Method::PATCH, format!("/users/{}", root.id), json!({ "enabled": false })),
        (Method::PATCH, format!("/users/{}", sue.id), json!({ "email": "hana@example.org" })),
        (Method::DELETE, format!("/users/{}", sue.id), Value::Null),
        (Method::POST, format!("/users/{}/password-link", root.id), Value::Null),
        (Method::PUT, "/roles/hr".to_owned(), json!({ "permissions": ["own", "clients:write"] })),
        (Method::PUT, "/roles/supervisor".to_owned(), json!({ "permissions": ["own"] })),
        (Method::PUT, "/roles/new".to_owned(), json!({ "permissions": ["audit:read"] })),
    ] {
        let (status, problem) = ask(method, path.clone(), body.clone()).await;
        assert_eq!((status, code(&problem)), (StatusCode::FORBIDDEN, "EML-2003"), "{path} {body}: {problem}");
    }
    for (method, path, body, want) in [
        (Method::POST, "/users/register".to_owned(), new("x", "reader"), StatusCode::CREATED),
        (Method::PATCH, format!("/users/{}", ray.id), json!({ "enabled": false }), StatusCode::OK),
        (Method::DELETE, format!("/users/{}", ray.id), Value::Null, StatusCode::NO_CONTENT),
        (Method::PUT, "/roles/new".to_owned(), json!({ "permissions": ["calls:read"] }), StatusCode::OK),
    ] {
        let (status, answer) = ask(method, path.clone(), body).await;
        assert_eq!(status, want, "{path}: {answer}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_role_is_what_it_may_do_from_the_next_request_on() {
    let house = house().await;
    put_role(&house, "night-shift", &["own"]).await;
    house.person("nina", &["night-shift"]).await;
    let token = house.token_of("nina").await;
    let history = async || house.ask(Method::GET, "/calls/history", Some(&token), Value::Null).await.0;
    assert_eq!(history().await, StatusCode::FORBIDDEN);
    put_role(&house, "night-shift", &["own", "calls:read"]).await;
    assert_eq!(history().await, StatusCode::OK);
    put_role(&house, "night-shift", &["own"]).await;
    assert_eq!(history().await, StatusCode::FORBIDDEN);
    house.close().await;
}

#[tokio::test]
async fn roles_have_known_permissions_and_admin_keeps_all_of_them() {
    let house = house().await;
    let ask = async |method: Method, path: &str, body: Value| {
        house.request(method, path, body, &house.admin()).await
    };
    for (method, path, body, status) in [
        (Method::PUT, "/roles/x", json!({ "permissions": ["calls:*"] }), StatusCode::UNPROCESSABLE_ENTITY),
        (
            Method::PUT,
            "/roles/x",
            json!({ "permissions": [], "admin": true }),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (Method::PUT, "/roles/admin", json!({ "permissions": ["own"] }), StatusCode::CONFLICT),
        (Method::DELETE, "/roles/admin", Value::Null, StatusCode::NOT_FOUND),
        (Method::PUT, "/roles/Not-a-name", json!({ "permissions": [] }), StatusCode::NOT_FOUND),
        (Method::GET, "/roles/nobody", Value::Null, StatusCode::NOT_FOUND),
    ] {
        let (got, answer) = ask(method.clone(), path, body).await;
        assert_eq!(got, status, "{method} {path}: {answer}");
    }
    put_role(&house, "agent", &["own"]).await;
    put_role(&house, "trainee", &["own"]).await;
    house.person("tim", &["trainee"]).await;
    assert_eq!(
        ask(Method::DELETE, "/roles/trainee", Value::Null).await.0,
        StatusCode::CONFLICT,
        "tim has it"
    );
    let roles = house.get("/roles").await;
    let names: Vec<_> =
        roles["data"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "agent", "service", "supervisor", "trainee"]);
    assert_eq!(house.get("/roles/agent").await["changed"], true);
    assert_eq!(ask(Method::DELETE, "/roles/agent", Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(house.get("/roles/agent").await["changed"], false, "it is again as it comes");
    house.close().await;
}

#[tokio::test]
async fn who_is_disabled_is_out_at_once_and_gets_the_same_answer_as_with_a_wrong_password() {
    let house = house().await;
    house.person("root", &["admin"]).await;
    let ann = house.person("ann", &["agent"]).await;
    let signed_in = house.sign_in("ann").await;
    let token = signed_in["access_token"].as_str().unwrap();
    let path = format!("/users/{}", ann.id);
    let (status, _) = house.request(Method::PATCH, &path, json!({ "enabled": false }), &house.admin()).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = house.ask(Method::GET, "/users/profile", Some(token), Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let refresh = json!({ "refresh_token": signed_in["refresh_token"] });
    assert_eq!(house.ask(Method::POST, "/auth/refresh", None, refresh).await.0, StatusCode::UNAUTHORIZED);
    let plain = |(status, mut problem): (StatusCode, Value)| {
        problem["request_id"] = Value::Null;
        (status, problem)
    };
    let disabled = plain(house.try_sign_in("ann", PASSWORD).await);
    assert_eq!(disabled, plain(house.try_sign_in("ann", "wrong").await));
    assert_eq!(disabled, plain(house.try_sign_in("nobody", "wrong").await));
    house.request(Method::PATCH, &path, json!({ "enabled": true }), &house.admin()).await;
    house.sign_in("ann").await;
    house.close().await;
}

#[tokio::test]
async fn tokens_that_name_older_roles_are_refused() {
    let house = house().await;
    house.person("root", &["admin"]).await;
    let sue = house.person("sue", &["supervisor"]).await;
    let signed_in = house.sign_in("sue").await;
    let token = signed_in["access_token"].as_str().unwrap();
    let list = async |token: &str| house.ask(Method::GET, "/users/list", Some(token), Value::Null).await.0;
    assert_eq!(list(token).await, StatusCode::OK);
    let body = json!({ "roles": ["agent"] });
    house.request(Method::PUT, &format!("/users/{}/roles", sue.id), body, &house.admin()).await;
    assert_eq!(list(token).await, StatusCode::UNAUTHORIZED);
    let refresh = json!({ "refresh_token": signed_in["refresh_token"] });
    let (status, fresh) = house.ask(Method::POST, "/auth/refresh", None, refresh).await;
    assert_eq!(status, StatusCode::OK, "its session goes on, with what it is now: {fresh}");
    assert_eq!(list(fresh["access_token"].as_str().unwrap()).await, StatusCode::FORBIDDEN);
    house.close().await;
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_ends_all_other_sessions() {
    let house = house().await;
    house.person("ann", &["agent"]).await;
    let (here, there) = (house.sign_in("ann").await, house.sign_in("ann").await);
    let token = here["access_token"].as_str().unwrap();
    let change = async |current: &str, new: &str| {
        let body = json!({ "current_password": current, "password": new });
        house.ask(Method::PUT, "/users/profile/password", Some(token), body).await
    };
    for (current, new, want) in [
        ("wrong", OTHER, "EML-1002"),
        (PASSWORD, "short", "EML-2010"),
        (PASSWORD, "passwordpassword", "EML-2010"),
        (PASSWORD, PASSWORD, "EML-2010"),
    ] {
        let (status, problem) = change(current, new).await;
        assert_eq!((status, code(&problem)), (StatusCode::UNPROCESSABLE_ENTITY, want), "{problem}");
    }
    let (status, answer) = change(PASSWORD, OTHER).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{answer}");
    let (status, _) = house.ask(Method::GET, "/users/profile", Some(token), Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "tokens of before");
    for (session, want) in [(&here, StatusCode::OK), (&there, StatusCode::UNAUTHORIZED)] {
        let refresh = json!({ "refresh_token": session["refresh_token"] });
        assert_eq!(house.ask(Method::POST, "/auth/refresh", None, refresh).await.0, want);
    }
    assert_eq!(house.try_sign_in("ann", PASSWORD).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(house.try_sign_in("ann", OTHER).await.0, StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn a_forgotten_password_is_set_with_a_link_that_works_once() {
    let house = house().await;
    let ann = house.person("ann", &["agent"]).await;
    let session = house.sign_in("ann").await;
    let path = format!("/users/{}/password-link", ann.id);
    let (first, second) = (house.post(&path, Value::Null).await, house.post(&path, Value::Null).await);
    let set = async |link: &Value, password: &str| {
        house.ask(Method::POST, "/auth/password", None, json!({ "link": link, "password": password })).await
    };
    let (status, problem) = set(&first["link"], "ann ann ann ann ann").await;
    assert_eq!((status, code(&problem)), (StatusCode::UNPROCESSABLE_ENTITY, "EML-2010"), "{problem}");
    assert_eq!(set(&first["link"], OTHER).await.0, StatusCode::NO_CONTENT);
    for (link, why) in [(&first, "it was used"), (&second, "the password changed since")] {
        let (status, problem) = set(&link["link"], PASSWORD).await;
        assert_eq!((status, code(&problem)), (StatusCode::GONE, "EML-2012"), "{why}: {problem}");
    }
    let refresh = json!({ "refresh_token": session["refresh_token"] });
    assert_eq!(house.ask(Method::POST, "/auth/refresh", None, refresh).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(house.try_sign_in("ann", OTHER).await.0, StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn the_last_admin_stays() {
    let house = house().await;
    let root = house.person("root", &["admin"]).await;
    let path = format!("/users/{}", root.id);
    let ask = async |method: Method, path: &str, body: Value| {
        house.request(method, path, body, &house.admin()).await
    };
    for (method, path, body) in [
        (Method::DELETE, path.clone(), Value::Null),
        (Method::PATCH, path.clone(), json!({ "enabled": false })),
        (Method::PUT, format!("{path}/roles"), json!({ "roles": ["agent"] })),
    ] {
        let (status, problem) = ask(method, &path, body).await;
        assert_eq!((status, code(&problem)), (StatusCode::CONFLICT, "EML-1018"), "{path}: {problem}");
    }
    house.person("root2", &["admin"]).await;
    assert_eq!(ask(Method::DELETE, &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    house.close().await;
}

#[tokio::test]
async fn secrets_that_were_answered_are_not_kept_for_requests_that_come_again() {
    let house = house().await;
    let token = house.token(&house.admin());
    let invite = async || {
        let request = house.http.post(format!("{}/users/invitations", house.base)).bearer_auth(&token);
        let request = request.header("idempotency-key", "one").json(&json!({ "roles": ["agent"] }));
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let (first, second) = (invite().await, invite().await);
    assert_ne!(first["link"], second["link"], "the answer was not stored");
    house.close().await;
}
