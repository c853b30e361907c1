//! The real provider: npm `oidc-provider`, in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::services::not_run;

/// A running provider.
pub(super) struct RealProvider {
    pub issuer: String,
    folder: TempDir,
    process: Child,
}

/// How it is set up.
pub(super) struct Setup {
    /// How its client proves who it is: `client_secret_basic`, `client_secret_post` or `none`.
    pub client_auth: &'static str,
    /// What signs its tokens, as `RS256`.
    pub algorithm: &'static str,
    /// Whether id tokens hold all claims; otherwise they have to be asked for.
    pub id_token_has_all: bool,
}

impl RealProvider {
    /// Starts one; `None` (said aloud) where `scripts/test` did not install it, which with `CI=true` is a
    /// failure.
    pub(super) fn start(redirect_url: &str, setup: &Setup) -> Option<Self> {
        let modules = std::env::var("EML_TEST_OIDC").ok().filter(|folder| !folder.is_empty());
        let missing = || not_run("EML_TEST_OIDC is not set; ./scripts/test installs the provider");
        let modules = modules.or_else(missing)?;
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let people = folder.path().join("people.json");
        std::fs::write(&people, "{}").unwrap();
        let client = json!({
            "client_id": "eml", "client_secret": "a secret that only tests know",
            "redirect_uris": [redirect_url], "grant_types": ["authorization_code"],
            "response_types": ["code"], "token_endpoint_auth_method": setup.client_auth,
            "id_token_signed_response_alg": setup.algorithm,
        });
        let settings = json!({
            "modules": modules, "port": port, "people": people, "clients": [client],
            "algorithm": setup.algorithm, "id_token_has_all": setup.id_token_has_all,
        });
        let file = folder.path().join("settings.json");
        std::fs::write(&file, settings.to_string()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/oidc/provider.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node runs");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
        assert!(is_ready, "the provider starts");
        // It has more to say, and ends when nobody hears it.
        std::thread::spawn(move || for _ in lines.map_while(Result::ok) {});
        Some(Self { issuer: format!("http://127.0.0.1:{port}"), folder, process })
    }

    /// Who can sign in there, with their claims.
    pub(super) fn people(&self, people: &Value) {
        std::fs::write(self.folder.path().join("people.json"), people.to_string()).unwrap();
    }
}

impl Drop for RealProvider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
