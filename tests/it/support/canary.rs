//! What the logs of the tests must never hold: passwords, tokens, codes, whole phone numbers.
//!
//! `EML_TEST_LOGS` names the folder where each process of the tests logs all that the program has to say, and
//! notes the secrets that it came upon. `scripts/test` names one, and `scripts/canary` looks through it at the
//! end. Without it nothing is kept.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, Once, OnceLock};

use eml::telemetry::logs::{JsonFields, JsonLines};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

/// What is logged: all of the program's own, and of others what anybody would switch on.
pub const LEVEL: &str = "info,eml=trace";
/// The fields of requests and answers whose values are secret.
const SECRET: &[&str] = &[
    "password",
    "new_password",
    "current_password",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "code",
    "code_verifier",
    "secret",
    "client_secret",
    "device_code",
    "recovery_codes",
    "challenge",
    "ticket",
    "otpauth_url",
    "link",
    "user_code",
];
/// Shorter values are words of the API.
const SHORTEST: usize = 6;

fn folder() -> Option<PathBuf> {
    std::env::var_os("EML_TEST_LOGS").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn file(folder: &Path, kind: &str) -> File {
    let path = folder.join(format!("{}.{kind}", std::process::id()));
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

/// Starts to keep what this process logs. Once is enough.
pub fn listen() {
    static STARTED: Once = Once::new();
    let Some(folder) = folder() else { return };
    STARTED.call_once(|| {
        let log = Mutex::new(file(&folder, "log"));
        let _ = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(LEVEL))
            .fmt_fields(JsonFields)
            .event_format(JsonLines)
            .with_writer(log)
            .try_init();
    });
}

/// Where a process that this one starts has its log.
pub fn log() -> Stdio {
    folder().map_or_else(Stdio::null, |folder| file(&folder, "log").into())
}

/// Keeps what a process logged elsewhere.
pub fn keep(log: &[u8]) {
    if let Some(folder) = folder() {
        file(&folder, "log").write_all(log).unwrap();
    }
}

/// Notes something that no log may hold.
pub fn secret(value: &str) {
    static SECRETS: OnceLock<Option<Mutex<File>>> = OnceLock::new();
    let file = SECRETS.get_or_init(|| folder().map(|folder| Mutex::new(file(&folder, "secrets"))));
    let is_word = value.starts_with("EML-") || value.len() < SHORTEST;
    if let Some(file) = file.as_ref().filter(|_| !is_word) {
        writeln!(file.lock().unwrap(), "{value}").unwrap();
    }
}

/// Notes the secrets of a request or of its answer.
pub fn secrets_in(body: &Value) {
    match body {
        Value::Object(fields) => {
            for (name, value) in fields {
                if SECRET.contains(&name.as_str()) {
                    texts(value);
                } else {
                    secrets_in(value);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(secrets_in),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn texts(value: &Value) {
    match value {
        Value::String(text) => secret(text),
        Value::Array(values) => values.iter().for_each(texts),
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
