//! The API held against its own document: no 5xx, nothing that the document does not tell.
//!
//! `scripts/test` installs schemathesis and tells where by `EML_TEST_SCHEMATHESIS`. `EML_FUZZ_EXAMPLES` is
//! how many requests it makes up for each operation and kind.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::services::not_run;
use crate::support::{House, HouseSettings};

/// Requests for each operation and kind in the short form.
const EXAMPLES: &str = "15";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_answers_as_its_document_says_whatever_it_is_asked() {
    let Some(program) = std::env::var_os("EML_TEST_SCHEMATHESIS").filter(|path| !path.is_empty()) else {
        not_run::<()>("EML_TEST_SCHEMATHESIS is not set; ./scripts/test installs schemathesis");
        return;
    };
    let house = House::open(HouseSettings {
        // Tries are what this is about; that they are counted is tested elsewhere.
        change: |settings| settings.auth.login_tries_per_minute = 1_000_000,
        ..HouseSettings::default()
    })
    .await;
    // Somebody who is really there, so that what is about oneself has something to tell.
    house.person("root", &["admin"]).await;
    let token = house.token_of("root").await;
    let reports = tempfile::tempdir().unwrap();
    let examples = std::env::var("EML_FUZZ_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let checks =
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let run = Command::new(program)
        .arg("run")
        .arg(format!("{}/openapi.json", house.base))
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--phases", "examples,coverage,fuzzing", "--mode", "all", "--workers", "2"])
        .args(["--checks", checks, "--max-examples", &examples, "--continue-on-failure"])
        .args(["--suppress-health-check", "all", "--generation-database", "none", "--warnings", "off"])
        // Each ends the session that asks, or goes on for as long as somebody listens.
        .args(["--exclude-path", "/auth/logout"])
        .current_dir(reports.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    println!(
        "{}",
        told.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(told.contains("passed"), "nothing was asked: {told}");
    house.close().await;
}
