//! The `Dial` verb: into a conference, or to telephones as child legs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::timeout;

use super::conference::Stage;
use super::leg::{Callback, Direction, Habits, Leg, Order, Origin, Status};
use super::life::Start;
use super::lines::{put, seconds};
use super::media::music;
use super::script::{Flow, Page, answer};
use super::stats::count;
use super::switch::Switch;
use super::twiml::{Conference, Dial, Link, Noun};
use super::webhooks::Form;

/// Carries a `Dial` out; its action decides what follows, or the next verb when it has none.
pub(super) async fn dial(switch: &Arc<Switch>, leg: &Arc<Leg>, page: &Page, dial: &Dial) -> Flow {
    let limit = Duration::from_secs(dial.time_limit_s);
    let conference = dial.nouns.iter().find_map(|noun| match noun {
        Noun::Conference(conference) => Some(conference),
        Noun::Phone { .. } => None,
    });
    let fields = if let Some(conference) = conference {
        answer(switch, leg);
        let Some(fields) = confer(switch, leg, page, conference, limit).await else { return Flow::Next };
        fields
    } else {
        ring_phones(switch, leg, page, dial, limit).await
    };
    dial.action.as_ref().map_or(Flow::Next, |action| Flow::Goto(page.follow(action, fields)))
}

/// Sits in a conference until it ends or the leg is taken out; `None` when the room is full.
async fn confer(
    switch: &Arc<Switch>,
    leg: &Arc<Leg>,
    page: &Page,
    asked: &Conference,
    limit: Duration,
) -> Option<Form> {
    let absolute = |link: &Option<Link>| link.as_ref().map(|link| page.absolute(link));
    let here = Conference {
        callback: absolute(&asked.callback),
        recording_callback: absolute(&asked.recording_callback),
        wait: absolute(&asked.wait),
        ..asked.clone()
    };
    let (room, seat) = switch.enter_room(leg, &here)?;
    let mut fields = Form::new();
    put(&mut fields, "ConferenceSid", room.sid.as_str());
    put(&mut fields, "FriendlyName", room.name.as_str());
    let stay = async {
        let mut stage = seat.stage();
        loop {
            let now = *stage.borrow_and_update();
            let hears = match now {
                Stage::Out => return,
                Stage::Talking => None,
                Stage::Waiting => here.wait.clone(),
                Stage::Held => seat.marks().hold_music.clone().map(|link| page.absolute(&link)),
            };
            let played = async {
                if let Some(link) = hears {
                    music(switch, leg, link, &fields).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = Box::pin(played) => {}
                changed = stage.changed() => if changed.is_err() { return },
            }
        }
    };
    if timeout(limit, stay).await.is_err() {
        switch.leave_room(&room, &seat, "participant_hung_up");
    }
    leg.state().seat = None;
    leg.note("left conference");
    let mut fields = Form::new();
    put(&mut fields, "DialCallStatus", "answered");
    put(&mut fields, "DialBridged", leg.view().was_bridged.to_string());
    Some(fields)
}

/// Rings telephones at once; the first to answer is joined with the leg, the others are given up.
async fn ring_phones(
    switch: &Arc<Switch>,
    leg: &Arc<Leg>,
    page: &Page,
    dial: &Dial,
    limit: Duration,
) -> Form {
    let from = dial.caller_id.as_ref().unwrap_or(&leg.from);
    let children: Vec<Arc<Leg>> = dial
        .nouns
        .iter()
        .filter_map(|noun| match noun {
            Noun::Phone { to, callback, events } => Some((to, callback, events)),
            Noun::Conference(_) => None,
        })
        .map(|(to, callback, events)| {
            let phone = switch.phone(to);
            let callback = callback.as_ref().map(|link| Callback {
                link: page.absolute(link),
                events: events.split_whitespace().map(ToOwned::to_owned).collect(),
            });
            let habits = Habits {
                hang_up_after_ms: phone.hang_up_after_ms,
                talk_ms: phone.talk_ms,
                ..Habits::default()
            };
            let origin = Origin {
                direction: Direction::OutboundDial,
                from: from.clone(),
                to: to.clone(),
                parent: Some(leg.sid.clone()),
                habits,
                fallback: leg.fallback.clone(),
                callback,
            };
            switch.begin(origin, Start::RingChild { phone, limit: Duration::from_secs(dial.timeout_s) })
        })
        .collect();
    leg.state().children.clone_from(&children);
    let Some((winner, last)) = first_answer(&children).await else {
        return outcome("failed", None, false);
    };
    for loser in children.iter().filter(|child| !Arc::ptr_eq(child, &winner)) {
        loser.order(Order::End);
    }
    if last != Status::InProgress {
        return outcome(last.as_str(), Some(&winner), false);
    }
    answer(switch, leg);
    winner.set_bridged(true);
    if leg.set_bridged(true) && leg.direction == Direction::Inbound {
        count(&switch.stats.calls_bridged);
    }
    let parted = timeout(limit, settled(&winner, |status, bridged| status.is_final() || !bridged)).await;
    if parted.is_err() {
        winner.order(Order::End);
    }
    leg.set_bridged(false);
    leg.state().children.clear();
    let mut fields = outcome("completed", Some(&winner), true);
    if winner.status().is_final() || parted.is_err() {
        // A child that was sent elsewhere lives on: its duration is not known.
        put(&mut fields, "DialCallDuration", seconds(winner.answered_ms()));
    }
    fields
}

fn outcome(status: &str, child: Option<&Arc<Leg>>, bridged: bool) -> Form {
    let mut fields = Form::new();
    put(&mut fields, "DialCallStatus", status);
    if let Some(child) = child {
        put(&mut fields, "DialCallSid", child.sid.as_str());
    }
    put(&mut fields, "DialBridged", bridged.to_string());
    fields
}

/// The first child that answers, or the last one to fail with its status; `None` without children.
async fn first_answer(children: &[Arc<Leg>]) -> Option<(Arc<Leg>, Status)> {
    let ready = |status: Status, _: bool| status.is_final() || status == Status::InProgress;
    let mut waiting: Vec<_> = children
        .iter()
        .map(|child| {
            Box::pin(async move {
                settled(child, ready).await;
                (Arc::clone(child), child.status())
            })
        })
        .collect();
    let mut last = None;
    while !waiting.is_empty() {
        let (result, _, rest) = select_all(waiting).await;
        if result.1 == Status::InProgress {
            return Some(result);
        }
        last = Some(result);
        waiting = rest;
    }
    last
}

/// Waits until a leg is as asked: its status and whether it is joined.
async fn settled(leg: &Arc<Leg>, is_so: impl Fn(Status, bool) -> bool) {
    let mut changes = leg.changes();
    loop {
        let (status, bridged) = {
            let state = leg.state();
            (state.status, state.bridged)
        };
        if is_so(status, bridged) || changes.changed().await.is_err() {
            return;
        }
    }
}
