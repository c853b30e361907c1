//! Every store product, and facts and calls to put into them.

use eml::domain::address::Address;
use eml::domain::call::Direction;
use eml::domain::id::{CallId, FactId};
use eml::domain::record::{CallSummary, EntityRef, FactRecord, ProviderRef, Summary};
use eml::domain::time::Timestamp;
use eml::store::Stores;
use eml::store::journal::Append;
use serde_json::value::RawValue;
use tempfile::TempDir;

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
                let Some(database) = crate::samples::Database::fresh().await else { return };
                super::$behaviour(eml::store::open(database.url()).await.unwrap()).await;
                database.remove().await;
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

/// A database of its own in the PostgreSQL of the tests.
pub(crate) struct Database {
    admin: sqlx::PgPool,
    name: String,
    url: String,
}

impl Database {
    /// `None` where there is no PostgreSQL.
    pub(crate) async fn fresh() -> Option<Self> {
        let server = Service::Postgres.url()?;
        let admin = sqlx::PgPool::connect(&server).await.unwrap();
        let name = format!("eml_test_{}", uuid::Uuid::now_v7().simple());
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&admin).await.unwrap();
        let mut url = url::Url::parse(&server).unwrap();
        url.set_path(&name);
        Some(Self { admin, name, url: url.to_string() })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Another connection to the server, for a test that disturbs.
    pub(crate) const fn admin(&self) -> &sqlx::PgPool {
        &self.admin
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn remove(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&self.admin).await.unwrap();
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
