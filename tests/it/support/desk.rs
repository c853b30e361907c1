use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{Request, StatusCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long anything may take that should come at once.
const PATIENCE: Duration = Duration::from_secs(8);

/// An agent's desk: a real socket.
pub struct Desk {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    waiting: VecDeque<Value>,
    commands: u64,
    pub hello: Value,
    pub last_sequence: u64,
}

impl Desk {
    pub async fn open(base: &str, token: &str, last_sequence: Option<u64>) -> Self {
        let mut request = Self::request(base, "/ws");
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Self::connect(request, last_sequence).await
    }

    /// Opens a socket as a browser does.
    pub async fn open_with_ticket(base: &str, ticket: &str) -> Self {
        Self::connect(Self::request(base, &format!("/ws?ticket={ticket}")), None).await
    }

    /// The status with which a ticket is refused.
    pub async fn refusal(base: &str, ticket: &str) -> StatusCode {
        Self::refused(Self::request(base, &format!("/ws?ticket={ticket}"))).await
    }

    /// The status with which a token is refused.
    pub async fn refusal_of_token(base: &str, token: &str) -> StatusCode {
        let mut request = Self::request(base, "/ws");
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Self::refused(request).await
    }

    async fn refused(request: Request<()>) -> StatusCode {
        match tokio_tungstenite::connect_async(request).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => response.status(),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn request(base: &str, path: &str) -> Request<()> {
        let url = format!("{}{path}", base.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "eml.v1.json".parse().unwrap());
        request
    }

    async fn connect(request: Request<()>, last_sequence: Option<u64>) -> Self {
        let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "eml.v1.json");
        let mut desk =
            Self { socket, waiting: VecDeque::new(), commands: 0, hello: Value::Null, last_sequence: 0 };
        desk.send(&json!({ "id": "hello", "type": "hello", "data": { "last_sequence": last_sequence } }))
            .await;
        desk.hello = desk.frame().await;
        assert_eq!(desk.hello["type"], "hello");
        desk.last_sequence = match desk.hello["data"]["resumed"].as_bool() {
            Some(true) => last_sequence.unwrap(),
            _ => desk.hello["sequence"].as_u64().unwrap(),
        };
        desk
    }

    async fn send(&mut self, frame: &Value) {
        self.socket.send(Message::Text(frame.to_string().into())).await.unwrap();
    }

    async fn frame(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Close(frame))) => {
                    return json!({ "type": "close", "code": frame.map(|frame| u16::from(frame.code)) });
                }
                Some(Ok(_)) => {}
                other => return json!({ "type": "gone", "why": format!("{other:?}") }),
            }
        }
    }

    /// Takes a numbered event and checks that none is missing.
    fn numbered(&mut self, frame: &Value) {
        if let Some(sequence) = frame["sequence"].as_u64().filter(|_| frame["type"] != "resync") {
            assert_eq!(sequence, self.last_sequence + 1, "an event is missing or doubled: {frame}");
            self.last_sequence = sequence;
        }
    }

    /// Asks for something and gives the reply; events in between are kept.
    pub async fn try_ask(&mut self, kind: &str, data: Value) -> Value {
        self.commands += 1;
        let id = format!("c{}", self.commands);
        self.ask_as(&id, kind, data).await
    }

    pub async fn ask_as(&mut self, id: &str, kind: &str, data: Value) -> Value {
        self.send(&json!({ "id": id, "type": kind, "data": data })).await;
        loop {
            let frame = self.frame().await;
            if frame["re"] == id {
                return frame;
            }
            self.numbered(&frame);
            self.waiting.push_back(frame);
        }
    }

    pub async fn ask(&mut self, kind: &str, data: Value) -> Value {
        let reply = self.try_ask(kind, data).await;
        assert_eq!(reply["type"], "ack", "{kind}: {reply}");
        reply["data"].clone()
    }

    /// The next event of this type; others before it are dropped.
    pub async fn event(&mut self, kind: &str) -> Value {
        loop {
            let frame = match self.waiting.pop_front() {
                Some(frame) => frame,
                None => {
                    let frame = self.frame().await;
                    self.numbered(&frame);
                    frame
                }
            };
            if frame["type"] == kind {
                return frame;
            }
            assert!(frame["type"] != "gone", "socket has gone while waiting for {kind}: {frame}");
        }
    }

    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }
}
