//! Peers that are not who they say, or do not keep to the protocol. Only over TLS.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::codec::Decoder as _;
use uuid::Uuid;

use super::rig::{LONG, Node, Rig, SECOND, at, eventually, raw};
use crate::cluster::link::frame::{self, Frame, FrameCodec, Kind, Received};
use crate::cluster::link::greeting::{self, Hello, VERSION};
use crate::cluster::link::token::{AUDIENCE, Claims, Tokens};
use crate::cluster::link::{Authority, Identity, LinkError, LinkRefusal, LinkSettings, Now, Peer, identity};
use crate::domain::node::NodeRef;
use crate::domain::time::{Clock, Timestamp};

/// A TLS connection to a node, with the certificate of an identity.
async fn connect(node: &Node, identity: &Identity) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(node.address()).await?;
    let name = identity::server_name(&node.at.node).unwrap();
    TlsConnector::from(identity.client()).connect(name, socket).await
}

/// Says hello with any token; what kind of frame comes back, and its body.
async fn hello(
    stream: &mut TlsStream<TcpStream>,
    version: u32,
    token: String,
) -> Result<(Option<Kind>, String), greeting::GreetingError> {
    greeting::send(stream, Kind::Hello, &Hello { version, token }).await?;
    let (kind, body) = greeting::receive(stream).await?;
    Ok((kind, String::from_utf8(body).unwrap()))
}

/// A connection that was taken in.
async fn welcomed(node: &Node, identity: &Identity) -> TlsStream<TcpStream> {
    let mut stream = connect(node, identity).await.unwrap();
    let (kind, _) = hello(&mut stream, VERSION, identity.token().unwrap()).await.unwrap();
    assert_eq!(kind, Some(Kind::Welcome));
    stream
}

fn claims(at: &NodeRef, audience: &str, life: i64) -> Claims {
    let now = Clock.now().millis() / 1000;
    Claims { iss: at.node.clone(), sub: at.incarnation, aud: audience.into(), iat: now, exp: now + life }
}

#[tokio::test]
async fn a_token_must_be_signed_fresh_for_us_and_of_the_certificates_node() {
    let rig = Rig::tls();
    let (a, b, c) = (rig.start("a").await, at("b"), at("c"));
    for run in [&b, &c] {
        rig.view.lock().unwrap().insert(run.node.clone(), run.clone());
    }
    let tokens = Tokens::new(&rig.authority().secret);
    let foreign = Tokens::new("another secret that is long enough, too");
    let sign = |tokens: &Tokens, run: &NodeRef, audience: &str, life: i64| {
        tokens.sign(&claims(run, audience, life)).unwrap()
    };
    let other_run = NodeRef { node: "b".into(), incarnation: Uuid::now_v7() };
    let identity = rig.identity(&b);
    for (why, version, token, expected) in [
        ("wrong secret", VERSION, sign(&foreign, &b, AUDIENCE, 30), "token"),
        ("expired", VERSION, sign(&tokens, &b, AUDIENCE, -600), "token"),
        ("good for too long", VERSION, sign(&tokens, &b, AUDIENCE, 3_600), "token"),
        ("wrong audience", VERSION, sign(&tokens, &b, "eml", 30), "token"),
        ("no token", VERSION, "nonsense".to_owned(), "token"),
        ("of another node than the certificate", VERSION, sign(&tokens, &c, AUDIENCE, 30), "certificate"),
        ("a run not in the view", VERSION, sign(&tokens, &other_run, AUDIENCE, 30), "not in the node table"),
        ("another version", 99, sign(&tokens, &b, AUDIENCE, 30), "version"),
    ] {
        let mut stream = connect(&a, &identity).await.unwrap();
        let (kind, body) = hello(&mut stream, version, token).await.unwrap();
        assert_eq!((kind, body), (Some(Kind::Rejected), format!("\"{expected}\"")), "{why}");
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0, "{why}: closed");
    }
    assert_eq!(a.count(|counters| &counters.rejected), 8);
    assert_eq!(a.count(|counters| &counters.connects), 0);
    drop(welcomed(&a, &identity).await);
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_none_is_not_let_in() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    let b = at("b");
    rig.view.lock().unwrap().insert("b".into(), b.clone());
    // Another authority, the same secret; the client trusts ours, so that only its own certificate is wrong.
    let theirs =
        Authority { secret: rig.authority().secret.clone(), ..Authority::generate(Clock.now()).unwrap() };
    let stranger = Identity::issued(b.clone(), &theirs, Identity::wall_clock()).unwrap();
    assert!(connect(&a, &stranger).await.is_err(), "the stranger does not trust us either");

    let mut roots = RootCertStore::empty();
    let pem = rig.authority().certificate_pem.clone();
    let root = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
        pem.as_bytes(),
    );
    roots.add(root.unwrap()).unwrap();
    let bare = ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(a.address()).await.unwrap();
    let name = identity::server_name("a").unwrap();
    // In TLS 1.3 the client learns of it with its first read.
    if let Ok(mut stream) = TlsConnector::from(Arc::new(bare)).connect(name, socket).await {
        let token = rig.identity(&b).token().unwrap();
        assert!(hello(&mut stream, VERSION, token).await.is_err());
    }
    eventually("both are counted", || a.count(|counters| &counters.rejected) == 2).await;
    assert_eq!(a.count(|counters| &counters.connects), 0);
}

#[tokio::test]
async fn a_peer_of_another_authority_or_secret_never_comes_up() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    for secret in [true, false] {
        let mut other = Rig::tls();
        other.view = Arc::clone(&rig.view);
        let authority = if secret {
            Authority { secret: "another secret that is long enough, too".into(), ..rig.authority().clone() }
        } else {
            Authority { secret: rig.authority().secret.clone(), ..Authority::generate(Clock.now()).unwrap() }
        };
        other.replace_authority(authority);
        let b = other.start("b").await;
        a.transport().set_peers(&[b.peer()]);
        b.transport().set_peers(&[a.peer()]);
        let before = a.count(|counters| &counters.rejected);
        eventually("both reject", || {
            a.count(|counters| &counters.rejected) > before + 1 && b.count(|counters| &counters.rejected) > 1
        })
        .await;
        assert!(!a.is_up(&b.at) && !b.is_up(&a.at), "secret: {secret}");
        b.shutdown().await;
    }
    assert_eq!(a.count(|counters| &counters.connects), 0);
}

#[tokio::test]
async fn a_clock_that_is_far_off_keeps_a_node_out() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    let b = at("b");
    rig.view.lock().unwrap().insert("b".into(), b.clone());
    let late: Now = Arc::new(|| Timestamp::from_millis(Clock.now().millis() - 600_000));
    let identity = Identity::issued(b.clone(), rig.authority(), late).unwrap();
    let mut stream = connect(&a, &identity).await.unwrap();
    let (kind, body) = hello(&mut stream, VERSION, identity.token().unwrap()).await.unwrap();
    assert_eq!((kind, body.as_str()), (Some(Kind::Rejected), "\"token\""));
    assert!(identity.check_token(&rig.identity(&a.at).token().unwrap()).is_err());
    drop(welcomed(&a, &rig.identity(&b)).await);
}

#[tokio::test]
async fn nothing_is_read_before_the_greeting() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    let b = at("b");
    rig.view.lock().unwrap().insert("b".into(), b.clone());
    let mut stream = connect(&a, &rig.identity(&b)).await.unwrap();
    let mut wire = BytesMut::new();
    frame::write(Kind::Push, 0, 0, b"1", &mut wire);
    stream.write_all(&wire).await.unwrap();
    stream.flush().await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(a.seen.pushed(), 0);
    assert_eq!(a.count(|counters| &counters.rejected), 1);
}

/// Reads the next frame.
async fn next(stream: &mut TlsStream<TcpStream>, buffer: &mut BytesMut) -> Received {
    let mut codec = FrameCodec::new(frame::LARGEST_BODY);
    loop {
        if let Some(received) = codec.decode(buffer).unwrap() {
            return received;
        }
        assert_ne!(timeout(LONG, stream.read_buf(buffer)).await.unwrap().unwrap(), 0, "closed");
    }
}

#[tokio::test]
async fn a_frame_too_large_is_refused_and_the_connection_stays() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    let b = at("b");
    rig.view.lock().unwrap().insert("b".into(), b.clone());
    let mut stream = welcomed(&a, &rig.identity(&b)).await;
    let mut wire = BytesMut::new();
    frame::write(Kind::Ask, 41, 10_000, &vec![b'1'; 17 * 1024 * 1024], &mut wire);
    frame::write(Kind::Ask, 42, 10_000, b"{not json", &mut wire);
    frame::write(Kind::Ping, 0, 0, b"", &mut wire);
    frame::write(Kind::Ask, 43, 10_000, b"\"fine\"", &mut wire);
    stream.write_all(&wire).await.unwrap();
    stream.flush().await.unwrap();
    let mut buffer = BytesMut::new();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(match next(&mut stream, &mut buffer).await {
            Received::Frame(Frame::Refusal { id, why }) => format!("{id} {why:?}"),
            Received::Frame(Frame::Answer { id, body }) => format!("{id} {}", body.get()),
            other @ (Received::Frame(_)
            | Received::TooLarge { .. }
            | Received::Malformed { .. }
            | Received::Unknown) => format!("{other:?}"),
        });
    }
    seen.sort();
    let refusals = [LinkRefusal::TooLarge, LinkRefusal::Malformed];
    assert_eq!(seen[0], format!("41 {:?}", refusals[0]));
    assert_eq!(seen[1], format!("42 {:?}", refusals[1]));
    assert_eq!(seen[2..], ["43 \"fine\"".to_owned(), "Frame(Pong)".to_owned()]);
    assert_eq!(a.count(|counters| &counters.skipped), 2);
}

#[tokio::test]
async fn news_that_cannot_be_read_are_told_as_lost() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    let b = at("b");
    rig.view.lock().unwrap().insert("b".into(), b.clone());
    let mut stream = welcomed(&a, &rig.identity(&b)).await;
    let mut wire = BytesMut::new();
    frame::write(Kind::Push, 0, 0, b"{not json", &mut wire);
    frame::write(Kind::Push, 0, 0, b"2", &mut wire);
    stream.write_all(&wire).await.unwrap();
    stream.flush().await.unwrap();
    eventually("the next news are there", || a.seen.pushed() == 1).await;
    assert_eq!(a.seen.losses(&b), 1);
}

#[tokio::test]
async fn a_frame_out_of_place_closes_the_connection() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    let b = at("b");
    rig.view.lock().unwrap().insert("b".into(), b.clone());
    let mut stream = welcomed(&a, &rig.identity(&b)).await;
    let mut wire = BytesMut::new();
    frame::write(Kind::Answer, 1, 0, b"1", &mut wire);
    stream.write_all(&wire).await.unwrap();
    stream.flush().await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
    eventually("the loss is told", || a.seen.losses(&b) == 1).await;
}

#[tokio::test]
async fn a_second_connection_of_a_node_takes_the_place_of_the_first() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    let b = at("b");
    rig.view.lock().unwrap().insert("b".into(), b.clone());
    let mut first = welcomed(&a, &rig.identity(&b)).await;
    let mut second = welcomed(&a, &rig.identity(&b)).await;
    let mut rest = Vec::new();
    let _ = timeout(LONG, first.read_to_end(&mut rest)).await.unwrap();
    eventually("the loss of the first is told", || a.seen.losses(&b) == 1).await;
    let mut wire = BytesMut::new();
    frame::write(Kind::Push, 0, 0, b"2", &mut wire);
    second.write_all(&wire).await.unwrap();
    second.flush().await.unwrap();
    eventually("the second is read", || a.seen.pushed() == 1).await;
}

/// A peer that greets, and then does nothing any more.
async fn sleeper(rig: &Rig, name: &str) -> Peer {
    let run = at(name);
    rig.view.lock().unwrap().insert(name.into(), run.clone());
    let identity = Arc::new(rig.identity(&run));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().into();
    let living = rig.living();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = TlsAcceptor::from(identity.server()).accept(socket).await else { continue };
            let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
            if greeting::hear(&mut stream, &identity, Some(&certificate), &living).await.is_ok() {
                held.push(stream);
            }
        }
    });
    Peer { at: run, address }
}

#[tokio::test]
async fn a_peer_that_accepts_but_never_reads_is_given_up_in_time_and_memory_is_bounded() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    let peer = sleeper(&rig, "b").await;
    a.transport().set_peers(std::slice::from_ref(&peer));
    eventually("connected", || a.is_up(&peer.at)).await;
    let up = Instant::now();
    let asked = tokio::spawn({
        let (transport, to) = (a.transport(), peer.at.clone());
        async move { transport.ask(&to, raw("1"), LONG).await }
    });
    let body = format!("\"{}\"", "x".repeat(100_000));
    let mut most = 0;
    let mut was_full = false;
    while a.is_up(&peer.at) {
        match a.transport().push(&peer.at, raw(&body)) {
            Err(LinkError::Full) => was_full = true,
            Ok(()) | Err(LinkError::Gone { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        most = most.max(a.count(|counters| &counters.bytes_queued));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let limit = rig.settings.silent_after + SECOND / 2;
    assert!(up.elapsed() <= limit, "given up after {:?}", up.elapsed());
    assert!(was_full && most <= rig.settings.queue_bytes as u64, "{was_full} {most}");
    assert!(matches!(asked.await.unwrap(), Err(LinkError::Gone { .. })));
    assert!(a.count(|counters| &counters.silent) >= 1);
}

#[tokio::test]
async fn a_peer_that_asks_but_never_reads_the_answers_is_given_up() {
    let rig = Rig::tls();
    let a = rig.start("a").await;
    let b = at("b");
    rig.view.lock().unwrap().insert("b".into(), b.clone());
    let stream = welcomed(&a, &rig.identity(&b)).await;
    let (reader, mut writer) = tokio::io::split(stream);
    let started = Instant::now();
    let mut most = 0;
    for id in 0_u64.. {
        let mut wire = BytesMut::new();
        // Few enough at a time that its asks are all taken.
        if id < 100 {
            frame::write(Kind::Ask, id, 30_000, br#"{"do":"large","bytes":500000}"#, &mut wire);
        }
        frame::write(Kind::Ping, 0, 0, b"", &mut wire);
        if writer.write_all(&wire).await.is_err() || a.seen.losses(&b) > 0 {
            break;
        }
        let _ = writer.flush().await;
        most = most.max(a.count(|counters| &counters.bytes_queued));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eventually("given up", || a.seen.losses(&b) == 1).await;
    assert!(started.elapsed() < rig.settings.silent_after * 2 + SECOND, "{:?}", started.elapsed());
    assert!(most <= rig.settings.queue_bytes as u64, "{most}");
    assert_eq!(a.count(|counters| &counters.silent), 1);
    drop(reader);
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_keep_peers_out() {
    let mut rig = Rig::tls();
    let patience = Duration::from_millis(800);
    rig.settings = LinkSettings { unauthenticated: 3, handshake_timeout: patience, ..rig.settings };
    let a = rig.start("a").await;
    let b = rig.start("b").await;
    let silent =
        [TcpStream::connect(a.address()).await.unwrap(), TcpStream::connect(a.address()).await.unwrap()];
    let started = Instant::now();
    b.transport().set_peers(&[a.peer()]);
    eventually("let in beside two silent ones", || b.is_up(&a.at)).await;
    assert!(started.elapsed() < patience, "none waits for another's handshake");
    let third = TcpStream::connect(a.address()).await.unwrap();
    let mut fourth = TcpStream::connect(a.address()).await.unwrap();
    assert_eq!(timeout(LONG, fourth.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0, "closed at once");
    assert!(a.count(|counters| &counters.crowded) >= 1);
    for mut stream in silent.into_iter().chain([third]) {
        assert_eq!(timeout(LONG, stream.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    }
    assert!(started.elapsed() >= patience / 2);
    assert_eq!(a.seen.asks.load(Ordering::SeqCst), 0);
}
