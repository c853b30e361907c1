//! People: callers, agents, operators, and the one who pulls the plug.

use eml::domain::address::Address;
use eml::domain::agent::{Activity, AgentCommand, AgentSettings, Work};
use eml::domain::call::{
    Arrival, By, CallCommand, Control, DialRequest, Document, LegEnd, Overflow, Phase, Routing,
};
use eml::domain::id::{AgentId, OfferId, QueueId, SocketId};
use eml::domain::machine::Machine;
use eml::domain::queue::QueueIndex;
use eml::domain::time::Millis;
use rand::Rng;
use rand::rngs::StdRng;

use super::carrier::raw;
use super::world::{Message, Place, World};

/// How many things people do in one walk.
const DEEDS: u64 = 70;

/// One routing per queue; the first may lead on to the second.
pub(super) fn routings(rng: &mut StdRng, queues: usize) -> Vec<Routing> {
    let routing = |n: usize, overflow: Overflow, rng: &mut StdRng| Routing {
        queue_id: QueueId::derived("walk", &n.to_string()),
        queue_name: "q".into(),
        priority: 0,
        skills: std::collections::BTreeMap::new(),
        ring: Millis::from_secs(15),
        max_wait: Millis::from_secs(rng.random_range(10..200)),
        overflow,
        wrap_up: Millis::from_secs([0, 10, 30][rng.random_range(0..3)]),
    };
    let end = if rng.random_bool(0.5) { Overflow::Hangup } else { Overflow::Voicemail };
    let last = routing(queues - 1, end, rng);
    if queues == 1 {
        return vec![last];
    }
    let first = routing(0, Overflow::Queue(Box::new(last.clone())), rng);
    vec![first, last]
}

fn settings(rng: &mut StdRng, n: usize) -> AgentSettings {
    AgentSettings {
        address: Address::reported(&format!("client:a{n}")),
        voice_capacity: if rng.random_bool(0.2) { 2 } else { 1 },
        grace: Millis::from_secs(60),
        missed_limit: 2,
        reject_backoff: Millis::from_secs(10),
        busy_backoff: Millis::from_secs(20),
    }
}

pub(super) fn available(yes: bool) -> AgentCommand {
    let name = if yes { "available" } else { "lunch" };
    AgentCommand::SetActivity(Activity { name: name.into(), available: yes, reason: None })
}

impl World {
    pub(super) fn people_come(&mut self) {
        for n in 0..self.agents.len() {
            self.connect(n);
            let _ = self.step_agent(n, available(true));
        }
        for _ in 0..DEEDS {
            let at = self.now + Millis(self.rng.random_range(0..300_000));
            self.post(at, Place::Outside, Message::Person);
        }
    }

    fn connect(&mut self, n: usize) {
        let settings = settings(&mut self.rng, n);
        // A capacity that shrinks under running work is no fault of the session's.
        let settings = match self.agents[n].machine.work.len() {
            0 => settings,
            _ => AgentSettings { voice_capacity: 2, ..settings },
        };
        let _ = self.step_agent(n, AgentCommand::Connect { socket_id: SocketId::fresh(), settings });
    }

    pub(super) fn somebody_acts(&mut self) {
        match self.rng.random_range(0..100) {
            0..12 => self.somebody_calls(),
            12..45 => self.somebody_answers_an_offer(),
            45..60 => self.a_line_is_hung_up(),
            60..82 => self.an_agent_acts(),
            82..92 => self.somebody_controls_a_call(),
            92..94 if !self.orderly => self.crash_something(),
            _ => self.sockets_come_and_go(),
        }
    }

    fn somebody_calls(&mut self) {
        let n = self.add_call();
        let routing = self.routings[0].clone();
        let (customer, ours) = (Address::reported("+12025550143"), Address::reported("+12025550100"));
        if self.chance(70) {
            let provider_call_id = self.inbound_line(n);
            let routing = if self.chance(95) { Some(routing) } else { None };
            let arrival = Arrival {
                provider: "walk".into(),
                provider_call_id,
                from: customer,
                to: ours,
                routing,
                fallback: None,
                raw: raw(u64::MAX, "arrival"),
            };
            let command = CallCommand::Arrive(Box::new(arrival));
            if self.chance(10) {
                self.send(Place::Outside, Place::Call(n), Message::Call(n, command.clone()));
            }
            if self.step_call(n, command) == Some(Document::Refuse) {
                self.refuse_last_line();
            }
            return;
        }
        let agent = self.rng.random_range(0..self.agents.len());
        let agent = self.chance(50).then(|| {
            let machine = &self.agents[agent].machine;
            (machine.id, Address::reported("client:a"))
        });
        let request = DialRequest {
            provider: "walk".into(),
            to: customer,
            from: ours,
            routing: if self.chance(70) { Some(routing) } else { None },
            agent,
            ring: Millis::from_secs(20),
            wrap_up: Millis::from_secs(5),
            context: None,
        };
        self.step_call(n, CallCommand::Dial(Box::new(request)));
    }

    fn offers(&self) -> Vec<(usize, OfferId)> {
        let works = |n: usize| self.agents[n].machine.work.iter().map(move |work| (n, work));
        let all = (0..self.agents.len()).flat_map(works);
        all.filter_map(|(n, work)| match work {
            Work::Offered(offer) => Some((n, offer.offer_id)),
            Work::Engaged { .. } | Work::WrapUp { .. } => None,
        })
        .collect()
    }

    fn somebody_answers_an_offer(&mut self) {
        let offers = self.offers();
        if offers.is_empty() {
            return;
        }
        let (n, offer_id) = offers[self.rng.random_range(0..offers.len())];
        let command = if self.chance(80) {
            AgentCommand::Accept { offer_id }
        } else {
            AgentCommand::Reject { offer_id, reason: None }
        };
        let _ = self.step_agent(n, command.clone());
        if self.chance(10) {
            let _ = self.step_agent(n, command);
        }
    }

    fn a_line_is_hung_up(&mut self) {
        let alive: Vec<_> =
            (0..self.carrier.lines.len()).filter(|line| self.carrier.lines[*line].joined).collect();
        if !alive.is_empty() {
            let line = alive[self.rng.random_range(0..alive.len())];
            self.line_ends(line, LegEnd::Normal);
        }
    }

    fn an_agent_acts(&mut self) {
        let n = self.rng.random_range(0..self.agents.len());
        let wrapping = self.agents[n].machine.work.iter().find_map(|work| match work {
            Work::WrapUp { call, .. } => Some(call.id),
            Work::Offered(_) | Work::Engaged { .. } => None,
        });
        let command = match (self.rng.random_range(0..100), wrapping) {
            (0..30, Some(call_id)) => AgentCommand::CompleteWrapUp { call_id },
            (30..50, Some(call_id)) => AgentCommand::ExtendWrapUp { call_id, by: Millis::from_secs(10) },
            (50..55, _) => AgentCommand::ForceRelease,
            (55..65, _) => available(false),
            _ => available(true),
        };
        self.freed |= matches!(command, AgentCommand::ForceRelease);
        let _ = self.step_agent(n, command);
    }

    fn somebody_controls_a_call(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let n = self.rng.random_range(0..self.calls.len());
        let owner = self.calls[n].machine.shown_agent();
        let by = owner.filter(|_| self.chance(70)).map_or(By::Operator, By::Agent);
        let by = if self.chance(3) { By::Agent(AgentId::derived("walk", "nobody")) } else { by };
        let control = match self.rng.random_range(0..100) {
            0..40 => Control::Hold,
            40..70 => Control::Resume,
            70..85 => Control::Hangup,
            _ => Control::Dispose { disposition_id: None, note: Some("note".into()) },
        };
        self.step_call(n, CallCommand::Control { by, control });
    }

    fn sockets_come_and_go(&mut self) {
        let n = self.rng.random_range(0..self.agents.len());
        match self.agents[n].machine.sockets.first().copied() {
            Some(socket_id) if self.chance(50) => {
                let _ = self.step_agent(n, AgentCommand::Disconnect { socket_id });
            }
            Some(_) | None => self.connect(n),
        }
    }

    fn crash_something(&mut self) {
        match self.rng.random_range(0..10) {
            0..4 if !self.calls.is_empty() => {
                let n = self.rng.random_range(0..self.calls.len());
                self.crash(Place::Call(n));
            }
            4..7 => {
                let n = self.rng.random_range(0..self.agents.len());
                self.crash(Place::Agent(n));
            }
            7..9 => {
                let n = self.rng.random_range(0..self.queues.len());
                self.crash(Place::Queue(n));
            }
            _ => self.crash(Place::Outside),
        }
    }

    /// Now and then an actor dies after its facts are stored and before anything was done.
    pub(super) fn crashes_now(&mut self, who: Place) -> bool {
        let dies = !self.orderly && !self.leaving && self.rng.random_range(0..400) == 0;
        if dies {
            self.crash(who);
        }
        dies
    }

    /// Something dies with all it was sent; `Outside` is the whole program.
    fn crash(&mut self, who: Place) {
        self.say(|| format!("crash of {who:?}"));
        let all = who == Place::Outside;
        let mut lost = Vec::new();
        self.bag.retain(|_, (to, message)| {
            let stays = *to == Place::Outside || !(all || *to == who);
            if let (false, false, Message::Reserve(queue, _, made)) = (stays, all, message) {
                lost.push((*queue, made.offer_id));
            }
            stays
        });
        // A question to somebody who died comes back as an error.
        for (queue, offer_id) in lost {
            let refused = Message::Queue(queue, super::world::ToQueue::Refused(offer_id));
            self.send(Place::Outside, Place::Queue(queue), refused);
        }
        for n in 0..self.queues.len() {
            if all || who == Place::Queue(n) {
                let max_waiting = 0;
                let settings = eml::domain::queue::QueueSettings { max_waiting, ..Default::default() };
                self.queues[n] = QueueIndex::new(settings);
            }
        }
        let queue_died = all || matches!(who, Place::Queue(_));
        for n in 0..self.agents.len() {
            if queue_died || who == Place::Agent(n) {
                self.resume_agent(n, all || who == Place::Agent(n));
            }
        }
        for n in 0..self.calls.len() {
            if queue_died || who == Place::Call(n) {
                let node = &mut self.calls[n];
                node.machine = node.refolded(Machine::vacant(node.machine.id.into()));
                node.armed = node.machine.deadline();
                let effects = node.machine.resume(self.now);
                self.call_effects(n, effects);
            }
        }
    }

    fn resume_agent(&mut self, n: usize, died: bool) {
        let node = &mut self.agents[n];
        node.machine = node.refolded(Machine::vacant(node.machine.id.into()));
        node.armed = node.machine.deadline();
        let effects = node.machine.resume(self.now);
        // A live session keeps its sockets when only a queue starts anew.
        let keeps = |effect: &eml::domain::agent::AgentEffect| {
            died || !matches!(effect, eml::domain::agent::AgentEffect::ForgetSockets)
        };
        self.agent_effects(n, effects.into_iter().filter(keeps).collect());
    }

    pub(super) fn everybody_leaves(&mut self) {
        self.leaving = true;
        self.say(|| "everybody leaves".to_owned());
        for line in 0..self.carrier.lines.len() {
            self.line_ends(line, LegEnd::Normal);
        }
        for n in 0..self.agents.len() {
            for socket_id in self.agents[n].machine.sockets.clone() {
                let _ = self.step_agent(n, AgentCommand::Disconnect { socket_id });
            }
        }
        let open = self.calls.iter().filter(|node| node.machine.phase != Phase::Ended).count();
        self.say(|| format!("{open} calls are open"));
    }
}
