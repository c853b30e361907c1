//! Identifiers and fields that every request about a leg carries.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::leg::Leg;
use super::webhooks::Form;

/// Makes identifiers that no earlier run of a carrier has used.
pub(super) struct Sids(Mutex<StdRng>);

impl Sids {
    /// Starts from the randomness of the system: a restarted carrier must not repeat itself.
    pub(super) fn new() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    /// Two letters and 32 hex digits.
    pub(super) fn next(&self, prefix: &str) -> String {
        format!("{prefix}{:032x}", self.draw())
    }

    /// An idempotency token in the form of a UUID.
    pub(super) fn token(&self) -> String {
        let hex = format!("{:032x}", self.draw());
        let mut text = String::with_capacity(36);
        for (place, digit) in hex.chars().enumerate() {
            if matches!(place, 8 | 12 | 16 | 20) {
                text.push('-');
            }
            text.push(digit);
        }
        text
    }

    fn draw(&self) -> u128 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

/// Adds one field.
pub(super) fn put(form: &mut Form, name: &str, value: impl Into<String>) {
    form.push((name.to_owned(), value.into()));
}

/// The fields of every voice request about a leg.
pub(super) fn voice_fields(account_sid: &str, leg: &Leg) -> Form {
    let mut form = Form::with_capacity(36);
    put(&mut form, "AccountSid", account_sid);
    put(&mut form, "ApiVersion", "2010-04-01");
    put(&mut form, "CallSid", leg.sid.as_str());
    put(&mut form, "CallStatus", leg.status().as_str());
    put(&mut form, "Direction", leg.direction.as_str());
    for (name, party) in [("Called", &leg.to), ("Caller", &leg.from), ("From", &leg.from), ("To", &leg.to)] {
        put(&mut form, name, party.as_str());
        if party.starts_with('+') {
            let country = if party.starts_with("+1") { "US" } else { "" };
            for (place, value) in [("City", ""), ("Country", country), ("State", ""), ("Zip", "")] {
                let mut field = String::with_capacity(16);
                // Writing to a string cannot fail.
                let _ = write!(field, "{name}{place}");
                put(&mut form, &field, value);
            }
        }
    }
    if let Some(parent) = &leg.parent {
        put(&mut form, "ParentCallSid", parent.as_str());
    }
    form
}

/// Full seconds of a span, a started one counts, as text.
pub(super) fn seconds(span_ms: u64) -> String {
    span_ms.div_ceil(1000).to_string()
}
