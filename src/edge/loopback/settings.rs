//! What the carrier is told at its start: accounts, numbers, telephones and their habits.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::chaos::Chaos;

/// Everything a carrier needs to know before it starts.
#[derive(Clone)]
pub struct CarrierSettings {
    /// Where the carrier serves its REST and control paths; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The account (`AC` and 32 hex digits): user name of Basic authentication.
    pub account_sid: String,
    /// The secret of the account: signs webhooks, password of Basic authentication.
    pub auth_token: String,
    /// The address of the engine as it is signed, without a slash at its end.
    pub public_url: String,
    /// Where bytes meant for `public_url` really go, for example `http://127.0.0.1:8080`.
    pub webhook_base: String,
    /// The numbers that this carrier routes to the engine.
    pub numbers: Vec<NumberPlan>,
    /// How a telephone behaves that has no plan of its own.
    pub phones: PhonePlan,
    /// How badly the carrier behaves.
    pub chaos: Chaos,
    /// How long things take.
    pub timing: Timing,
}

impl CarrierSettings {
    /// Settings of a well-behaved carrier in front of the engine at `webhook_base`.
    #[must_use]
    pub fn new(listen: SocketAddr, account_sid: &str, auth_token: &str, webhook_base: &str) -> Self {
        let base = webhook_base.trim_end_matches('/').to_owned();
        Self {
            listen,
            account_sid: account_sid.to_owned(),
            auth_token: auth_token.to_owned(),
            public_url: base.clone(),
            webhook_base: base,
            numbers: Vec::new(),
            phones: PhonePlan::default(),
            chaos: Chaos::default(),
            timing: Timing::default(),
        }
    }
}

/// One number of the account and what a call to it asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NumberPlan {
    /// The number, E.164.
    pub number: String,
    /// Asked for a document when a call arrives; the public form.
    pub voice_url: String,
    /// Asked when `voice_url` or a later document fails.
    #[serde(default)]
    pub fallback_url: Option<String>,
    /// Told when an inbound call has ended (and only then).
    #[serde(default)]
    pub status_callback: Option<String>,
}

/// What comes of ringing a telephone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Somebody picks up.
    #[default]
    Answer,
    /// The line is engaged: no ringing.
    Busy,
    /// It rings until somebody gives up.
    NoAnswer,
    /// There is no such telephone.
    Fail,
}

/// How a telephone behaves when the switch calls it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PhonePlan {
    /// How long it rings before the outcome, in milliseconds; the time limit of the call still rules.
    pub answer_after_ms: u64,
    /// What comes of it.
    pub outcome: Outcome,
    /// Hangs up this long after it answered, in milliseconds.
    pub hang_up_after_ms: Option<u64>,
    /// Hangs up this long after it was first joined with another party, in milliseconds.
    pub talk_ms: Option<u64>,
}

impl Default for PhonePlan {
    fn default() -> Self {
        Self { answer_after_ms: 300, outcome: Outcome::Answer, hang_up_after_ms: None, talk_ms: None }
    }
}

/// One call that an outside caller makes to a number of the account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CallPlan {
    /// Who calls, E.164.
    pub from: String,
    /// The number called; must be one of the account.
    pub to: String,
    /// Hangs up this long after the call was answered, in milliseconds.
    pub hang_up_after_ms: Option<u64>,
    /// Hangs up this long after being joined with another party, in milliseconds.
    pub talk_ms: Option<u64>,
    /// How long the caller waits to be joined before hanging up, in milliseconds.
    pub patience_ms: Option<u64>,
    /// How long the caller speaks when asked to leave a message, in milliseconds.
    pub record_ms: Option<u64>,
}

/// How long things take in this small world, and how long it remembers.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the request for a call until the network has it, in milliseconds.
    pub dial_ms: u64,
    /// How long a `Say` or `Play` takes, in milliseconds.
    pub speech_ms: u64,
    /// How long a `Play` takes while somebody waits or is held, in milliseconds.
    pub music_ms: u64,
    /// How long a message is that a caller leaves, unless the call says otherwise, in milliseconds.
    pub record_ms: u64,
    /// How long an ended leg can still be looked up, in milliseconds.
    pub keep_finished_ms: u64,
    /// How many ended legs can be looked up at most.
    pub keep_finished: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            dial_ms: 20,
            speech_ms: 50,
            music_ms: 10_000,
            record_ms: 2_000,
            keep_finished_ms: 60_000,
            keep_finished: 20_000,
        }
    }
}
