//! `eml login` and `eml logout`: tokens for the person at the terminal, who signs in with a browser
//! anywhere (RFC 8628). No password passes through this program.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Failure, output};
use crate::config::Settings;
use crate::domain::identity::{GrantType, command_line};
use crate::domain::time::{Clock, Millis, Timestamp};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Seconds between two questions when the server names none, and what each `slow_down` adds (RFC 8628).
const STEP: u64 = 5;
/// A token that lives no longer than this is not used any more.
const MARGIN: Millis = Millis::from_secs(30);

/// Where to sign in, and what for.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Permissions, separated by blanks; all that you have when absent.
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// Prints an access token on standard output; signs in only when what is kept does not work any more.
    #[arg(long)]
    print_token: bool,
}

/// Where the server is, and where the tokens are kept.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Address of a node; that of the configuration when absent.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Where tokens are kept [default: eml/tokens.json in your configuration folder].
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Sends tokens over plain HTTP to another machine.
    #[arg(long)]
    plain_http: bool,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of RFC 8414")]
struct Metadata {
    token_endpoint: String,
    device_authorization_endpoint: String,
    revocation_endpoint: String,
}

#[derive(Deserialize)]
struct Waiting {
    device_code: String,
    user_code: String,
    verification_uri_complete: String,
    expires_in: u64,
    #[serde(default)]
    interval: Option<u64>,
}

#[derive(Deserialize)]
struct Given {
    access_token: String,
    expires_in: u64,
    refresh_token: Option<String>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

/// What is kept of a sign-in.
#[derive(Serialize, Deserialize)]
struct Kept {
    server: String,
    access_token: String,
    expires_at: Timestamp,
    refresh_token: Option<String>,
    scope: Option<String>,
}

/// What the server says to a form.
enum Answer<T> {
    Fine(T),
    Refused(Refusal),
}

/// A server that one can sign in to.
struct Server {
    base: String,
    http: reqwest::Client,
    metadata: Metadata,
}

pub(super) async fn run(arguments: Arguments, settings: Settings) -> Result<(), Failure> {
    let Arguments { place, scope, print_token } = arguments;
    let file = file(&place)?;
    let server = Server::find(&place, &settings).await?;
    if print_token && let Some(kept) = server.kept(&file, scope.as_deref()).await? {
        output::line(kept.access_token);
        return Ok(());
    }
    let kept = server.sign_in(scope.as_deref()).await?;
    write(&file, &kept)?;
    if print_token {
        output::line(kept.access_token);
    } else {
        let scope = kept.scope.unwrap_or_default();
        output::talk(format!("Signed in for: {scope}\nTokens are in {}", file.display()));
    }
    Ok(())
}

/// Gives the tokens back, and forgets them.
pub(super) async fn out(place: Place, settings: Settings) -> Result<(), Failure> {
    let file = file(&place)?;
    let Some(kept) = read(&file) else {
        output::talk("Nobody is signed in.");
        return Ok(());
    };
    let place = Place { server: place.server.or(Some(kept.server)), ..place };
    let server = Server::find(&place, &settings).await?;
    let token = kept.refresh_token.unwrap_or(kept.access_token);
    let form = [("client_id", command_line().id.to_string()), ("token", token)];
    let sent = server.http.post(&server.metadata.revocation_endpoint).form(&form).send().await;
    let answer = sent.map_err(|error| unreachable_at(&server.base, &error))?;
    if !answer.status().is_success() {
        return Err(Failure::failed(format!("the server does not take the token back: {}", answer.status())));
    }
    fs::remove_file(&file).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
    output::talk("Signed out.");
    Ok(())
}

impl Server {
    async fn find(place: &Place, settings: &Settings) -> Result<Self, Failure> {
        let base = place.server.clone().unwrap_or_else(|| settings.public_url());
        let base = base.trim_end_matches('/').to_owned();
        check(&base, place.plain_http)?;
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        let http = http.build().map_err(|error| Failure::failed(error.to_string()))?;
        let url = format!("{base}/.well-known/oauth-authorization-server");
        let answer = http.get(url).send().await.map_err(|error| unreachable_at(&base, &error))?;
        let metadata: Metadata = answer
            .json()
            .await
            .map_err(|_| Failure::failed(format!("{base} does not tell where to sign in; is it EML?")))?;
        for endpoint in
            [&metadata.token_endpoint, &metadata.device_authorization_endpoint, &metadata.revocation_endpoint]
        {
            check(endpoint, place.plain_http)?;
        }
        Ok(Self { base, http, metadata })
    }

    /// A token that still works, by a refresh if need be.
    async fn kept(&self, file: &Path, scope: Option<&str>) -> Result<Option<Kept>, Failure> {
        let Some(kept) = read(file).filter(|kept| kept.server == self.base) else { return Ok(None) };
        if scope.is_some_and(|scope| kept.scope.as_deref() != Some(scope)) {
            return Ok(None);
        }
        if Clock.now() + MARGIN < kept.expires_at {
            return Ok(Some(kept));
        }
        let Some(refresh_token) = kept.refresh_token else { return Ok(None) };
        let form = [
            ("grant_type", GrantType::RefreshToken.as_str().to_owned()),
            ("client_id", command_line().id.to_string()),
            ("refresh_token", refresh_token),
        ];
        match self.post::<Given>(&self.metadata.token_endpoint, &form).await? {
            Answer::Fine(given) => {
                let kept = self.keep(given);
                write(file, &kept)?;
                Ok(Some(kept))
            }
            Answer::Refused(_) => Ok(None),
        }
    }

    async fn sign_in(&self, scope: Option<&str>) -> Result<Kept, Failure> {
        let mut form = vec![("client_id", command_line().id.to_string())];
        form.extend(scope.map(|scope| ("scope", scope.to_owned())));
        let endpoint = &self.metadata.device_authorization_endpoint;
        let waiting = match self.post::<Waiting>(endpoint, &form).await? {
            Answer::Fine(waiting) => waiting,
            Answer::Refused(refusal) => return Err(refused(refusal)),
        };
        output::talk(format!(
            "Open {}\nand go on there if it shows the code {}",
            waiting.verification_uri_complete, waiting.user_code
        ));
        self.wait(&waiting).await.map(|given| self.keep(given))
    }

    /// Asks until the user has decided.
    async fn wait(&self, waiting: &Waiting) -> Result<Given, Failure> {
        let form = [
            ("grant_type", GrantType::DeviceCode.as_str().to_owned()),
            ("client_id", command_line().id.to_string()),
            ("device_code", waiting.device_code.clone()),
        ];
        let mut interval = waiting.interval.unwrap_or(STEP);
        let end = tokio::time::Instant::now() + Duration::from_secs(waiting.expires_in);
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(interval)).await;
            let refusal = match self.post::<Given>(&self.metadata.token_endpoint, &form).await {
                Ok(Answer::Fine(given)) => return Ok(given),
                Ok(Answer::Refused(refusal)) => refusal,
                Err(failure) => {
                    // A node that is away for a moment does not end a sign-in.
                    tracing::debug!(?failure, "no answer; asking again");
                    continue;
                }
            };
            match refusal.error.as_str() {
                "authorization_pending" | "temporarily_unavailable" => {}
                "slow_down" => interval += STEP,
                "expired_token" => break,
                _ => return Err(refused(refusal)),
            }
        }
        Err(Failure::failed("nobody went on in the browser in time; run it again"))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        form: &[(&str, String)],
    ) -> Result<Answer<T>, Failure> {
        let answer = self.http.post(endpoint).form(form).send().await;
        let answer = answer.map_err(|error| unreachable_at(&self.base, &error))?;
        let is_fine = answer.status().is_success();
        let strange = |error: reqwest::Error| Failure::failed(format!("the answer makes no sense: {error}"));
        if is_fine {
            answer.json().await.map(Answer::Fine).map_err(strange)
        } else {
            answer.json().await.map(Answer::Refused).map_err(strange)
        }
    }

    fn keep(&self, given: Given) -> Kept {
        Kept {
            server: self.base.clone(),
            access_token: given.access_token,
            expires_at: Clock.now() + Millis::from_secs(given.expires_in),
            refresh_token: given.refresh_token,
            scope: given.scope,
        }
    }
}

/// Tokens go over TLS, or do not leave this machine.
fn check(address: &str, plain_http: bool) -> Result<(), Failure> {
    let url = url::Url::parse(address).map_err(|error| Failure::failed(format!("{address}: {error}")))?;
    let is_here = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_here || plain_http => Ok(()),
        "http" => Err(Failure::failed(format!(
            "tokens would go to {address} in plain text; use https, or --plain-http on a network you trust"
        ))),
        _ => Err(Failure::failed(format!("{address} must begin with https://"))),
    }
}

fn refused(refusal: Refusal) -> Failure {
    let Refusal { error, error_description } = refusal;
    Failure::not_permitted(match error_description {
        Some(why) => format!("the server refused: {why} ({error})"),
        None => format!("the server refused: {error}"),
    })
}

fn unreachable_at(base: &str, error: &reqwest::Error) -> Failure {
    Failure::dependency(format!("{base} cannot be reached: {error}"))
}

fn file(place: &Place) -> Result<PathBuf, Failure> {
    if let Some(file) = &place.tokens {
        return Ok(file.clone());
    }
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    let folder =
        folder.ok_or_else(|| Failure::failed("neither XDG_CONFIG_HOME nor HOME is set; use --tokens"))?;
    Ok(folder.join("eml").join("tokens.json"))
}

fn read(file: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Writes tokens where only this user can read them; a half-written file never stands there.
fn write(file: &Path, kept: &Kept) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", file.display()));
    let text = serde_json::to_vec_pretty(kept).map_err(|error| Failure::failed(error.to_string()))?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let half = file.with_extension("new");
    let _ = fs::remove_file(&half);
    let mut out =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half).map_err(failed)?;
    out.write_all(&text).map_err(failed)?;
    fs::rename(&half, file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_leave_this_machine_in_plain_text_unasked() {
        for (address, plain_http, want) in [
            ("https://eml.example.org", false, true),
            ("http://127.0.0.1:8080", false, true),
            ("http://localhost:8080", false, true),
            ("http://eml.example.org", false, false),
            ("http://eml.example.org", true, true),
            ("http://127.0.0.1.evil.example", false, false),
            ("ftp://eml.example.org", true, false),
            ("eml.example.org", true, false),
        ] {
            assert_eq!(check(address, plain_http).is_ok(), want, "{address}");
        }
    }

    #[test]
    fn kept_tokens_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("eml").join("tokens.json");
        let kept = |token: &str| Kept {
            server: "http://127.0.0.1:1".to_owned(),
            access_token: token.to_owned(),
            expires_at: Timestamp::from_millis(1),
            refresh_token: None,
            scope: None,
        };
        for token in ["one", "two"] {
            write(&file, &kept(token)).unwrap();
            assert_eq!(read(&file).unwrap().access_token, token);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
