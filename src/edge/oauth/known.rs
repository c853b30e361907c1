//! Clients as they are kept, and whether whoever asks is the client it says it is (RFC 6749, section 2.3).

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Map;
use subtle::ConstantTimeEq as _;

use super::super::auth::{Act, Origin, Vault};
use super::super::error::{ApiError, Code};
use super::super::router::EdgeState;
use super::error::{Fault, OAuthError};
use super::form::Parameters;
use crate::domain::id::ClientId;
use crate::domain::identity::{Actor, Client};
use crate::domain::time::{Millis, Timestamp};
use crate::store::records::{RecordKind, StoredRecord};

/// What the hashes of secrets are made under.
const LABEL: &str = "client-secret";
/// The span in which wrong secrets of one address are counted.
const WINDOW: Millis = Millis::from_secs(60);
/// Wrong secrets of one address in that span that are noted; more are only turned away.
const MOST: u64 = 20;

/// Reads a stored client.
///
/// # Errors
/// When it cannot be read, which is a fault of ours.
pub(super) fn read(record: &StoredRecord) -> Result<Client, ApiError> {
    serde_json::from_value(record.body.clone()).map_err(|error| {
        tracing::error!(%error, id = %record.id, "client cannot be read");
        ApiError::new(Code::Internal)
    })
}

/// The client of this id, if there is one and it may get anything.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn living(state: &EdgeState, id: ClientId) -> Result<Option<Client>, ApiError> {
    let record = state.engine.stores().records.by_id(RecordKind::Client, id.uuid()).await?;
    let client = record.as_ref().map(read).transpose()?;
    Ok(client.filter(|client| client.enabled))
}

/// What is kept of a secret.
pub(super) fn secret_hash(vault: &Vault, secret: &str) -> String {
    hex::encode(vault.mac(LABEL, secret.as_bytes()))
}

fn holds(client: &Client, vault: &Vault, secret: &str, now: Timestamp) -> bool {
    let shown = secret_hash(vault, secret);
    let is = |hash: &str| bool::from(hash.as_bytes().ct_eq(shown.as_bytes()));
    let current = client.secret_hash.as_deref().is_some_and(is);
    let earlier = client.earlier_secret.as_ref();
    current || earlier.is_some_and(|earlier| is(&earlier.hash) && now < earlier.until)
}

/// Who a request says it comes from.
struct Shown {
    id: Option<ClientId>,
    secret: Option<String>,
}

/// Reads what a request shows; one way only, and the header is read as RFC 6749 writes it.
fn shown(headers: &HeaderMap, parameters: &Parameters) -> Result<Shown, OAuthError> {
    let wrong = |why| OAuthError::new(Fault::InvalidRequest, why);
    let named = parameters.get("client_id");
    if parameters.get("client_assertion").is_some() {
        return Err(OAuthError::new(Fault::InvalidClient, "client assertions are not read"));
    }
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        let id = named.ok_or_else(|| wrong("client_id is missing"))?;
        return Ok(Shown {
            id: id.parse().ok(),
            secret: parameters.get("client_secret").map(ToOwned::to_owned),
        });
    };
    if parameters.get("client_secret").is_some() {
        return Err(wrong("the client shows its secret twice"));
    }
    let Some((id, secret)) = value.to_str().ok().and_then(basic) else {
        return Err(OAuthError::new(Fault::InvalidClient, "the authorization header must be Basic"));
    };
    if named.is_some_and(|named| named != id) {
        return Err(wrong("the client names itself twice, and differently"));
    }
    Ok(Shown { id: id.parse().ok(), secret: Some(secret).filter(|secret| !secret.is_empty()) })
}

/// Id and secret of a Basic header, both decoded as form values.
fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, value) = value.split_once(' ')?;
    let text = STANDARD.decode(value.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let text = String::from_utf8(text).ok()?;
    let (id, secret) = text.split_once(':')?;
    let plain = |part: &str| {
        let text = format!("x={part}");
        url::form_urlencoded::parse(text.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((plain(id)?, plain(secret)?))
}

/// The client that a request comes from. Equal answers for one that is not there and a wrong secret.
///
/// # Errors
/// `invalid_client` when it is not who it says.
pub(super) async fn identify(
    state: &EdgeState,
    origin: &Origin,
    (headers, parameters): (&HeaderMap, &Parameters),
) -> Result<Client, OAuthError> {
    let Shown { id, secret } = shown(headers, parameters)?;
    let client = match id {
        Some(id) => living(state, id).await?,
        None => None,
    };
    let now = state.engine.clock().now();
    let client = match (client, secret) {
        (Some(client), Some(secret)) if client.confidential => {
            Some(client).filter(|client| holds(client, state.authority.vault(), &secret, now))
        }
        (Some(client), None) if !client.confidential => Some(client),
        // A client that cannot keep a secret has none to show.
        (Some(_) | None, Some(_) | None) => None,
    };
    match client {
        Some(client) => Ok(client),
        None => Err(refuse(state, origin, id).await?),
    }
}

/// Counts and notes what was wrong; whoever comes too often is not noted any more.
async fn refuse(state: &EdgeState, origin: &Origin, id: Option<ClientId>) -> Result<OAuthError, OAuthError> {
    let key = format!("oauth-client:{}", origin.ip);
    let now = state.engine.clock().now();
    let counted = state.engine.stores().grants.count(&key, WINDOW, MOST, now).await?;
    if counted.count > MOST {
        return Ok(OAuthError::new(Fault::TooMany, "too many tries"));
    }
    let act = Act {
        what: "client.sign_in_failed",
        actor: Actor::Unknown,
        subject: id.map(|id| id.to_string()),
        origin: Some(origin),
        details: Map::new(),
    };
    state.trail.note(act).await?;
    Ok(OAuthError::new(Fault::InvalidClient, "the client is not known, or its secret is wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{EarlierSecret, command_line};

    fn header_of(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, text.parse().unwrap());
        headers
    }

    fn basic_of(pair: &str) -> HeaderMap {
        header_of(&format!("Basic {}", STANDARD.encode(pair)))
    }

    #[test]
    fn a_client_shows_who_it_is_in_one_way_only() {
        let id = ClientId::fresh();
        let none = Parameters::read(b"");
        let both = shown(&basic_of(&format!("{id}:a%2Bb+c")), &none).unwrap();
        assert_eq!((both.id, both.secret.as_deref()), (Some(id), Some("a+b c")));
        let body = Parameters::read(format!("client_id={id}&client_secret=s").as_bytes());
        let both = shown(&HeaderMap::new(), &body).unwrap();
        assert_eq!((both.id, both.secret.as_deref()), (Some(id), Some("s")));
        let other = Parameters::read(format!("client_id={}", ClientId::fresh()).as_bytes());
        for (why, headers, parameters, fault) in [
            ("nothing", HeaderMap::new(), &none, Fault::InvalidRequest),
            ("both ways", basic_of(&format!("{id}:s")), &body, Fault::InvalidRequest),
            ("two names", basic_of(&format!("{id}:s")), &other, Fault::InvalidRequest),
            ("a bearer", header_of("Bearer abc"), &none, Fault::InvalidClient),
            ("no colon", basic_of("abc"), &none, Fault::InvalidClient),
            ("no base64", header_of("Basic %%%"), &none, Fault::InvalidClient),
            (
                "an assertion",
                HeaderMap::new(),
                &Parameters::read(b"client_assertion=x"),
                Fault::InvalidClient,
            ),
        ] {
            assert_eq!(shown(&headers, parameters).err().map(|error| error.fault), Some(fault), "{why}");
        }
    }

    #[test]
    fn a_secret_that_gave_way_works_until_its_time_is_over() {
        let vault = Vault::of_seed(&[7; 32]);
        let at = Timestamp::from_millis;
        let earlier = EarlierSecret { hash: secret_hash(&vault, "old"), until: at(100) };
        let client = Client {
            secret_hash: Some(secret_hash(&vault, "new")),
            earlier_secret: Some(earlier),
            ..command_line()
        };
        for (secret, now, want) in
            [("new", 1, true), ("new", 200, true), ("old", 99, true), ("old", 100, false), ("", 1, false)]
        {
            assert_eq!(holds(&client, &vault, secret, at(now)), want, "{secret} at {now}");
        }
        assert!(!holds(&command_line(), &vault, "", at(1)), "no secret is not an empty one");
    }
}
