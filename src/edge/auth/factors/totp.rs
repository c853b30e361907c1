//! Codes of the present time (TOTP, RFC 6238) and the picture that brings their secret to a phone.

use std::fmt::Write as _;

use qrcodegen::{QrCode, QrCodeEcc};
use totp_rs::{Builder, Totp};

use crate::domain::identity::factor::STEP_SECONDS;

/// Bytes of a secret: what RFC 4226 recommends.
const SECRET_BYTES: usize = 20;
/// Light modules around the picture that readers need.
const QUIET_ZONE: i32 = 4;

/// A secret that a phone and this program share. Six digits by HMAC-SHA-1, since some apps silently know
/// nothing else.
pub(super) struct TotpSecret([u8; SECRET_BYTES]);

impl TotpSecret {
    /// A fresh one.
    pub(super) fn fresh() -> Self {
        Self(rand::random())
    }

    /// A kept one; `None` when it has another length.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes, to be sealed.
    pub(super) const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the code of a step.
    pub(super) fn has_code(&self, code: &str, step: u64) -> bool {
        self.builder().build_noncompliant().check(code, step.saturating_mul(STEP_SECONDS)).is_some()
    }

    /// Its text for those who cannot scan.
    pub(super) fn base32(&self) -> String {
        self.builder().build_noncompliant().secret().to_base32()
    }

    /// What the picture says: whose it is, and the secret. A colon may stand in neither name.
    pub(super) fn otpauth(&self, issuer: &str, account: &str) -> Option<String> {
        let (issuer, account) = (issuer.replace(':', "."), account.replace(':', "."));
        let totp: Totp = self.builder().with_issuer(Some(issuer)).with_account_name(account).build().ok()?;
        totp.to_url().ok()
    }

    fn builder(&self) -> Builder {
        Builder::new().with_secret(self.0).with_skew(0).with_step_duration(STEP_SECONDS)
    }
}

/// A text as a QR code in SVG: one path, dark on light, that grows with its place on the page. `None` when
/// the text is too long for one.
pub(super) fn qr_svg(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let (side, mut path) = (code.size() + 2 * QUIET_ZONE, String::new());
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            let run = (x..code.size()).take_while(|x| code.get_module(*x, y)).count();
            let run = i32::try_from(run).ok()?;
            if run > 0 {
                let (x, y) = (x + QUIET_ZONE, y + QUIET_ZONE);
                write!(path, "M{x} {y}h{run}v1h-{run}z").ok()?;
            }
            x += run.max(1);
        }
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let secret = TotpSecret::of_bytes(b"12345678901234567890").unwrap();
        // Appendix B shows eight digits; six are the last of them.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let step = seconds / STEP_SECONDS;
            assert!(secret.has_code(code, step), "{seconds}");
            assert!(!secret.has_code(code, step + 1) && !secret.has_code(code, step - 1), "{seconds}");
        }
        for code in ["", "28708", "2870820", "+87082", "28708２", "94287082"] {
            assert!(!secret.has_code(code, 1), "{code}");
        }
    }

    #[test]
    fn the_address_names_issuer_account_and_secret() {
        let secret = TotpSecret::of_bytes(b"12345678901234567890").unwrap();
        let text = secret.otpauth("EML", "ann@example.org").unwrap();
        let address = url::Url::parse(&text).unwrap();
        assert_eq!((address.scheme(), address.host_str()), ("otpauth", Some("totp")));
        assert_eq!(address.path(), "/EML:ann%40example.org");
        let of = |name: &str| {
            address.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        assert_eq!(of("secret").unwrap(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(of("secret").unwrap(), secret.base32());
        assert_eq!(of("issuer").unwrap(), "EML");
        assert!(secret.otpauth("https://calls.example.org", "a:b").is_some(), "a colon does no harm");
    }

    #[test]
    fn the_picture_says_what_was_put_into_it() {
        let text = TotpSecret::fresh().otpauth("EML", "a-rather-long-login@calls.example.org").unwrap();
        let svg = qr_svg(&text).unwrap();
        let side: usize =
            svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let mut dark = vec![vec![false; side]; side];
        let path = svg.split("fill=\"#000\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        for run in path.split('M').filter(|run| !run.is_empty()) {
            let numbers: Vec<usize> =
                run.split([' ', 'h', 'v', '-', 'z']).filter_map(|number| number.parse().ok()).collect();
            let [x, y, length, 1, back] = numbers[..] else { panic!("{run}") };
            assert_eq!(length, back);
            dark[y][x..x + length].fill(true);
        }
        let scale = 4;
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side * scale, side * scale, |x, y| {
            if dark[y / scale][x / scale] { 0 } else { 255 }
        });
        let found = image.detect_grids();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].decode().unwrap().1, text);
    }

    #[test]
    fn a_text_that_fits_no_picture_has_none() {
        assert_eq!(qr_svg(&"a".repeat(4000)), None);
    }
}
