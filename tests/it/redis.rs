//! The cache in Redis when Redis is away, comes back, is silent or loses everything.
//!
//! The server that other tests share is left alone: these tests start and end servers of their own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use eml::domain::time::Millis;
use eml::store::StoreError;
use eml::store::cache::{self, Cache, GuardedCache};
use eml::store::redis::{PREFIX, RedisCache};
use tokio::time::Instant;

/// The address of a Redis that is not there: a port that no program gets by chance.
pub(crate) const NOBODY: &str = "redis://127.0.0.1:1/";

const LONG: Millis = Millis::from_secs(60);
/// Within this a request is answered, whatever the server does.
const PROMISED: Duration = Duration::from_secs(2);

/// A Redis that a test may end.
struct Server {
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// One that keeps nothing; `None` where there is no Redis, which is a failure with `CI=true`.
    async fn start() -> Option<Self> {
        // Below the ports that the kernel hands out, so that it stays free while the server is away.
        let port = loop {
            let port = 20_000 + rand::random::<u16>() % 12_000;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                break port;
            }
        };
        let mut server = Self { port, process: None };
        server.start_again().await.then_some(server)
    }

    async fn start_again(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let Ok(process) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "NOT RUN: there is no redis-server");
            eprintln!("NOT RUN: there is no redis-server; ./scripts/services install gets it");
            return false;
        };
        self.process = Some(process);
        let cache = RedisCache::open(&self.url()).unwrap();
        until("the server answers", async || cache.ping().await.is_ok()).await;
        true
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// A connection past our own code.
    async fn client(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each operation once; all of them must answer in time and alike.
async fn all_unavailable(cache: &RedisCache) {
    let mut answers = Vec::new();
    let mut note = |name: &'static str, before: Instant, answer: Result<(), StoreError>| {
        answers.push((name, before.elapsed(), answer));
    };
    let now = Instant::now;
    note("get", now(), cache.get("key").await.map(drop));
    note("put", now(), cache.put("key", "value", LONG).await);
    note("put_if_absent", now(), cache.put_if_absent("key", "value", LONG).await.map(drop));
    note("take", now(), cache.take("key").await.map(drop));
    note("remove", now(), cache.remove("key").await.map(drop));
    note("count", now(), cache.count("key", LONG).await.map(drop));
    note("ping", now(), cache.ping().await);
    for (name, took, answer) in answers {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{name}: {answer:?}");
        assert!(took < PROMISED, "{name} took {took:?}");
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_telling_its_password() {
    let bad =
        ["", "redis:", "redis://", "http://h/", "redis://:secret@h:port/", "redis://:secret@h:1/x", "Redis"];
    for url in bad {
        let Err(StoreError::Refused(why)) = cache::open(url).map(drop) else { panic!("{url} was taken") };
        assert!(!why.contains("secret"), "{why}");
    }
}

#[tokio::test]
async fn a_cache_opens_while_its_server_is_away_and_says_so_in_time() {
    let cache = RedisCache::open(NOBODY).unwrap();
    all_unavailable(&cache).await;
}

#[tokio::test]
async fn a_server_that_takes_connections_and_never_answers_is_unavailable_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}/", silent.local_addr().unwrap());
    all_unavailable(&RedisCache::open(&url).unwrap()).await;
}

#[tokio::test]
async fn a_wrong_password_is_unavailable_until_it_is_right() {
    let Some(server) = Server::start().await else { return };
    let mut client = server.client().await;
    let mut set = async |password: &str| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("requirepass").arg(password);
        command.query_async::<()>(&mut client).await.unwrap();
    };
    set("right").await;
    let url = server.url().replace("127", ":wrong@127");
    let cache = RedisCache::open(&url).unwrap();
    all_unavailable(&cache).await;
    set("wrong").await;
    until("the cache signs in", async || cache.put("key", "value", LONG).await.is_ok()).await;
    assert_eq!(cache.get("key").await.unwrap().as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_requests_is_not_noticed() {
    let Some(mut server) = Server::start().await else { return };
    let cache = RedisCache::open(&server.url()).unwrap();
    cache.put("key", "value", LONG).await.unwrap();
    for _ in 0..3 {
        server.kill();
        assert!(server.start_again().await);
        assert_eq!(cache.take("key").await.unwrap(), None, "it kept nothing");
        assert_eq!(cache.count("counter", LONG).await.unwrap().count, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarded_cache_answers_through_an_outage_and_goes_back() {
    let Some(mut server) = Server::start().await else { return };
    let cache = cache::open(&server.url()).unwrap();
    cache.put("before", "shared", LONG).await.unwrap();
    server.kill();
    let answers = async |round: u64| {
        let before = Instant::now();
        assert_eq!(cache.get("unknown").await.unwrap(), None);
        cache.put("put", "own", LONG).await.unwrap();
        assert_eq!(cache.get("put").await.unwrap().as_deref(), Some("own"));
        assert_eq!(cache.put_if_absent("put", "other", LONG).await.unwrap().as_deref(), Some("own"));
        assert_eq!(cache.count("tries", LONG).await.unwrap().count, round);
        before.elapsed()
    };
    assert!(answers(1).await < PROMISED);
    for round in 2..50 {
        let took = answers(round).await;
        assert!(took < Duration::from_millis(200), "round {round} waited for a dead server: {took:?}");
    }
    assert!(matches!(cache.ping().await, Err(StoreError::Unavailable(_))), "it says that Redis is away");
    cache.put("ticket", "own", LONG).await.unwrap();

    assert!(server.start_again().await);
    let shared = RedisCache::open(&server.url()).unwrap();
    until("values are shared again", async || {
        cache.put("after", "shared", LONG).await.unwrap();
        shared.get("after").await.unwrap().is_some()
    })
    .await;
    assert_eq!(cache.take("ticket").await.unwrap().as_deref(), Some("own"), "kept over the return");
    assert_eq!(cache.take("ticket").await.unwrap(), None);
    cache.put("put", "shared", LONG).await.unwrap();
    assert!(shared.remove("put").await.unwrap());
    assert_eq!(cache.get("put").await.unwrap(), None, "the outage's value does not come back");
    assert_eq!(cache.count("tries", LONG).await.unwrap().count, 1, "the shared counter began anew");
    assert_eq!(shared.count("tries", LONG).await.unwrap().count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_away_until_it_goes_on() {
    let Some(server) = Server::start().await else { return };
    let shared = Arc::new(RedisCache::open(&server.url()).unwrap());
    let cache = GuardedCache::new(shared.clone());
    cache.put("key", "shared", LONG).await.unwrap();
    server.signal("-STOP");
    all_unavailable(&shared).await;
    let before = Instant::now();
    assert_eq!(cache.get("key").await.unwrap(), None);
    assert!(before.elapsed() < PROMISED);
    server.signal("-CONT");
    until("the value is found again", async || cache.get("key").await.unwrap().is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_costs_what_was_kept_and_nothing_else() {
    let Some(server) = Server::start().await else { return };
    let cache = cache::open(&server.url()).unwrap();
    cache.put("key", "value", LONG).await.unwrap();
    assert_eq!(cache.count("tries", LONG).await.unwrap().count, 1);
    let mut client = server.client().await;
    redis::cmd("FLUSHALL").query_async::<()>(&mut client).await.unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut client).await.unwrap();
    assert_eq!(cache.get("key").await.unwrap(), None);
    assert_eq!(cache.count("tries", LONG).await.unwrap().count, 1);
    assert_eq!(cache.put_if_absent("key", "again", LONG).await.unwrap(), None);
}

#[tokio::test]
async fn every_key_is_under_our_prefix_and_ends() {
    let Some(server) = Server::start().await else { return };
    let cache = cache::open(&server.url()).unwrap();
    cache.put("put", "value", LONG).await.unwrap();
    cache.put("put", "other", LONG).await.unwrap();
    cache.put_if_absent("absent", "value", LONG).await.unwrap();
    cache.put_if_absent("absent", "other", LONG).await.unwrap();
    cache.count("counter", LONG).await.unwrap();
    cache.count("counter", LONG).await.unwrap();
    let mut client = server.client().await;
    // A counter that lost its end must not refuse for ever.
    let mut endless = redis::cmd("SET");
    endless.arg(format!("{PREFIX}endless")).arg(41).query_async::<()>(&mut client).await.unwrap();
    assert_eq!(cache.count("endless", LONG).await.unwrap().count, 42);
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut client).await.unwrap();
    keys.sort();
    assert_eq!(keys, ["absent", "counter", "endless", "put"].map(|key| format!("{PREFIX}{key}")));
    for key in keys {
        let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut client).await.unwrap();
        assert!((1..=60_000).contains(&left), "{key} ends in {left} ms");
    }
}
