//! The whole of it with a client library in another language, which others wrote and others use.

use std::path::Path;
use std::process::Stdio;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;

use super::world::{self, PASSWORD, PLAIN_BACK, device, robot, user, web};
use crate::support::services::not_run;

#[tokio::test]
async fn a_client_library_of_others_gets_its_tokens_in_every_way() {
    let Some(library) = std::env::var_os("EML_TEST_OPENID_CLIENT") else {
        not_run::<()>("EML_TEST_OPENID_CLIENT is not set; ./scripts/test installs openid-client");
        return;
    };
    let house = world::house().await;
    let (web, robot, device) = (web(&house).await, robot(&house).await, device(&house).await);
    user(&house, "sue", "supervisor").await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/oauth/client.mjs");
    let output = Command::new("node")
        .arg(script)
        .env("LIBRARY", library)
        .env("ISSUER", &house.base)
        .env("WEB", &web.id)
        .env("WEB_SECRET", web.secret.as_deref().unwrap())
        .env("BACK", PLAIN_BACK)
        .env("ROBOT", &robot.id)
        .env("ROBOT_SECRET", robot.secret.as_deref().unwrap())
        .env("DEVICE", &device.id)
        .env("LOGIN", "sue")
        .env("PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (what, want) in [
        ("profile", StatusCode::OK),
        ("beyond_scope", StatusCode::FORBIDDEN),
        ("refreshed", StatusCode::OK),
        ("revoked", StatusCode::UNAUTHORIZED),
        ("robot", StatusCode::OK),
        ("robot_beyond", StatusCode::FORBIDDEN),
        ("device", StatusCode::OK),
    ] {
        assert_eq!(told[what], want.as_u16(), "{what}: {told}");
    }
    let claims = json!({ "client_id": web.id, "scope": "own calls:read", "amr": ["pwd"] });
    assert_eq!(told["claims"], claims, "as others read our tokens");
    let about = json!({ "active": true, "username": "sue", "client_id": web.id, "scope": "own calls:read" });
    assert_eq!(told["about"], about);
    assert_eq!(told["about_revoked"], false);
    house.close().await;
}
