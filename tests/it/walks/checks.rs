//! What must hold after every step, and at the end.

use std::collections::HashMap;

use eml::domain::agent::{AgentFact, AgentReply, OfferOutcome, Work};
use eml::domain::call::{Call, CallFact, CallReply, Phase};
use eml::domain::id::OfferId;
use eml::domain::machine::Machine;
use rand::Rng;

use super::world::World;

impl World {
    pub(super) fn check_call(&mut self, n: usize, before: &Call, is_birth: bool, reply: &CallReply) {
        let after = &self.calls[n].machine;
        if before.phase == Phase::Vacant {
            assert!(is_birth || after.phase == Phase::Vacant, "a vacant call got facts");
        }
        if before.phase == Phase::Ended {
            assert_eq!(after.phase, Phase::Ended, "an ended call came back");
        }
        if matches!(before.phase, Phase::WrapUp { .. }) {
            assert!(matches!(after.phase, Phase::WrapUp { .. } | Phase::Ended), "after-call work ran back");
        }
        for leg in &before.legs {
            let now = after.leg(leg.id).unwrap();
            assert!(now.status >= leg.status, "a leg went back");
            assert!(leg.provider_id.is_none() || leg.provider_id == now.provider_id, "a leg was renamed");
        }
        if let CallReply::Done(row) = reply {
            assert_eq!(**row, after.list_row(), "the reply shows another state than the facts");
        }
        let is_quiet = matches!(after.phase, Phase::Vacant | Phase::Ended);
        assert!(is_quiet || after.wake_at().is_some(), "nothing will ever wake the call");
        if self.rng.random_range(0..512) == 0 {
            self.check_refold(n);
        }
    }

    fn check_refold(&self, n: usize) {
        let node = &self.calls[n];
        assert_eq!(node.refolded(Call::vacant(node.machine.id.into())), node.machine);
    }

    pub(super) fn check_agent(&mut self, n: usize, reply: &AgentReply) {
        let agent = &self.agents[n].machine;
        assert!(agent.work.len() <= usize::from(agent.settings.voice_capacity), "over capacity");
        for (place, work) in agent.work.iter().enumerate() {
            let twice = agent.work[..place].iter().any(|other| other.call().id == work.call().id);
            assert!(!twice, "one call twice");
        }
        if let AgentReply::Done(snapshot) = reply {
            assert_eq!(**snapshot, agent.snapshot(), "the reply shows another state than the facts");
        }
        if !agent.work.is_empty() {
            assert!(agent.wake_at().is_some(), "nothing will ever wake the session");
        }
        if self.rng.random_range(0..512) == 0 {
            self.check_outcomes(n, false);
        }
    }

    /// Every reservation ends once, and in the end none is without an outcome.
    fn check_outcomes(&self, n: usize, all_over: bool) {
        let node = &self.agents[n];
        let mut offers: HashMap<OfferId, u32> = HashMap::new();
        for (fact, _) in &node.facts {
            if let AgentFact::OfferCreated { offer_id, .. } = fact {
                assert!(offers.insert(*offer_id, 0).is_none(), "an offer was made twice");
            }
            if outcome(fact).is_some() {
                let offer_id = match fact {
                    AgentFact::OfferAccepted { offer_id, .. }
                    | AgentFact::OfferRejected { offer_id, .. }
                    | AgentFact::OfferTimedOut { offer_id, .. }
                    | AgentFact::OfferCanceled { offer_id, .. }
                    | AgentFact::OfferRescinded { offer_id, .. } => offer_id,
                    other => panic!("{other:?} is no outcome"),
                };
                *offers.get_mut(offer_id).unwrap() += 1;
            }
        }
        let rings = |offer: &OfferId| node.machine.work.iter().any(|work| work.rings(*offer));
        for (offer, count) in offers {
            assert!(!all_over || !rings(&offer), "an offer rings on");
            assert_eq!(count, u32::from(!rings(&offer)), "an offer has one outcome");
        }
        let vacant = Machine::vacant(node.machine.id.into());
        assert_eq!(node.refolded(vacant), node.machine);
    }

    /// What holds between entities after every step.
    pub(super) fn check_step(&self) {
        for node in &self.calls {
            let Phase::Offered(offer) = &node.machine.phase else { continue };
            if offer.leg_id.is_none() {
                continue;
            }
            let accepted =
                self.agents.iter().filter(|agent| agent.machine.id == offer.agent_id).any(|agent| {
                    agent.facts.iter().rev().any(|(fact, _)| {
                    matches!(fact, AgentFact::OfferAccepted { offer_id, .. } if *offer_id == offer.offer_id)
                })
                });
            assert!(accepted, "a call believes in an acceptance that its agent never gave");
        }
    }

    /// Of all accepted offers of a call at most one is live at any time, as its facts tell.
    fn check_offers_of(&self, n: usize) {
        let (mut offered, mut live) = (None, None);
        for (fact, _) in &self.calls[n].facts {
            match fact {
                CallFact::Offered { offer_id, .. } => {
                    assert_eq!((offered, live), (None, None), "two offers of one call");
                    offered = Some(*offer_id);
                }
                CallFact::OfferEnded { offer_id, outcome, .. } => {
                    assert_eq!(offered.take(), Some(*offer_id), "another offer ended");
                    if *outcome == eml::domain::agent::OfferOutcome::Accepted {
                        live = Some(*offer_id);
                    }
                }
                CallFact::Requeued { offer_id, .. } => assert_eq!(live.take(), Some(*offer_id)),
                CallFact::Ended { .. } => (offered, live) = (None, None),
                _ => {}
            }
        }
    }

    /// In orderly walks, once every message has arrived, all sides agree.
    pub(super) fn check_agreement(&self) {
        for (n, queue) in self.queues.iter().enumerate() {
            let here = |call: &Call| {
                let is_here =
                    call.routing.as_ref().is_some_and(|to| to.queue_id == self.routings[n].queue_id);
                call.phase == Phase::Queued && is_here
            };
            let waiting: Vec<_> = self.calls.iter().filter(|node| here(&node.machine)).collect();
            assert_eq!(queue.waiting(), waiting.len(), "queue {n} knows who waits");
            assert!(waiting.iter().all(|node| queue.position(node.machine.id).is_some()));
            let ready = self.agents.iter().filter(|node| node.machine.readiness().ready).count();
            assert_eq!(queue.ready(), ready, "queue {n} knows who is ready");
            assert_eq!(queue.proposed(), 0, "a proposal of queue {n} is stuck");
        }
        for line in self.carrier.lines.iter().filter(|line| line.alive) {
            let over = self.calls[line.call].machine.phase == Phase::Ended;
            assert!(!over, "a phone is still busy with call {}, which is over", line.call);
        }
        for (n, node) in self.agents.iter().enumerate() {
            for work in &node.machine.work {
                let call = &self.calls[self.call_number(work.call().id)].machine;
                let has = call.current_agent() == Some(node.machine.id);
                // After-call work that goes on is told to a call that waits for it.
                assert!(has, "agent {n} has {work:?}, the call is {:?}", call.phase);
            }
        }
        for node in &self.calls {
            let Some(agent_id) = node.machine.current_agent() else { continue };
            let agent = self.agents.iter().find(|agent| agent.machine.id == agent_id).unwrap();
            // An agent without room may say so only after the phone was answered.
            let knows = self.freed
                || node.machine.wanted_agent.is_some()
                || agent.machine.work_on(node.machine.id).is_some();
            assert!(knows, "the agent of a call in {:?} does not know it", node.machine.phase);
        }
    }

    pub(super) fn check_end(&self) {
        for n in 0..self.calls.len() {
            let phase = &self.calls[n].machine.phase;
            assert!(matches!(phase, Phase::Ended | Phase::Vacant), "call {n} is still {phase:?}");
            self.check_refold(n);
            self.check_offers_of(n);
        }
        for n in 0..self.agents.len() {
            let work: &[Work] = &self.agents[n].machine.work;
            assert!(work.is_empty(), "agent {n} still has {work:?}");
            self.check_outcomes(n, true);
        }
        for (n, queue) in self.queues.iter().enumerate() {
            assert_eq!(queue.proposed(), 0, "a proposal of queue {n} is stuck");
            assert!(!self.orderly || queue.waiting() == 0, "a ghost waits in queue {n}");
        }
    }
}

/// The outcome that ended an offer, for a fact that did.
const fn outcome(fact: &AgentFact) -> Option<OfferOutcome> {
    match fact {
        AgentFact::OfferAccepted { .. } => Some(OfferOutcome::Accepted),
        AgentFact::OfferRejected { .. } => Some(OfferOutcome::Rejected),
        AgentFact::OfferTimedOut { .. } => Some(OfferOutcome::Timeout),
        AgentFact::OfferCanceled { .. } => Some(OfferOutcome::Canceled),
        AgentFact::OfferRescinded { .. } => Some(OfferOutcome::Rescinded),
        _ => None,
    }
}
