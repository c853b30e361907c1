//! PostgreSQL behind a wire that breaks at the worst moment, and a server that comes and goes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eml::domain::id::CallId;
use eml::store::StoreError;
use eml::store::journal::{AppendOutcome, Journal as _};
use eml::store::postgres::PostgresStore;
use eml::store::records::{RecordKind, Records as _, StoredRecord};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use url::Url;

use crate::samples::{Schema, append, at};

const STORED: AppendOutcome = AppendOutcome::Stored;

/// Where the wire breaks, once: at the first message that holds this text.
#[derive(Clone, Copy)]
struct Break {
    text: &'static str,
    fate: Fate,
}

/// What becomes of the message at which the wire breaks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It never reaches the server.
    Lost,
    /// It reaches the server, whose answer is lost.
    Arrives,
    /// It reaches the server, and the wire breaks before there is an answer.
    ArrivesUnanswered,
}

/// A wire between store and server.
struct Wire {
    address: SocketAddr,
    next: Arc<Mutex<Option<Break>>>,
    carrying: JoinHandle<()>,
}

impl Wire {
    /// A wire to the server of a schema, and the schema's URL at its near end.
    async fn to(schema: &Schema) -> (Self, String) {
        Self::at(schema, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn at(schema: &Schema, address: SocketAddr) -> (Self, String) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Url::parse(&schema.url()).unwrap();
        let mut near = server.clone();
        near.set_host(Some("127.0.0.1")).unwrap();
        near.set_port(Some(address.port())).unwrap();
        let kept: Vec<_> = server
            .query_pairs()
            .filter(|(key, _)| key != "host" && key != "port")
            .map(|(key, value)| format!("{key}={}", value.replace('=', "%3D")))
            .collect();
        near.set_query(Some(&format!("{}&sslmode=disable", kept.join("&"))));
        let next = Arc::new(Mutex::new(None));
        let carrying = tokio::spawn(accept(listener, server, next.clone()));
        (Self { address, next, carrying }, near.to_string())
    }

    fn break_at(&self, text: &'static str, fate: Fate) {
        *self.next.lock().unwrap() = Some(Break { text, fate });
    }

    fn is_whole(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }

    /// Refuses connections and cuts those there are.
    async fn down(self) -> SocketAddr {
        self.carrying.abort();
        let _ = self.carrying.await;
        self.address
    }
}

async fn accept(listener: TcpListener, server: Url, next: Arc<Mutex<Option<Break>>>) {
    let mut carried = tokio::task::JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let socket =
            server.query_pairs().find(|(key, _)| key == "host").map(|(_, folder)| folder.into_owned());
        let (host, port) =
            (server.host_str().unwrap_or("127.0.0.1").to_owned(), server.port().unwrap_or(5432));
        let next = next.clone();
        carried.spawn(async move {
            match socket {
                Some(folder) => {
                    let path = format!("{folder}/.s.PGSQL.{port}");
                    carry(client, UnixStream::connect(path).await.unwrap(), &next).await;
                }
                None => carry(client, TcpStream::connect((host, port)).await.unwrap(), &next).await,
            }
        });
    }
}

/// Carries bytes both ways until one side ends or the wire breaks.
async fn carry(client: TcpStream, server: impl AsyncRead + AsyncWrite, next: &Mutex<Option<Break>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let mut sent = vec![0; 65_536];
    loop {
        let mut received = vec![0; 65_536];
        tokio::select! {
            read = from_client.read(&mut sent) => {
                let Ok(count @ 1..) = read else { return };
                let message = &sent[..count];
                let broken = next.lock().unwrap().take_if(|planned| holds(message, planned.text));
                if let Some(planned) = broken {
                    if planned.fate != Fate::Lost {
                        to_server.write_all(message).await.unwrap();
                    }
                    if planned.fate == Fate::Arrives {
                        let _ = from_server.read(&mut received).await;
                    }
                    return;
                }
                if to_server.write_all(message).await.is_err() { return }
            }
            read = from_server.read(&mut received) => {
                let Ok(count @ 1..) = read else { return };
                if to_client.write_all(&received[..count]).await.is_err() { return }
            }
        }
    }
}

fn holds(message: &[u8], text: &str) -> bool {
    message.windows(text.len()).any(|part| part == text.as_bytes())
}

/// A store that has made the partition for the facts of the tests already.
async fn warm(url: &str) -> PostgresStore {
    let store = PostgresStore::open(url).await.unwrap();
    assert_eq!(store.append(vec![append(CallId::fresh(), 0, 1)]).await.unwrap(), [STORED]);
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_in_doubt_and_reading_back_tells_the_truth() {
    let Some(schema) = Schema::fresh().await else { return };
    let (wire, url) = Wire::to(&schema).await;
    let store = warm(&url).await;
    for (why, fate, want) in [("it was stored", Fate::Arrives, 3), ("it was not", Fate::Lost, 0)] {
        let id = CallId::fresh();
        wire.break_at("COMMIT", fate);
        let doubtful = store.append(vec![append(id, 0, 3)]).await;
        assert!(matches!(doubtful, Err(StoreError::InDoubt(_))), "{why}: {doubtful:?}");
        assert!(wire.is_whole());
        assert_eq!(store.facts(id.into(), 0, 10).await.unwrap().len(), want, "{why}");
        let known = u64::try_from(want).unwrap();
        assert_eq!(store.append(vec![append(id, known, 1)]).await.unwrap(), [STORED], "{why}");
    }
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_breaks_before_the_commit_costs_nothing() {
    let Some(schema) = Schema::fresh().await else { return };
    let (wire, url) = Wire::to(&schema).await;
    let store = warm(&url).await;
    for fate in [Fate::Arrives, Fate::Lost] {
        for text in ["BEGIN", "INSERT INTO heads"] {
            let id = CallId::fresh();
            wire.break_at(text, fate);
            assert_eq!(store.append(vec![append(id, 0, 3)]).await.unwrap(), [STORED], "{text}");
            assert!(wire.is_whole(), "{text}");
            assert_eq!(store.facts(id.into(), 0, 10).await.unwrap().len(), 3);
            // So that the statement is prepared anew, with its text on the wire.
            end_connections(&schema, &store).await;
        }
    }
    assert_eq!(store.read_after(0, &[], 100).await.unwrap().len(), 13);
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_is_lost_is_in_doubt() {
    let Some(schema) = Schema::fresh().await else { return };
    let (wire, url) = Wire::to(&schema).await;
    let store = PostgresStore::open(&url).await.unwrap();
    wire.break_at("INSERT INTO records", Fate::Arrives);
    let record = StoredRecord {
        id: uuid::Uuid::now_v7(),
        key: "ana".to_owned(),
        body: serde_json::json!({}),
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    };
    let doubtful = store.insert(RecordKind::User, record).await;
    assert!(matches!(doubtful, Err(StoreError::InDoubt(_))), "{doubtful:?}");
    schema.remove().await;
}

/// Ends every connection of the store on the server's side, as a restart does.
async fn end_connections(schema: &Schema, store: &PostgresStore) {
    // Several at once, so that more than one connection is there to be ended.
    let (one, two, three) = tokio::join!(
        store.append(vec![append(CallId::fresh(), 5, 1)]),
        store.append(vec![append(CallId::fresh(), 5, 1)]),
        store.ping(),
    );
    one.and(two).unwrap();
    three.unwrap();
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()";
    let ended: i64 = sqlx::query_scalar(ended).fetch_one(&mut schema.connect().await).await.unwrap();
    assert!(ended > 1, "{ended} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_ended_are_replaced_unnoticed() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = PostgresStore::open(&schema.url()).await.unwrap();
    let id = CallId::fresh();
    for after_seq in 0..5 {
        end_connections(&schema, &store).await;
        assert_eq!(store.append(vec![append(id, after_seq, 1)]).await.unwrap(), [STORED]);
        assert_eq!(store.facts(id.into(), after_seq, 10).await.unwrap().len(), 1);
        store.ping().await.unwrap();
    }
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_unavailable_soon_and_works_when_it_is_back() {
    let Some(schema) = Schema::fresh().await else { return };
    let (wire, url) = Wire::to(&schema).await;
    let store = PostgresStore::open(&url).await.unwrap();
    let id = CallId::fresh();
    assert_eq!(store.append(vec![append(id, 0, 1)]).await.unwrap(), [STORED]);
    let address = wire.down().await;
    let since = Instant::now();
    let refused = store.append(vec![append(id, 1, 1)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.facts(id.into(), 0, 10).await, Err(StoreError::Unavailable(_))));
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());

    let (_wire, _) = Wire::at(&schema, address).await;
    assert_eq!(store.append(vec![append(id, 1, 1)]).await.unwrap(), [STORED]);
    assert_eq!(store.facts(id.into(), 0, 10).await.unwrap().len(), 2);
    schema.remove().await;
}

/// Makes the server do something whenever a head is written, at once or only when it commits.
async fn on_heads(schema: &Schema, when: &str, what: &str) {
    let function = format!(
        "CREATE SEQUENCE turns; CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN {what} RETURN NEW; END $$;"
    );
    let trigger = match when {
        "at once" => "CREATE TRIGGER trouble BEFORE INSERT ON heads FOR EACH ROW",
        _ => {
            "CREATE CONSTRAINT TRIGGER trouble AFTER INSERT ON heads DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        }
    };
    schema.run(&format!("{function} {trigger} EXECUTE FUNCTION trouble()")).await;
}

const NO_TROUBLE: &str = "DROP TRIGGER trouble ON heads; DROP FUNCTION trouble; DROP SEQUENCE turns";

#[tokio::test]
async fn a_full_disk_is_unavailable_stores_nothing_and_works_again_afterwards() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = warm(&schema.url()).await;
    let id = CallId::fresh();
    for when in ["at once", "at the commit"] {
        on_heads(&schema, when, "RAISE EXCEPTION 'no space left' USING ERRCODE = '53100';").await;
        let refused = store.append(vec![append(id, 0, 2)]).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{when}: {refused:?}");
        schema.run(NO_TROUBLE).await;
        assert!(store.facts(id.into(), 0, 10).await.unwrap().is_empty(), "{when}");
    }
    assert_eq!(store.append(vec![append(id, 0, 2)]).await.unwrap(), [STORED]);
    schema.remove().await;
}

#[tokio::test]
async fn a_batch_undone_for_the_sake_of_another_is_written_once_more() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = warm(&schema.url()).await;
    let id = CallId::fresh();
    let first_only =
        "IF nextval('turns') = 1 THEN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END IF;";
    on_heads(&schema, "at once", first_only).await;
    assert_eq!(store.append(vec![append(id, 0, 2)]).await.unwrap(), [STORED]);
    schema.run(NO_TROUBLE).await;
    on_heads(&schema, "at once", "RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01';").await;
    let refused = store.append(vec![append(id, 2, 1)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    schema.remove().await;
}

#[tokio::test]
async fn a_session_that_the_server_ends_within_the_commit_leaves_it_in_doubt() {
    let Some(schema) = Schema::fresh().await else { return };
    let store = warm(&schema.url()).await;
    let id = CallId::fresh();
    on_heads(
        &schema,
        "at the commit",
        "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5);",
    )
    .await;
    let doubtful = store.append(vec![append(id, 0, 2)]).await;
    assert!(matches!(doubtful, Err(StoreError::InDoubt(_))), "{doubtful:?}");
    schema.run(NO_TROUBLE).await;
    assert!(store.facts(id.into(), 0, 10).await.unwrap().is_empty());
    assert_eq!(store.append(vec![append(id, 0, 2)]).await.unwrap(), [STORED]);
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_still_under_way_on_the_server_is_waited_for_before_doubt_is_told() {
    let Some(schema) = Schema::fresh().await else { return };
    let (wire, url) = Wire::to(&schema).await;
    let store = warm(&url).await;
    let id = CallId::fresh();
    on_heads(&schema, "at the commit", "PERFORM pg_sleep(0.7);").await;
    wire.break_at("COMMIT", Fate::ArrivesUnanswered);
    let doubtful = store.append(vec![append(id, 0, 2)]).await;
    assert!(matches!(doubtful, Err(StoreError::InDoubt(_))), "{doubtful:?}");
    assert_eq!(store.facts(id.into(), 0, 10).await.unwrap().len(), 2, "whoever reads now sees the end");
    schema.remove().await;
}
