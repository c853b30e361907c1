//! The cluster's own certificate authority.

use std::fmt;

use aws_lc_rs::rand;
use chrono::Datelike as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

use super::identity::{IdentityError, PemFiles};
use super::token::SHORTEST_SECRET;
use crate::domain::time::Timestamp;

/// Name of the authority. Part of each issued certificate, so it must not change.
const AUTHORITY_NAME: &str = "EML cluster authority";
/// Years that the authority and an issued certificate are good. An issued key lives in memory only and
/// ends with its process.
const AUTHORITY_YEARS: i32 = 30;
const LEAF_YEARS: i32 = 10;

/// The cluster's own authority and secret. Made once, kept in the store, the same on all nodes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The authority's certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
    /// What service tokens are signed with.
    pub secret: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`IdentityError::Issue`] and [`IdentityError::Random`].
    pub fn generate(now: Timestamp) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let certificate = params(now).self_signed(&key)?;
        let mut secret = [0; SHORTEST_SECRET];
        rand::fill(&mut secret).map_err(|_| IdentityError::Random)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            secret: hex::encode(secret),
        })
    }

    /// Issues a certificate and a key for a node.
    pub(super) fn issue(&self, node: &str, now: Timestamp) -> Result<PemFiles, IdentityError> {
        let key = KeyPair::from_pem(&self.key_pem)
            .map_err(|error| IdentityError::Pem { what: "authority", why: error.to_string() })?;
        let issuer = Issuer::new(params(now), key);
        let leaf_key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new([node.to_owned()])?;
        leaf.distinguished_name.push(DnType::CommonName, node);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        last(&mut leaf, now, LEAF_YEARS);
        Ok(PemFiles {
            authority: self.certificate_pem.clone(),
            certificate: leaf.signed_by(&leaf_key, &issuer)?.pem(),
            key: leaf_key.serialize_pem(),
        })
    }
}

/// What the authority's certificate says; also what its issued ones say of it.
pub(super) fn params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    last(&mut params, now, AUTHORITY_YEARS);
    params
}

/// Whole years, from the last one on, so that clocks which differ agree.
fn last(params: &mut CertificateParams, now: Timestamp, years: i32) {
    let year = now.date().year();
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + years, 1, 1);
}
