//! All store products, and facts and calls to put into them.

use eml::domain::address::Address;
use eml::domain::call::Direction;
use eml::domain::id::{CallId, FactId};
use eml::domain::record::{CallSummary, EntityRef, FactRecord, ProviderRef, Summary};
use eml::domain::time::Timestamp;
use eml::store::Stores;
use eml::store::journal::Append;
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::services::Service;

/// Runs each behaviour on each product, as a test of its own.
macro_rules! on_every_product {
    ($($behaviour:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(eml::store::open("memory:").await.unwrap()).await;
            })*
        }

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let file = crate::samples::File::fresh();
                super::$behaviour(file.open().await).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let Some(schema) = crate::samples::Schema::fresh().await else { return };
                super::$behaviour(schema.open().await).await;
                schema.remove().await;
            })*
        }
    };
}
pub(crate) use on_every_product;

/// A place for a database that is removed with the test.
pub(crate) struct File(TempDir);

impl File {
    pub(crate) fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Its folder does not exist before the first opening.
    pub(crate) fn path(&self) -> String {
        self.0.path().join("data/eml.db").to_str().unwrap().to_owned()
    }

    pub(crate) async fn open(&self) -> Stores {
        eml::store::open(&format!("sqlite://{}", self.path())).await.unwrap()
    }
}

/// A part of the PostgreSQL server's database that belongs to one test. It stays behind when the test
/// fails, to be looked at; the server is thrown away.
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// An empty one, or `None` (said aloud) when no server is there.
    pub(crate) async fn fresh() -> Option<Self> {
        let server = Service::Postgres.url()?;
        let schema = Self { server, name: format!("test_{}", Uuid::now_v7().simple()) };
        schema.run(&format!("CREATE SCHEMA {}", schema.name)).await;
        Some(schema)
    }

    /// The URL under which it is the whole database, and its connections can be told from others.
    pub(crate) fn url(&self) -> String {
        let server = &self.server;
        let joint = if server.contains('?') { '&' } else { '?' };
        format!("{server}{joint}options=-csearch_path%3D{name}&application_name={name}", name = self.name)
    }

    pub(crate) async fn open(&self) -> Stores {
        eml::store::open(&self.url()).await.unwrap()
    }

    /// A connection beside those of the store.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// Runs statements on a connection of their own.
    pub(crate) async fn run(&self, statements: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        statements.execute(&mut self.connect().await).await.unwrap();
    }

    pub(crate) async fn remove(self) {
        self.run(&format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

/// Milliseconds after a fixed point in time.
pub(crate) const fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

pub(crate) fn name(reference: &str) -> ProviderRef {
    ProviderRef { provider: "twilio".into(), reference: reference.into() }
}

pub(crate) fn fact(entity: EntityRef, seq: u64) -> FactRecord {
    FactRecord {
        id: FactId::fresh(),
        entity,
        seq,
        at: at(i64::try_from(seq).unwrap()),
        kind: "call.held".into(),
        body: RawValue::from_string(format!(r#"{{"Held":{{"number":{seq}}}}}"#)).unwrap(),
        cause: None,
    }
}

/// A call in its queue.
pub(crate) fn call(id: CallId, started_at: Timestamp) -> CallSummary {
    CallSummary {
        id,
        direction: Direction::Inbound,
        state: "queued".into(),
        status: "in_progress".into(),
        is_open: true,
        from: Address::reported("+12025550143"),
        to: Address::reported("+12025550100"),
        queue_id: None,
        agent_id: None,
        provider: "twilio".into(),
        provider_call_id: Some("CA1".into()),
        started_at,
        queued_at: Some(started_at),
        answered_at: None,
        ended_at: None,
        wait_ms: None,
        talk_ms: None,
        hold_ms: None,
        exit_reason: None,
        ended_by: None,
        outcome: None,
        disposition_id: None,
        note: Some("said \"soon\"".into()),
        context: Some(serde_json::json!({"order": 17})),
        legs: Vec::new(),
    }
}

/// An append of `count` facts behind `after_seq`, with the summary of a queued call.
pub(crate) fn append(id: CallId, after_seq: u64, count: u64) -> Append {
    let entity = EntityRef::from(id);
    Append {
        entity,
        after_seq,
        facts: (1..=count).map(|i| fact(entity, after_seq + i)).collect(),
        summary: Summary::Call(Box::new(call(id, at(0)))),
        refs: Vec::new(),
    }
}

/// An append of one fact that leaves the call as this summary tells.
pub(crate) fn append_summary(after_seq: u64, summary: CallSummary) -> Append {
    let id = summary.id;
    Append { summary: Summary::Call(Box::new(summary)), ..append(id, after_seq, 1) }
}
