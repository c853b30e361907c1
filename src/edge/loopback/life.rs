//! The life of a leg, one task each: dialled, ringing, answered, its document obeyed, ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::leg::{Direction, Leg, Order, Source, Status};
use super::settings::{Outcome, PhonePlan};
use super::stats::count;
use super::switch::Switch;

/// How a leg begins.
pub(super) enum Start {
    /// A caller has dialled one of our numbers: ask for the document while it rings.
    Arrive(Source),
    /// Ring a telephone for at most so long, then obey the document.
    Ring { phone: PhonePlan, limit: Duration, then: Source },
    /// Ring a telephone for at most so long, then wait to be joined with the parent.
    RingChild { phone: PhonePlan, limit: Duration },
    /// Obey another document.
    Obey(Source),
}

/// What happened to a leg while it did what it was doing.
enum Turn {
    Done(Status),
    Ordered(Option<Order>),
    PersonLeft,
    ShutDown,
}

/// Lives a leg from its start to its end.
pub(super) async fn live(switch: Arc<Switch>, leg: Arc<Leg>, mut inbox: mpsc::Receiver<Order>, start: Start) {
    let mut next = start;
    let (status, by_person) = loop {
        let turn = tokio::select! {
            biased;
            () = switch.stop.cancelled() => Turn::ShutDown,
            order = inbox.recv() => Turn::Ordered(order),
            () = person_leaves(&leg) => Turn::PersonLeft,
            status = Box::pin(proceed(&switch, &leg, next)) => Turn::Done(status),
        };
        match turn {
            Turn::Done(status) => break (status, false),
            Turn::Ordered(Some(Order::Redirect(source))) => {
                leg.note("redirected");
                switch.detach(&leg, "participant_updated_via_api");
                next = Start::Obey(source);
            }
            Turn::Ordered(Some(Order::End)) => break (ended_early(&leg), false),
            Turn::Ordered(Some(Order::HangUp)) | Turn::PersonLeft => break (ended_early(&leg), true),
            Turn::Ordered(None) | Turn::ShutDown => break (ended_early(&leg), false),
        }
    };
    switch.finish(&leg, status, by_person);
}

/// The final status of a leg that is ended from outside.
fn ended_early(leg: &Leg) -> Status {
    match (leg.status(), leg.direction) {
        (Status::InProgress, _) => Status::Completed,
        (_, Direction::Inbound) => Status::NoAnswer,
        (_, Direction::OutboundApi | Direction::OutboundDial) => Status::Canceled,
    }
}

async fn proceed(switch: &Arc<Switch>, leg: &Arc<Leg>, start: Start) -> Status {
    let source = match start {
        Start::Arrive(source) => {
            switch.enter(leg, Status::Ringing);
            source
        }
        Start::Ring { phone, limit, then } => {
            if let Err(status) = ring(switch, leg, phone, limit).await {
                return status;
            }
            then
        }
        Start::RingChild { phone, limit } => {
            if let Err(status) = ring(switch, leg, phone, limit).await {
                return status;
            }
            // The parent joins us, and ends us when it is done.
            return std::future::pending().await;
        }
        Start::Obey(source) => source,
    };
    super::script::obey(switch, leg, source).await
}

async fn ring(switch: &Arc<Switch>, leg: &Arc<Leg>, phone: PhonePlan, limit: Duration) -> Result<(), Status> {
    sleep(Duration::from_millis(switch.settings.timing.dial_ms)).await;
    switch.enter(leg, Status::Initiated);
    match phone.outcome {
        Outcome::Fail => return Err(Status::Failed),
        Outcome::Busy => return Err(Status::Busy),
        Outcome::Answer | Outcome::NoAnswer => {}
    }
    switch.enter(leg, Status::Ringing);
    let patience = Duration::from_millis(phone.answer_after_ms);
    sleep(patience.min(limit)).await;
    if phone.outcome == Outcome::NoAnswer || patience > limit {
        return Err(Status::NoAnswer);
    }
    switch.enter(leg, Status::InProgress);
    Ok(())
}

/// Ends when the person at this telephone hangs up.
async fn person_leaves(leg: &Leg) {
    let mut changes = leg.changes();
    loop {
        let deadline = departure(leg);
        tokio::select! {
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return,
            news = changes.changed() => if news.is_err() { return std::future::pending().await },
        }
    }
}

fn departure(leg: &Leg) -> Option<Instant> {
    let state = leg.state();
    let after = |from: Option<Instant>, span: Option<u64>| Some(from? + Duration::from_millis(span?));
    let waits = !state.served && state.first_bridged.is_none() && state.status != Status::Queued;
    [
        after(state.answered.map(|(at, _)| at), leg.habits.hang_up_after_ms),
        after(state.first_bridged, leg.habits.talk_ms),
        after(waits.then_some(leg.arrived), leg.habits.patience_ms),
    ]
    .into_iter()
    .flatten()
    .min()
}

impl Switch {
    /// Moves a leg to a status it has not had, and tells who asked to be told.
    pub(super) fn enter(&self, leg: &Arc<Leg>, status: Status) {
        {
            let now = (Instant::now(), self.clock.now());
            let mut state = leg.state();
            state.status = status;
            if status == Status::InProgress {
                state.answered = Some(now);
            }
            if status.is_final() {
                state.ended = Some(now);
            }
        }
        leg.note(status.as_str());
        self.report(leg);
    }

    /// Ends a leg: everything it was part of is told, then it only waits to be forgotten.
    pub(super) fn finish(&self, leg: &Arc<Leg>, status: Status, by_person: bool) {
        let gave_up = by_person && {
            let state = leg.state();
            state.first_bridged.is_none() && !state.served
        };
        if gave_up && leg.direction == Direction::Inbound {
            count(&self.stats.calls_gave_up);
        }
        self.end_taping(leg, true);
        let reason = if by_person { "participant_hung_up" } else { "participant_updated_via_api" };
        let queued = leg.state().queued.take();
        {
            // The conference reports the leg as ended already.
            leg.state().status = status;
        }
        self.detach(leg, reason);
        self.enter(leg, status);
        if let Some(queued) = queued {
            self.leave_queue(leg, &queued);
        }
        self.forget_later(leg);
    }

    /// Takes a leg out of its conference, and its children from it.
    pub(super) fn detach(&self, leg: &Arc<Leg>, reason: &str) {
        let (seat, children) = {
            let mut state = leg.state();
            (state.seat.take(), std::mem::take(&mut state.children))
        };
        if let Some((room, seat)) = seat {
            self.leave_room(&room, &seat, reason);
        }
        for child in children {
            child.order(Order::End);
        }
        leg.set_bridged(false);
    }
}
