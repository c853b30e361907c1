//! What stands between the carrier and the nodes: a chooser that takes webhooks to some node, as a
//! load balancer does, and a door for each node through which its orders reach the carrier.
//!
//! Both note what passes. The chooser tries another node when one does not answer; since webhooks are
//! idempotent, one that was taken in twice must be one fact.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use url::form_urlencoded;

use super::history::{Moment, News, Order, Webhook};

/// How long one node may take to answer a webhook before another is asked.
const TRY: Duration = Duration::from_millis(2_500);
/// How long nodes are asked in turn before a webhook is given up; providers wait 15 seconds.
const PATIENCE: Duration = Duration::from_secs(12);
/// Pause after every node has been asked once.
const PAUSE: Duration = Duration::from_millis(150);
const LONGEST_BODY: usize = 1024 * 1024;
/// Name of the carrier's section in the nodes' configuration.
pub const PROVIDER: &str = "loopback";

/// Microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the harness notes moments as fine as the database does")]
pub fn now() -> Moment {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

/// What has passed.
#[derive(Debug, Default)]
pub struct Passed {
    pub webhooks: Mutex<Vec<Webhook>>,
    pub orders: Mutex<Vec<Order>>,
    /// Answers other than success, and errors of connections, as words.
    pub refused: Mutex<BTreeMap<String, u64>>,
    /// How long webhooks took from the first try to success, in microseconds.
    pub times: Mutex<Vec<i64>>,
}

impl Passed {
    fn refuse(&self, why: String) {
        *self.refused.lock().unwrap().entry(why).or_default() += 1;
    }
}

fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    client.connect_timeout(Duration::from_millis(500)).build().unwrap()
}

async fn serve(address: SocketAddr, router: Router) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A request, read whole.
struct Whole {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Whole {
    async fn read(request: Request) -> Self {
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let body = to_bytes(body, LONGEST_BODY).await.unwrap_or_default();
        let mut headers = parts.headers;
        for own in ["host", "content-length", "connection"] {
            headers.remove(own);
        }
        Self { method: parts.method, target, headers, body }
    }

    async fn send(&self, client: &reqwest::Client, to: &str, limit: Duration) -> reqwest::Result<Answer> {
        let request = client.request(self.method.clone(), format!("{to}{}", self.target));
        let request = request.headers(self.headers.clone()).body(self.body.clone()).timeout(limit);
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Answer { status, headers, body: answer.bytes().await? })
    }

    fn fields(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let text = if self.method == Method::GET { query.as_bytes() } else { &self.body };
        form_urlencoded::parse(text).into_owned().collect()
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        if let Some(kind) = self.headers.get("content-type") {
            response.headers_mut().insert("content-type", kind.clone());
        }
        response
    }
}

/// Takes webhooks to nodes.
#[derive(Clone)]
struct Chooser {
    nodes: Arc<Vec<SocketAddr>>,
    next: Arc<AtomicUsize>,
    client: reqwest::Client,
    passed: Arc<Passed>,
}

/// Starts the chooser; answers where it listens.
pub async fn choose(near: SocketAddr, nodes: Vec<SocketAddr>, passed: Arc<Passed>) -> SocketAddr {
    let chooser = Chooser { nodes: Arc::new(nodes), next: Arc::default(), client: client(), passed };
    serve(near, Router::new().fallback(take).with_state(chooser)).await
}

async fn take(State(chooser): State<Chooser>, request: Request) -> Response {
    let request = Whole::read(request).await;
    let began = now();
    let count = chooser.nodes.len();
    let first = chooser.next.fetch_add(1, Ordering::Relaxed);
    let mut last = StatusCode::BAD_GATEWAY.into_response();
    let patience = tokio::time::Instant::now() + PATIENCE;
    for turn in 0.. {
        if turn > 0 && turn % count == 0 {
            tokio::time::sleep(PAUSE).await;
        }
        if tokio::time::Instant::now() > patience {
            break;
        }
        let place = (first + turn) % count;
        match request.send(&chooser.client, &format!("http://{}", chooser.nodes[place]), TRY).await {
            Ok(answer) if answer.status.is_success() => {
                chooser.note(&request, place + 1, began);
                return answer.into_response();
            }
            Ok(answer) => {
                chooser.passed.refuse(answer.status.as_str().to_owned());
                let is_final = answer.status.is_client_error();
                last = answer.into_response();
                if is_final {
                    return last;
                }
            }
            Err(error) if error.is_timeout() => chooser.passed.refuse("timeout".to_owned()),
            Err(_) => chooser.passed.refuse("connection".to_owned()),
        }
    }
    chooser.passed.refuse("given up".to_owned());
    last
}

impl Chooser {
    fn note(&self, request: &Whole, node: usize, began: Moment) {
        let path = request.target.split('?').next().unwrap_or_default();
        let path = path.trim_start_matches(&format!("/webhooks/{PROVIDER}/")).to_owned();
        let fields = request.fields();
        let news =
            News::of(|name| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()));
        let at = now();
        self.passed.times.lock().unwrap().push(at - began);
        self.passed.webhooks.lock().unwrap().push(Webhook { at, path, news, node });
    }
}

/// Takes a node's orders to the carrier.
#[derive(Clone)]
struct Door {
    node: String,
    carrier: String,
    client: reqwest::Client,
    passed: Arc<Passed>,
}

/// Opens the carrier's door for one node; answers where it is.
pub async fn open_door(
    near: SocketAddr,
    node: String,
    carrier: SocketAddr,
    passed: Arc<Passed>,
) -> SocketAddr {
    let door = Door { node, carrier: format!("http://{carrier}"), client: client(), passed };
    serve(near, Router::new().fallback(order).with_state(door)).await
}

async fn order(State(door): State<Door>, request: Request) -> Response {
    let at = now();
    let request = Whole::read(request).await;
    let answer = request.send(&door.client, &door.carrier, Duration::from_secs(15)).await;
    let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
    let path = request.target.split('?').next().unwrap_or_default();
    let path = path.splitn(5, '/').nth(4).unwrap_or_default().to_owned();
    let is_done = request.method != Method::GET && answer.status.is_success();
    let attempt = attempt(&request.fields());
    door.passed.orders.lock().unwrap().push(Order { at, node: door.node.clone(), attempt, path, is_done });
    answer.into_response()
}

/// The attempt that the address for the answered leg names.
fn attempt(fields: &[(String, String)]) -> Option<String> {
    let (_, url) = fields.iter().find(|(name, _)| name == "Url")?;
    let url = url::Url::parse(url).ok()?;
    url.query_pairs().find(|(name, _)| name == "attempt").map(|(_, attempt)| attempt.into_owned())
}
