//! Wires: relays of the harness between nodes, and between nodes and servers.
//!
//! Linux kernels without netem cannot delay or lose packets, and the tests must run on them. A wire
//! between two nodes does what such packets look like to a program over TCP: everything later, and now
//! and then a pause of a retransmission that holds up all that follows.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::network::{CLUSTER, Network};

/// How long TCP waits for an acknowledgement before it sends again: its least, and twice that.
const RETRANSMISSION: std::ops::Range<u64> = 200..400;
/// Chunks that may be on their way; more wait with the sender, as in a full window.
const WINDOW: usize = 256;

/// How one direction between two nodes is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub delay: Duration,
    /// Chance that a chunk is held up by a retransmission.
    pub loss: f64,
}

/// How often a closed door looks whether somebody has come.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

type Key = (usize, usize);

/// The weather between all pairs.
#[derive(Debug, Clone, Default)]
pub struct Sky(Arc<Mutex<HashMap<Key, Weather>>>);

impl Sky {
    /// How it is from one node to another.
    pub fn at(&self, from: usize, to: usize) -> Weather {
        self.0.lock().unwrap().get(&(from, to)).copied().unwrap_or_default()
    }

    pub fn set(&self, from: usize, to: usize, weather: Weather) {
        self.0.lock().unwrap().insert((from, to), weather);
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// All wires; they end with it.
#[derive(Debug)]
pub struct Wires {
    pub sky: Sky,
    tasks: JoinSet<()>,
}

impl Wires {
    /// Wires between all nodes, from where they see each other to where they are.
    pub async fn between(network: &Network) -> Self {
        let sky = Sky::default();
        let mut tasks = JoinSet::new();
        if network.is_namespaced() {
            let homes: Vec<IpAddr> = (1..=network.nodes()).map(|node| network.node(node)).collect();
            let faces: Vec<IpAddr> = (1..=network.nodes()).map(|node| network.seen(node)).collect();
            for to in 1..=network.nodes() {
                let near = SocketAddr::new(network.seen(to), CLUSTER);
                let listener = TcpListener::bind(near).await.unwrap();
                let target = SocketAddr::new(network.node(to), CLUSTER);
                let (homes, faces, sky) = (homes.clone(), faces.clone(), sky.clone());
                tasks.spawn(carry(listener, Door { near, to, target, homes, faces, sky }));
            }
        }
        Self { sky, tasks }
    }

    /// A wire from all nodes to a server, which is place 0 under the sky; answers where it begins. Nodes
    /// on loopback cannot be told apart and nobody makes weather there: they go straight to it.
    pub async fn lay_to(&mut self, server: SocketAddr, network: &Network) -> SocketAddr {
        if !network.is_namespaced() {
            return server;
        }
        let listener = TcpListener::bind((network.harness(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let homes: Vec<IpAddr> = (1..=network.nodes()).map(|node| network.node(node)).collect();
        let sky = self.sky.clone();
        self.tasks.spawn(async move {
            while let Ok((near, peer)) = listener.accept().await {
                let place =
                    homes.iter().position(|home| *home == peer.ip()).map_or(SERVER, |place| place + 1);
                let sky = sky.clone();
                tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(server).await {
                        join(near, far, (place, SERVER), &sky).await;
                    }
                });
            }
        });
        address
    }
}

/// Place of servers under the sky.
pub const SERVER: usize = 0;

/// Carries both directions of a connection until one of them ends; answers with the near end.
async fn join(
    near: TcpStream,
    far: TcpStream,
    (from, to): Key,
    sky: &Sky,
) -> (OwnedReadHalf, OwnedWriteHalf) {
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pump(&mut near_in, &mut far_out, (from, to), sky) => {}
        () = pump(&mut far_in, &mut near_out, (to, from), sky) => {}
    }
    (near_in, near_out)
}

/// One end of wires: where the others see a node.
struct Door {
    near: SocketAddr,
    to: usize,
    target: SocketAddr,
    /// Where nodes are, and where the others see them, by their places.
    homes: Vec<IpAddr>,
    faces: Vec<IpAddr>,
    sky: Sky,
}

/// Asks the door to look whether anybody is behind it; answered when it has.
type Knock = oneshot::Sender<()>;

/// Takes in the connections of all nodes to one. A node that refuses connections is refused here too:
/// the others must see the difference between a process that is gone and a network that is.
async fn carry(mut listener: TcpListener, door: Door) {
    let door = Arc::new(door);
    let (knocks, mut knocked) = mpsc::channel::<Knock>(WINDOW);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, peer)) = accepted else { continue };
                let Some(place) = door.homes.iter().position(|home| *home == peer.ip()) else { continue };
                tokio::spawn(door.clone().serve(near, place, knocks.clone()));
            }
            Some(knock) = knocked.recv() => {
                if is_gone(door.target).await {
                    drop(listener);
                    let _ = knock.send(());
                    while is_refused(door.target).await {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    // Where it cannot be opened again the network is gone, at the end of a test.
                    let Ok(opened) = TcpListener::bind(door.near).await else { return };
                    listener = opened;
                }
            }
        }
    }
}

/// A process that is ended closes one thing after the other, so the first look may be too early.
async fn is_gone(target: SocketAddr) -> bool {
    for _ in 0..2 {
        if is_refused(target).await {
            return true;
        }
        tokio::time::sleep(LOOK_AGAIN / 2).await;
    }
    false
}

async fn is_refused(target: SocketAddr) -> bool {
    let answer = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(target)).await;
    matches!(answer, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

impl Door {
    async fn serve(self: Arc<Self>, near: TcpStream, place: usize, knocks: mpsc::Sender<Knock>) {
        let (from, to) = (place + 1, self.to);
        let socket = TcpSocket::new_v4().unwrap();
        // So that the receiver sees who it is, and its namespace can tell senders apart.
        if socket.bind(SocketAddr::new(self.faces[place], 0)).is_err() {
            // The network is gone, at the end of a test.
            return;
        }
        let (near_in, near_out) = match socket.connect(self.target).await {
            Ok(far) => join(near, far, (from, to), &self.sky).await,
            Err(_) => {
                let _ = near.set_zero_linger();
                near.into_split()
            }
        };
        // The door first, so that whoever comes again at once finds it as it is.
        let (knock, looked) = oneshot::channel();
        if knocks.send(knock).await.is_ok() {
            let _ = looked.await;
        }
        drop((near_in, near_out));
    }
}

/// Carries one direction until it ends.
async fn pump(source: &mut OwnedReadHalf, sink: &mut OwnedWriteHalf, (from, to): Key, sky: &Sky) {
    let (sender, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(WINDOW);
    let read = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut latest = Instant::now();
        loop {
            let Ok(length @ 1..) = source.read(&mut buffer).await else { return };
            let weather = sky.at(from, to);
            let is_lost = weather.loss > 0.0 && rand::rng().random_bool(weather.loss);
            let pause = if is_lost { rand::rng().random_range(RETRANSMISSION) } else { 0 };
            latest = latest.max(Instant::now() + weather.delay + Duration::from_millis(pause));
            if sender.send((latest, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if sink.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bad_weather_makes_everything_later_and_changes_nothing() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
        let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = near.local_addr().unwrap();
        let (sky, here) = (Sky::default(), vec![IpAddr::from([127, 0, 0, 1])]);
        let door = Door { near: address, to: 2, target, homes: here.clone(), faces: here, sky: sky.clone() };
        tokio::spawn(carry(near, door));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut times = Vec::new();
        for weather in [Weather::default(), Weather { delay: Duration::from_millis(100), loss: 1.0 }] {
            sky.set(1, 2, weather);
            let began = Instant::now();
            stream.write_all(b"hello").await.unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"hello");
            times.push(began.elapsed());
        }
        assert!(times[0] < Duration::from_millis(100), "{times:?}");
        assert!(times[1] >= Duration::from_millis(300), "{times:?}");
    }

    #[tokio::test]
    async fn a_door_is_closed_while_nobody_is_behind_it() {
        let home = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = home.local_addr().unwrap();
        let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, here) = (near.local_addr().unwrap(), vec![IpAddr::from([127, 0, 0, 1])]);
        let door =
            Door { near: address, to: 2, target, homes: here.clone(), faces: here, sky: Sky::default() };
        tokio::spawn(carry(near, door));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (behind, _) = home.accept().await.unwrap();
        drop((behind, home));
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "the connection breaks");
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let _home = TcpListener::bind(target).await.unwrap();
        let began = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(5), "the door opens again");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
