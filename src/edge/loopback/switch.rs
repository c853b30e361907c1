//! The switch: all legs and rooms, and what every part of the carrier shares.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::chaos::Mischief;
use super::conference::Rooms;
use super::leg::{Callback, Direction, Habits, Leg, Origin, Source};
use super::life::{Start, live};
use super::lines::{Sids, put, seconds, voice_fields};
use super::settings::{CallPlan, CarrierSettings, NumberPlan, PhonePlan};
use super::stats::{Stats, count, uncount};
use super::twiml::Link;
use super::webhooks::{Courier, Form};
use crate::domain::time::Clock;

/// Why a call could not be placed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} is not a number of this account")]
pub(super) struct UnknownNumber(pub(super) String);

/// The state of a carrier.
pub(super) struct Switch {
    pub(super) settings: CarrierSettings,
    pub(super) address: SocketAddr,
    pub(super) clock: Clock,
    pub(super) rooms: Rooms,
    pub(super) sids: Arc<Sids>,
    pub(super) stats: Arc<Stats>,
    pub(super) mischief: Arc<Mischief>,
    pub(super) courier: Arc<Courier>,
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
    numbers: DashMap<String, NumberPlan>,
    phones: DashMap<String, PhonePlan>,
    legs: DashMap<String, Arc<Leg>>,
    finished: Mutex<VecDeque<(Instant, String)>>,
}

impl Switch {
    pub(super) fn new(settings: CarrierSettings, address: SocketAddr) -> Result<Self, reqwest::Error> {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let (sids, stats) = (Arc::new(Sids::new()), Arc::new(Stats::new()));
        let mischief = Arc::new(Mischief::new(settings.chaos));
        let shared = (Arc::clone(&sids), Arc::clone(&stats), Arc::clone(&mischief));
        let courier = Arc::new(Courier::new(&settings, shared, (tracker.clone(), stop.clone()))?);
        let numbers = settings.numbers.iter().map(|plan| (plan.number.clone(), plan.clone())).collect();
        Ok(Self {
            settings,
            address,
            clock: Clock,
            rooms: Rooms::default(),
            sids,
            stats,
            mischief,
            courier,
            tracker,
            stop,
            numbers,
            phones: DashMap::new(),
            legs: DashMap::new(),
            finished: Mutex::default(),
        })
    }

    /// A caller dials one of our numbers.
    pub(super) fn place(self: &Arc<Self>, plan: CallPlan) -> Result<Arc<Leg>, UnknownNumber> {
        let Some(number) = self.numbers.get(&plan.to).map(|entry| entry.value().clone()) else {
            return Err(UnknownNumber(plan.to));
        };
        let post = |url: String| Link { url, get: false };
        let done = |url| Callback { link: post(url), events: vec!["completed".to_owned()] };
        let leg = self.begin(
            Origin {
                direction: Direction::Inbound,
                from: plan.from,
                to: plan.to,
                parent: None,
                habits: Habits {
                    hang_up_after_ms: plan.hang_up_after_ms,
                    talk_ms: plan.talk_ms,
                    patience_ms: plan.patience_ms,
                    record_ms: plan.record_ms,
                },
                fallback: number.fallback_url.map(post),
                callback: number.status_callback.map(done),
            },
            Start::Arrive(Source::Ask(post(number.voice_url), Form::new())),
        );
        count(&self.stats.calls_placed);
        Ok(leg)
    }

    /// Makes a leg and the task that lives it.
    pub(super) fn begin(self: &Arc<Self>, origin: Origin, start: Start) -> Arc<Leg> {
        let inbound = origin.direction == Direction::Inbound;
        let (leg, inbox) = Leg::new(self.sids.next("CA"), origin, self.clock.now());
        self.legs.insert(leg.sid.clone(), Arc::clone(&leg));
        count(&self.stats.legs_created);
        count(&self.stats.legs_active);
        if inbound {
            count(&self.stats.calls_active);
        }
        self.tracker.spawn(live(Arc::clone(self), Arc::clone(&leg), inbox, start));
        leg
    }

    /// A leg that lives or has ended not long ago.
    pub(super) fn leg(&self, sid: &str) -> Option<Arc<Leg>> {
        self.legs.get(sid).map(|entry| Arc::clone(entry.value()))
    }

    /// All legs that match, newest first, at most `limit`.
    pub(super) fn legs(&self, limit: usize, matches: impl Fn(&Leg) -> bool) -> Vec<Arc<Leg>> {
        let all = self.legs.iter().filter(|entry| matches(entry.value()));
        let mut found: Vec<Arc<Leg>> = all.map(|entry| Arc::clone(entry.value())).collect();
        found.sort_by_key(|leg| std::cmp::Reverse(leg.arrived));
        found.truncate(limit);
        found
    }

    /// True when calls may be made from this number: one of ours, or no numbers are set up.
    pub(super) fn may_call_from(&self, number: &str) -> bool {
        self.numbers.is_empty() || self.numbers.contains_key(number)
    }

    /// Adds or replaces a number of the account.
    pub(super) fn set_number(&self, plan: NumberPlan) {
        self.numbers.insert(plan.number.clone(), plan);
    }

    /// Sets how a telephone behaves; `client:` before a name may be left out.
    pub(super) fn set_phone(&self, name: &str, plan: PhonePlan) {
        self.phones.insert(name.trim_start_matches("client:").to_owned(), plan);
    }

    /// How a telephone behaves; parameters after its name do not matter.
    pub(super) fn phone(&self, to: &str) -> PhonePlan {
        let name = to.trim_start_matches("client:").split('?').next().unwrap_or_default();
        self.phones.get(name).map_or(self.settings.phones, |entry| *entry.value())
    }

    /// Tells who asked about a leg what its status is now.
    pub(super) fn report(&self, leg: &Arc<Leg>) {
        let answered = leg.answered_ms();
        let (status, link, sequence) = {
            let mut state = leg.state();
            let Some(callback) = state.callback.clone() else { return };
            let Some(event) = state.status.event() else { return };
            if !callback.events.iter().any(|asked| asked == event) {
                return;
            }
            let sequence = state.sequence;
            state.sequence += 1;
            (state.status, callback.link, sequence)
        };
        let mut form = voice_fields(&self.settings.account_sid, leg);
        put(&mut form, "Timestamp", self.clock.now().to_rfc2822());
        put(&mut form, "CallbackSource", "call-progress-events");
        put(&mut form, "SequenceNumber", sequence.to_string());
        if status.is_final() {
            put(&mut form, "CallDuration", seconds(answered));
            put(&mut form, "Duration", answered.div_ceil(60_000).to_string());
            put(&mut form, "SipResponseCode", status.sip_code());
        }
        self.courier.post(&leg.lane, &link, form);
    }

    /// Where the sound of a recording would be found.
    pub(super) fn recording_url(&self, sid: &str) -> String {
        let account = &self.settings.account_sid;
        format!("http://{}/2010-04-01/Accounts/{account}/Recordings/{sid}", self.address)
    }

    /// Counts a leg as ended, and drops those that ended long ago.
    pub(super) fn forget_later(&self, leg: &Leg) {
        uncount(&self.stats.legs_active);
        if leg.direction == Direction::Inbound {
            uncount(&self.stats.calls_active);
            count(&self.stats.calls_completed);
        }
        let now = Instant::now();
        let keep = Duration::from_millis(self.settings.timing.keep_finished_ms);
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.push_back((now, leg.sid.clone()));
        while let Some((ended, sid)) = finished.front() {
            let many = finished.len() > self.settings.timing.keep_finished;
            if !many && now.saturating_duration_since(*ended) < keep {
                break;
            }
            self.legs.remove(sid);
            finished.pop_front();
        }
    }
}
