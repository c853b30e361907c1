//! What the database noted: triggers that the harness hangs in, and reading all of it.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use url::Url;
use uuid::Uuid;

use super::history::{Entity, Handover, History, Moment, News, NodeChange, Run, Write, tagged};

/// A database of one test's own on a server, which may go away and come back.
pub struct Database {
    server: String,
    name: String,
}

/// Rows that note who wrote what. `application_name` is the node: the harness puts it into each node's
/// URL. Who owned the shard and how the writer stood is noted at the commit: a node may freeze between
/// statement and commit, and only what is true then counts. `$cause` and `$owner` are replaced.
const NOTES: &str = "
CREATE TABLE chaos_writes (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    writer text NOT NULL DEFAULT current_setting('application_name'),
    fact_id uuid NOT NULL, shard smallint NOT NULL, cause uuid, writer_status text, owner text);
CREATE FUNCTION chaos_note_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_writes (fact_id, shard, cause)
    SELECT fresh.fact_id, fresh.shard, $cause FROM fresh ORDER BY fresh.entity_id, fresh.seq;
    RETURN NULL;
END $$;
CREATE FUNCTION chaos_note_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE chaos_writes SET at = clock_timestamp(), owner = $owner,
        writer_status = (SELECT status FROM nodes WHERE node_id = NEW.writer) WHERE n = NEW.n;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER chaos AFTER INSERT ON chaos_writes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION chaos_note_commit();
CREATE TRIGGER chaos AFTER INSERT ON facts REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION chaos_note_write();
";
const LIVES: &str = "
CREATE TABLE chaos_nodes (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    node_id text NOT NULL, incarnation uuid NOT NULL, status text NOT NULL);
CREATE FUNCTION chaos_note_node() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_nodes (node_id, incarnation, status) VALUES (NEW.node_id, NEW.incarnation, NEW.status);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_new AFTER INSERT ON nodes FOR EACH ROW EXECUTE FUNCTION chaos_note_node();
CREATE TRIGGER chaos_changed AFTER UPDATE ON nodes FOR EACH ROW
    WHEN ((OLD.incarnation, OLD.status) IS DISTINCT FROM (NEW.incarnation, NEW.status))
    EXECUTE FUNCTION chaos_note_node();
INSERT INTO chaos_nodes (node_id, incarnation, status) SELECT node_id, incarnation, status FROM nodes;
";
const OWNERS: &str = "
CREATE TABLE chaos_shards (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL DEFAULT current_setting('application_name'),
    shard smallint NOT NULL, from_node text, from_incarnation uuid, from_status text,
    to_node text, to_incarnation uuid);
CREATE FUNCTION chaos_note_shard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_shards (shard, from_node, from_incarnation, from_status, to_node, to_incarnation)
    VALUES (NEW.shard, OLD.node_id, OLD.incarnation,
        (SELECT status FROM nodes WHERE node_id = OLD.node_id AND incarnation = OLD.incarnation),
        NEW.node_id, NEW.incarnation);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER UPDATE ON shards FOR EACH ROW
    WHEN ((OLD.node_id, OLD.incarnation) IS DISTINCT FROM (NEW.node_id, NEW.incarnation))
    EXECUTE FUNCTION chaos_note_shard();
";
const WRITES: &str = "\
    SELECT (extract(epoch FROM w.at) * 1000000)::bigint AS moment, w.transaction, w.writer, w.writer_status, w.owner, \
        w.cause, f.entity_kind, f.entity_id, f.seq, f.kind, f.body, f.shard, f.at AS node_at \
    FROM chaos_writes w JOIN facts f USING (fact_id) ORDER BY w.n";
const NODES: &str =
    "SELECT (extract(epoch FROM at) * 1000000)::bigint AS moment, * FROM chaos_nodes ORDER BY n";
const SHARDS: &str =
    "SELECT (extract(epoch FROM at) * 1000000)::bigint AS moment, * FROM chaos_shards ORDER BY n";

impl Database {
    /// An empty one.
    pub async fn fresh(server: &str) -> Self {
        let name = format!("chaos_{}", Uuid::now_v7().simple());
        let database = Self { server: server.to_owned(), name };
        let statement = format!("CREATE DATABASE {}", database.name);
        run(&mut PgConnection::connect(server).await.unwrap(), &statement).await;
        database
    }

    /// Its URL for a node, at the near end of a wire.
    pub fn url_for(&self, node: &str, near: std::net::SocketAddr) -> String {
        let mut url = self.parsed();
        url.set_host(Some(&near.ip().to_string())).unwrap();
        url.set_port(Some(near.port())).unwrap();
        url.query_pairs_mut().append_pair("application_name", node).append_pair("sslmode", "disable");
        url.to_string()
    }

    fn parsed(&self) -> Url {
        let mut url = Url::parse(&self.server).unwrap();
        url.set_path(&self.name);
        url
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.parsed().as_str()).await.unwrap()
    }

    /// Hangs the triggers in; the tables must be there. Each write is noted only where a judge asks for
    /// it, since that costs. Answers whether shards have owners.
    pub async fn watch(&self, is_judged: bool) -> bool {
        let mut connection = self.connect().await;
        let has_shards = has(&mut connection, "shards", "shard").await;
        let has_cause = has(&mut connection, "facts", "cause").await;
        let owner =
            if has_shards { "(SELECT node_id FROM shards WHERE shard = NEW.shard)" } else { "NULL::text" };
        let cause = if has_cause { "fresh.cause" } else { "NULL::uuid" };
        if is_judged {
            run(&mut connection, &NOTES.replace("$cause", cause).replace("$owner", owner)).await;
        }
        run(&mut connection, LIVES).await;
        if has_shards {
            run(&mut connection, OWNERS).await;
        }
        has_shards
    }

    /// The secret that the nodes share.
    pub async fn secret(&self) -> String {
        let secret = sqlx::query_scalar("SELECT secret FROM cluster_secret");
        secret.fetch_one(&mut self.connect().await).await.unwrap()
    }

    /// Calls that are not over.
    pub async fn open_calls(&self) -> Vec<Uuid> {
        let rows = sqlx::query("SELECT entity_id FROM heads WHERE is_open AND entity_kind = 1");
        let rows = rows.fetch_all(&mut self.connect().await).await.unwrap();
        rows.iter().map(|row| row.get("entity_id")).collect()
    }

    /// The number of the last fact of each agent session.
    pub async fn agent_heads(&self) -> Vec<(Uuid, u64)> {
        let rows = sqlx::query("SELECT entity_id, seq FROM heads WHERE entity_kind = 2");
        let rows = rows.fetch_all(&mut self.connect().await).await.unwrap();
        rows.iter()
            .map(|row| (row.get("entity_id"), u64::try_from(row.get::<i64, _>("seq")).unwrap()))
            .collect()
    }

    /// How many calls have been in a queue. Read often while thousands of calls come in, so it looks at
    /// the calls, not at their facts.
    pub async fn queued(&self) -> u64 {
        self.count("SELECT count(*) FROM calls WHERE queue_id IS NOT NULL").await
    }

    /// How often a shard changed hands.
    pub async fn handovers(&self) -> u64 {
        self.count("SELECT count(*) FROM chaos_shards").await
    }

    /// How often a node was declared dead.
    pub async fn deaths(&self) -> u64 {
        self.count("SELECT count(*) FROM chaos_nodes WHERE status = 'dead'").await
    }

    async fn count(&self, statement: &'static str) -> u64 {
        let count: i64 = sqlx::query_scalar(statement).fetch_one(&mut self.connect().await).await.unwrap();
        u64::try_from(count).unwrap()
    }

    /// The shards that a node owns.
    pub async fn shards_of(&self, node: &str) -> Vec<u16> {
        let rows = sqlx::query("SELECT shard FROM shards WHERE node_id = $1").bind(node);
        let rows = rows.fetch_all(&mut self.connect().await).await.unwrap();
        rows.iter().map(|row| u16::try_from(row.get::<i16, _>("shard")).unwrap()).collect()
    }

    /// The names of the living nodes, and how many shards each owns.
    pub async fn owners(&self) -> Vec<(String, i64)> {
        let rows = sqlx::query(
            "SELECT n.node_id, count(s.shard) AS shards FROM nodes n \
             LEFT JOIN shards s ON s.node_id = n.node_id AND s.incarnation = n.incarnation \
             WHERE n.status IN ('alive', 'draining') GROUP BY n.node_id ORDER BY n.node_id",
        );
        let rows = rows.fetch_all(&mut self.connect().await).await.unwrap();
        rows.iter().map(|row| (row.get("node_id"), row.get("shards"))).collect()
    }

    /// Reads everything into a history.
    pub async fn read(&self, history: &mut History) {
        let mut connection = self.connect().await;
        let rows = sqlx::query(WRITES).fetch_all(&mut connection).await.unwrap();
        history.writes = rows.iter().map(write).collect();
        let rows = sqlx::query(NODES).fetch_all(&mut connection).await.unwrap();
        history.nodes = rows
            .iter()
            .map(|row| NodeChange {
                at: row.get("moment"),
                run: Run { node: row.get("node_id"), incarnation: row.get("incarnation") },
                status: row.get("status"),
            })
            .collect();
        if history.rules.is_cluster {
            let rows = sqlx::query(SHARDS).fetch_all(&mut connection).await.unwrap();
            history.handovers = rows.iter().map(handover).collect();
        }
        let rows = sqlx::query("SELECT fields FROM orphan_events").fetch_all(&mut connection).await.unwrap();
        let fields = rows.iter().map(|row| serde_json::from_str(row.get("fields")).unwrap());
        history.orphans = fields.map(|fields: Value| News::of_fields(&fields)).collect();
        history.open = self.open_calls().await.into_iter().map(Entity::Call).collect();
    }

    pub async fn remove(self) {
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        run(&mut PgConnection::connect(&self.server).await.unwrap(), &statement).await;
    }
}

async fn run(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.unwrap();
}

async fn has(connection: &mut PgConnection, table: &str, column: &str) -> bool {
    let found = "SELECT 1 FROM information_schema.columns WHERE table_name = $1 AND column_name = $2";
    let found = sqlx::query(found).bind(table).bind(column).fetch_optional(connection).await;
    found.unwrap().is_some()
}

fn entity(kind: i16, id: Uuid) -> Entity {
    if kind == 1 { Entity::Call(id) } else { Entity::Agent(id) }
}

fn write(row: &sqlx::postgres::PgRow) -> Write {
    let at: Moment = row.get("moment");
    let (tag, body) = tagged(serde_json::from_str(row.get("body")).unwrap());
    Write {
        at,
        transaction: row.get("transaction"),
        entity: entity(row.get("entity_kind"), row.get("entity_id")),
        seq: u64::try_from(row.get::<i64, _>("seq")).unwrap(),
        kind: row.get("kind"),
        tag,
        body,
        node_at: row.get("node_at"),
        cause: row.get("cause"),
        writer: row.get("writer"),
        writer_status: row.get("writer_status"),
        shard: u16::try_from(row.get::<i16, _>("shard")).unwrap(),
        owner: row.get("owner"),
    }
}

fn handover(row: &sqlx::postgres::PgRow) -> Handover {
    let run = |node: Option<String>, incarnation: Option<Uuid>| {
        node.zip(incarnation).map(|(node, incarnation)| Run { node, incarnation })
    };
    Handover {
        at: row.get("moment"),
        shard: u16::try_from(row.get::<i16, _>("shard")).unwrap(),
        from: run(row.get("from_node"), row.get("from_incarnation")),
        from_status: row.get("from_status"),
        to: run(row.get("to_node"), row.get("to_incarnation")),
        by: row.get("by"),
    }
}
