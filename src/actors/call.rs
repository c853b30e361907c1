//! What a call's actor does outside: orders to providers, news to queues and agents.

use ractor::ActorProcessingErr;

use super::engine::Engine;
use super::entity::{Answer, EntityMessage, EntityState, Host};
use super::letter::{News, Request, Response};
use super::queue::QueueNote;
use super::shard::ShardMessage;
use crate::domain::call::{Call, CallCommand, CallEffect, CallReply, CarrierOrder, OrderKind, OrderResult};
use crate::domain::id::{CallId, CommandId, LegId};
use crate::domain::record::{EntityRef, FactRecord};

/// Calls have nothing beside their state.
pub(super) enum NoSideMessage {}

impl Host for Call {
    type Side = ();
    type SideMessage = NoSideMessage;

    fn side() {}

    fn for_shard(id: EntityRef, message: EntityMessage<Self>) -> ShardMessage {
        ShardMessage::Call(id, message)
    }

    fn request(id: EntityRef, cause: CommandId, command: &CallCommand) -> Request {
        Request::Call { id: CallId::from_uuid(id.id), cause, command: Box::new(command.clone()) }
    }

    fn told(response: Response) -> Option<Answer<Self>> {
        match response {
            Response::Call(told) => Some(told.into_answer()),
            Response::Agent(_) | Response::Attach(_) | Response::Taken | Response::Elsewhere => None,
        }
    }

    fn news(id: EntityRef, command: CallCommand) -> News {
        News::Call(CallId::from_uuid(id.id), Box::new(command))
    }

    /// What providers ask is decided again, since the answer is a document; so is news of agents,
    /// which the call knows by itself.
    fn repeated(&self, command: &CallCommand) -> Option<CallReply> {
        match command {
            CallCommand::Dial(_) | CallCommand::Control { .. } => {
                Some(CallReply::Done(Box::new(self.list_row())))
            }
            CallCommand::Arrive(_)
            | CallCommand::Carrier(_)
            | CallCommand::Ordered { .. }
            | CallCommand::Offer(_)
            | CallCommand::OfferSettled { .. }
            | CallCommand::Answered { .. }
            | CallCommand::Announce { .. }
            | CallCommand::QueueFull { .. }
            | CallCommand::Tick
            | CallCommand::Show => None,
        }
    }

    fn perform(effect: CallEffect, id: EntityRef, engine: &Engine) {
        let call_id = CallId::from_uuid(id.id);
        match effect {
            CallEffect::Carrier { provider, leg_id, order } => {
                order_carrier(engine, call_id, &provider, leg_id, order);
            }
            CallEffect::EnterQueue(entry) => engine.tell_queue(entry.queue_id, QueueNote::Enter(entry)),
            CallEffect::LeaveQueue { queue_id, .. } => {
                engine.tell_queue(queue_id, QueueNote::Leave { call_id });
            }
            CallEffect::TellAgent { agent_id, command } => engine.tell_agent(agent_id, *command),
        }
    }

    fn committed(&self, _side: &mut (), facts: &[FactRecord], engine: &Engine) {
        let row = || self.list_row();
        let queue = |id| engine.directory().queues.get(&id).map(|queue| queue.name.clone());
        for fact in facts {
            engine.metrics().call_fact(&fact.kind, row, queue);
        }
        if !facts.is_empty() {
            engine.adopt_orphans(self);
        }
    }

    async fn side_message(
        _: &mut EntityState<Self>,
        message: NoSideMessage,
    ) -> Result<(), ActorProcessingErr> {
        match message {}
    }
}

/// Orders are carried out beside the actor; the result comes back as a command.
fn order_carrier(engine: &Engine, call_id: CallId, provider: &str, leg_id: LegId, order: CarrierOrder) {
    let kind = match &order {
        CarrierOrder::Place { .. } => OrderKind::Place,
        CarrierOrder::Find { .. } => OrderKind::Find,
        CarrierOrder::Check { .. } => OrderKind::Check,
        CarrierOrder::Hold { held, .. } => OrderKind::Hold { held: *held },
        CarrierOrder::End { .. } | CarrierOrder::Redirect { .. } => OrderKind::Change,
    };
    let (carrier, engine) = (engine.carrier(provider), engine.clone());
    engine.tracker().clone().spawn(async move {
        let _turn = if kind == OrderKind::Check { engine.turn_to_check().await } else { None };
        // A node that may not act any more leaves its orders to whoever took over.
        if engine.may_act().await.is_err() {
            return;
        }
        let result = match carrier {
            Some(carrier) => carrier.carry_out(call_id, leg_id, order).await,
            None => OrderResult::Refused { code: 0 },
        };
        if let OrderResult::Refused { code } = result {
            tracing::warn!(call.id = %call_id, code, "provider refused an order");
        }
        engine.tell_call(call_id, CallCommand::Ordered { leg_id, kind, result });
    });
}
