//! `eml user`: what the host does with users, and what a running node makes of it.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{House, HouseSettings, PASSWORD, canary};

fn eml(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eml"));
    command
        .env("EML_LOG", canary::LEVEL)
        .env("EML__AUTH__BCRYPT_COST", "4")
        .env("EML__SERVER__PUBLIC_URL", "https://eml.example.org");
    let output =
        command.args(["--data-dir", folder.to_str().unwrap(), "user"]).args(arguments).output().unwrap();
    canary::keep(&output.stderr);
    output
}

/// What a command printed that worked.
fn printed(folder: &Path, arguments: &[&str]) -> String {
    let output = eml(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn open(folder: &Path) -> House {
    House::bare(HouseSettings {
        store_url: Some(format!("sqlite://{}", folder.join("eml.db").display())),
        folder: Some(folder.to_owned()),
        ..HouseSettings::default()
    })
    .await
}

fn link_of(url: &str) -> &str {
    url.rsplit_once(':').unwrap().1
}

#[tokio::test]
async fn users_are_made_listed_and_changed_from_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let file = place.join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let file = file.to_str().unwrap();
    let id = printed(
        place,
        &["create", "Ann", "--role", "agent", "--role", "supervisor", "--password-file", file],
    );
    assert!(id.starts_with("usr_"), "{id}");
    let row: Value = serde_json::from_str(&printed(place, &["ls", "--json"])).unwrap();
    assert_eq!((&row["id"], &row["login"]), (&json!(id), &json!("ann")));
    assert_eq!(row["roles"], json!(["agent", "supervisor"]));
    for refused in [
        ["create", "ANN", "--role", "agent", "--password-file", file].as_slice(),
        &["create", "ann lee", "--role", "agent", "--password-file", file],
        &["create", "ben", "--role", "No Role", "--password-file", file],
        &["disable", "nobody"],
        &["reset-password", "nobody"],
    ] {
        assert!(!eml(place, refused).status.success(), "{refused:?}");
    }
    std::fs::write(file, "short").unwrap();
    assert!(!eml(place, &["create", "ben", "--role", "agent", "--password-file", file]).status.success());
    std::fs::write(file, "password1").unwrap();
    let weak = eml(place, &["create", "ben", "--role", "agent", "--password-file", file]);
    assert!(weak.status.success() && String::from_utf8_lossy(&weak.stderr).contains("warning: the password"));

    let house = open(place).await;
    assert_eq!(house.try_sign_in("ann", PASSWORD).await.0, StatusCode::OK);
    let sealed = house.node().engine.stores().audit.audit_after(0, 10).await.unwrap();
    let first: Value = serde_json::from_str(&sealed[0].body).unwrap();
    assert_eq!((&first["what"], &first["actor"]["kind"]), (&json!("user.created"), &json!("host")));
    house.close().await;
}

#[tokio::test]
async fn a_running_node_refuses_within_a_second_whom_the_host_disables() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path()).await;
    house.person("ann", &["agent"]).await;
    let signed_in = house.sign_in("ann").await;
    let token = signed_in["access_token"].as_str().unwrap();
    let profile = async || house.ask(Method::GET, "/users/profile", Some(token), Value::Null).await.0;
    assert_eq!(profile().await, StatusCode::OK);
    printed(folder.path(), &["disable", "ann"]);
    let disabled = Instant::now();
    while profile().await != StatusCode::UNAUTHORIZED {
        assert!(disabled.elapsed() < Duration::from_secs(1), "still let in");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refresh = json!({ "refresh_token": signed_in["refresh_token"] });
    assert_eq!(house.ask(Method::POST, "/auth/refresh", None, refresh).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(house.try_sign_in("ann", PASSWORD).await.0, StatusCode::UNAUTHORIZED);
    printed(folder.path(), &["enable", "ann"]);
    assert_eq!(house.try_sign_in("ann", PASSWORD).await.0, StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn links_of_the_host_set_a_password_and_make_an_admin() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(folder.path()).await;
    house.person("ann", &["admin"]).await;
    let url = printed(folder.path(), &["reset-password", "ann"]);
    assert!(url.starts_with("https://eml.example.org/auth/link#password:lnk_"), "{url}");
    let other = "a violet tram in the fog";
    let body = json!({ "link": link_of(&url), "password": other });
    assert_eq!(house.ask(Method::POST, "/auth/password", None, body).await.0, StatusCode::NO_CONTENT);
    assert_eq!(house.try_sign_in("ann", other).await.0, StatusCode::OK);
    let url = printed(folder.path(), &["recover"]);
    let body = json!({ "link": link_of(&url), "login": "rescue", "password": PASSWORD });
    let (status, user) = house.ask(Method::POST, "/auth/setup", None, body.clone()).await;
    assert_eq!((status, &user["roles"]), (StatusCode::CREATED, &json!(["admin"])), "{user}");
    assert_eq!(house.ask(Method::POST, "/auth/setup", None, body).await.0, StatusCode::GONE);
    printed(folder.path(), &["reset-2fa", "ann"]);
    house.close().await;
}

#[test]
fn a_store_that_ends_with_its_process_has_no_users_to_work_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_eml"));
    command.env("EML__STORE__URL", "memory:").args([
        "--data-dir",
        folder.path().to_str().unwrap(),
        "user",
        "ls",
    ]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("memory:"));
}
