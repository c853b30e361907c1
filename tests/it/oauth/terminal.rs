//! `eml login`: somebody at a terminal, and a browser elsewhere.

use std::path::Path;
use std::process::Stdio;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::browser::Browser;
use super::world::{self, signed_in, user, with_token};

fn eml(base: &str, file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eml"));
    command.args(arguments).arg("--server").arg(base).arg("--tokens").arg(file);
    command.env_remove("EML_CONFIG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

#[tokio::test]
async fn somebody_at_a_terminal_signs_in_with_a_browser_and_out_again() {
    let house = world::house().await;
    user(&house, "sue", "supervisor").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.json");
    let mut login = eml(&house.base, &file, &["login", "--scope", "own calls:read"]).spawn().unwrap();
    let mut said = BufReader::new(login.stderr.take().unwrap()).lines();
    let line = said.next_line().await.unwrap().unwrap();
    let path = line.strip_prefix(&format!("Open {}", house.base)).unwrap_or_else(|| panic!("{line}"));
    let mut browser = Browser::new(&house.base);
    let page = browser.open(path).await;
    let code = path.split_once("user_code=").unwrap().1;
    let page = browser.step(&page, "user_code", &[("user_code", code)]).await;
    assert!(page.html.contains("EML command line"), "{}", page.html);
    let page = signed_in(&mut browser, &page, "sue").await;
    let page = browser.step(&page, "allow", &[]).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.html);
    assert!(login.wait().await.unwrap().success());

    let printed = async || {
        let output = eml(&house.base, &file, &["login", "--print-token"]).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        json!(String::from_utf8(output.stdout).unwrap().trim())
    };
    let token = printed().await;
    assert_eq!(with_token(&house, "/users/profile", &token).await, StatusCode::OK);
    assert_eq!(with_token(&house, "/users/list", &token).await, StatusCode::FORBIDDEN, "not asked for");
    // An old token is exchanged without anybody's doing.
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    kept["expires_at"] = json!("2020-01-01T00:00:00.000Z");
    std::fs::write(&file, kept.to_string()).unwrap();
    let fresh = printed().await;
    assert_ne!(fresh, token);
    assert_eq!(with_token(&house, "/users/profile", &fresh).await, StatusCode::OK);

    let output = eml(&house.base, &file, &["logout"]).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!file.exists());
    for token in [token, fresh] {
        assert_eq!(with_token(&house, "/users/profile", &token).await, StatusCode::UNAUTHORIZED);
    }
    house.close().await;
}
