//! Who a node is to its peers: a certificate under the cluster's authority, and the cluster's secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::authority::Authority;
use super::token::{SHORTEST_SECRET, TokenError, Tokens};
use crate::domain::node::NodeRef;
use crate::domain::time::{Clock, Timestamp};

/// What the application protocol is called in the TLS handshake.
const PROTOCOL: &[u8] = b"eml-link/1";
/// Where the time comes from. Nodes that take it from the database are not cut off when the clock of
/// their machine jumps.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The node's name cannot stand in a certificate: `[a-z0-9-]`, not only digits, no hyphen at an end.
    #[error("node name `{0}` cannot stand in a certificate")]
    Name(Box<str>),
    /// The secret is too short.
    #[error("the cluster secret has {0} bytes, at least {SHORTEST_SECRET} are needed")]
    ShortSecret(usize),
    /// A text is no PEM of the thing named.
    #[error("{what}: {why}")]
    Pem {
        /// `authority`, `certificate` or `key`.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The certificate is for another node.
    #[error("the certificate is not for node `{0}`")]
    NotForNode(Box<str>),
    /// The certificate is not issued by the authority, or not good now.
    #[error("the certificate is not good under the authority: {0}")]
    NotByAuthority(String),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Issue(#[from] rcgen::Error),
    /// Certificate and key cannot be used together.
    #[error("tls: {0}")]
    Tls(String),
    /// The system gives no random numbers.
    #[error("no random numbers")]
    Random,
}

/// Certificate, key and authority as an operator gives them.
#[derive(Clone)]
pub struct PemFiles {
    /// The authority's certificate.
    pub authority: String,
    /// The node's certificate, perhaps followed by those between it and the authority.
    pub certificate: String,
    /// The key of the node's certificate.
    pub key: String,
}

impl fmt::Debug for PemFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFiles").finish_non_exhaustive()
    }
}

/// Who this run of a node is, and how it recognises others.
pub struct Identity {
    at: NodeRef,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    tokens: Tokens,
    now: Now,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Identity {
    /// The wall clock of this machine.
    #[must_use]
    pub fn wall_clock() -> Now {
        Arc::new(|| Clock.now())
    }

    /// Issues itself a certificate under the cluster's own authority.
    ///
    /// # Errors
    /// When the authority is unreadable or the name cannot stand in a certificate.
    pub fn issued(at: NodeRef, authority: &Authority, now: Now) -> Result<Self, IdentityError> {
        server_name(&at.node)?;
        let files = authority.issue(&at.node, now())?;
        Self::given(at, &files, &authority.secret, now)
    }

    /// Uses the certificate that an operator has issued.
    ///
    /// # Errors
    /// When something is unreadable, for another node, or not issued by the authority.
    pub fn given(at: NodeRef, files: &PemFiles, secret: &str, now: Now) -> Result<Self, IdentityError> {
        if secret.len() < SHORTEST_SECRET {
            return Err(IdentityError::ShortSecret(secret.len()));
        }
        let mut roots = RootCertStore::empty();
        for root in certificates("authority", &files.authority)? {
            roots
                .add(root)
                .map_err(|error| IdentityError::Pem { what: "authority", why: error.to_string() })?;
        }
        let chain = certificates("certificate", &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(files.key.as_bytes())
            .map_err(|error| IdentityError::Pem { what: "key", why: error.to_string() })?;
        check_chain(&at, &chain, &roots, now())?;
        let (server, client) = configs(Arc::new(roots), &chain, &key, &now)
            .map_err(|error| IdentityError::Tls(error.to_string()))?;
        Ok(Self { at, server, client, tokens: Tokens::new(secret), now })
    }

    /// The run of the node.
    #[must_use]
    pub fn at(&self) -> &NodeRef {
        &self.at
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    pub(super) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// A token that names this run.
    pub(super) fn token(&self) -> Result<String, TokenError> {
        self.tokens.mint(&self.at, (self.now)())
    }

    /// The run that a token names.
    pub(super) fn check_token(&self, token: &str) -> Result<NodeRef, TokenError> {
        self.tokens.check(token, (self.now)())
    }
}

/// The name by which TLS knows a node.
pub(super) fn server_name(node: &str) -> Result<ServerName<'static>, IdentityError> {
    match ServerName::try_from(node.to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => Ok(name),
        Ok(_) | Err(_) => Err(IdentityError::Name(node.into())),
    }
}

/// Whether a certificate is for this node.
pub(super) fn is_for(certificate: &CertificateDer<'_>, node: &str) -> bool {
    let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(certificate), server_name(node)) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(IdentityError::Pem { what, why: "no certificate".to_owned() }),
        Ok(found) => Ok(found),
        Err(error) => Err(IdentityError::Pem { what, why: error.to_string() }),
    }
}

fn crypto() -> CryptoProvider {
    provider::default_provider()
}

/// What peers would find wrong is better told at the start.
fn check_chain(
    at: &NodeRef,
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    now: Timestamp,
) -> Result<(), IdentityError> {
    let wrong = |error: rustls::Error| IdentityError::NotByAuthority(error.to_string());
    let Some((leaf, between)) = chain.split_first() else {
        return Err(IdentityError::Pem { what: "certificate", why: "no certificate".to_owned() });
    };
    server_name(&at.node)?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(wrong)?;
    let algorithms = crypto().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, unix(now), algorithms)
        .map_err(wrong)?;
    if is_for(leaf, &at.node) { Ok(()) } else { Err(IdentityError::NotForNode(at.node.clone())) }
}

/// Both directions: TLS 1.3 and nothing else, a certificate of the authority on both sides, no tickets.
fn configs(
    roots: Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    now: &Now,
) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), Box<dyn std::error::Error>> {
    let crypto = Arc::new(crypto());
    let time = Arc::new(GivenTime(Arc::clone(now)));
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&crypto)).build()?;
    let mut server = ServerConfig::builder_with_details(Arc::clone(&crypto), time.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.to_vec(), key.clone_key())?;
    server.alpn_protocols = vec![PROTOCOL.to_vec()];
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_details(crypto, time)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.to_vec(), key.clone_key())?;
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    client.resumption = Resumption::disabled();
    Ok((Arc::new(server), Arc::new(client)))
}

/// The given time, for the validity of certificates.
struct GivenTime(Now);

impl fmt::Debug for GivenTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenTime")
    }
}

impl TimeProvider for GivenTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix((self.0)()))
    }
}

fn unix(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(now.millis().max(0).cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair};
    use uuid::Uuid;

    use super::super::authority::params as authority_params;
    use super::*;

    fn at(node: &str) -> NodeRef {
        NodeRef { node: node.into(), incarnation: Uuid::from_u128(1) }
    }

    fn clock() -> Now {
        Identity::wall_clock()
    }

    #[test]
    fn a_name_that_cannot_stand_in_a_certificate_is_refused() {
        let authority = Authority::generate(Clock.now()).unwrap();
        for name in ["", "7", "-a", "a-", "a b", "10.0.0.1"] {
            let refused = Identity::issued(at(name), &authority, clock());
            assert!(matches!(refused, Err(IdentityError::Name(_))), "{name}: {refused:?}");
        }
        for name in ["a", "node-1", "1a"] {
            assert!(Identity::issued(at(name), &authority, clock()).is_ok(), "{name}");
        }
    }

    #[test]
    fn files_that_do_not_fit_are_told_apart_at_the_start() {
        let (ours, theirs) =
            (Authority::generate(Clock.now()).unwrap(), Authority::generate(Clock.now()).unwrap());
        let leaf = |name: &str, authority: &Authority| {
            let issuer =
                Issuer::new(authority_params(Clock.now()), KeyPair::from_pem(&authority.key_pem).unwrap());
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let given = |(certificate, key): (String, String), secret: &str| {
            let files = PemFiles { authority: ours.certificate_pem.clone(), certificate, key };
            Identity::given(at("a"), &files, secret, clock())
        };
        assert!(given(leaf("a", &ours), &ours.secret).is_ok());
        assert!(matches!(given(leaf("b", &ours), &ours.secret), Err(IdentityError::NotForNode(_))));
        assert!(matches!(given(leaf("a", &theirs), &ours.secret), Err(IdentityError::NotByAuthority(_))));
        assert!(matches!(given(leaf("a", &ours), "short"), Err(IdentityError::ShortSecret(5))));
        let mixed = (leaf("a", &ours).0, leaf("a", &ours).1);
        assert!(matches!(given(mixed, &ours.secret), Err(IdentityError::Tls(_))));
        let none = given((String::new(), String::new()), &ours.secret);
        assert!(matches!(none, Err(IdentityError::Pem { what: "certificate", .. })));
    }
}
