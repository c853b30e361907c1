//! A network for nodes: each in a namespace of its own behind a bridge, where packets can be dropped;
//! or, without root, addresses of loopback, where nothing can be cut.
//!
//! Node `i` lives at `BASE.0.(10+i)`. To the others it is `BASE.1.(10+i)`, an address of the harness,
//! whose wire (`wire.rs`) leads to it and keeps the sender's address: so a rule in a node's namespace
//! that drops what goes to or comes from `BASE.1.(10+i)` cuts it off from node `i` and nobody else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use crate::support::services::not_run;

/// Second part of the addresses that are tried, one after the other.
const PARTS: std::ops::Range<u8> = 64..128;
/// Ports of every node.
pub const API: u16 = 8080;
pub const CLUSTER: u16 = 7946;

#[derive(Debug)]
pub struct Network {
    first: u8,
    part: u8,
    nodes: usize,
    is_namespaced: bool,
}

/// Which way packets are dropped between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Both,
    /// Only what the first sends to the second.
    There,
}

/// Runs a program; answers whether it succeeded.
fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let done = Command::new(program).args(arguments).output();
    done.is_ok_and(|done| done.status.success())
}

fn must(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().expect(program);
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {}: {why}", arguments.join(" "));
}

fn is_there(program: &str) -> bool {
    succeeds("sh", &["-c", &format!("command -v {program}")])
}

impl Network {
    /// Addresses of loopback, for as many nodes.
    pub fn loopback(nodes: usize) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Another run at the same time has other ports, so at best another part.
        let part = PARTS.start + u8::try_from(port % u16::from(PARTS.end - PARTS.start)).unwrap();
        Self { first: 127, part, nodes, is_namespaced: false }
    }

    /// A namespace for each node, or `None` (said aloud) where that cannot be, which with `CI=true`
    /// is a failure.
    pub fn namespaces(nodes: usize) -> Option<Self> {
        if !succeeds("sh", &["-c", "test $(id -u) = 0"]) {
            return not_run("network namespaces need root");
        }
        for program in ["ip", "nft"] {
            if !is_there(program) {
                return not_run(&format!("{program} is missing; ./scripts/services install gets it"));
            }
        }
        for part in PARTS {
            if succeeds("ip", &["link", "add", &format!("emlb{part}"), "type", "bridge"]) {
                let network = Self { first: 10, part, nodes, is_namespaced: true };
                network.lay();
                return Some(network);
            }
        }
        not_run("no bridge can be made; namespaces of earlier runs may be left over")
    }

    /// Lays the bridge and the cables to all nodes.
    fn lay(&self) {
        let bridge = self.bridge();
        must("ip", &["addr", "add", &format!("{}/16", self.harness()), "dev", &bridge]);
        must("ip", &["link", "set", &bridge, "up"]);
        for node in 1..=self.nodes {
            let (space, cable) = (self.space(node), format!("emlv{}x{node}", self.part));
            must("ip", &["addr", "add", &format!("{}/16", self.seen(node)), "dev", &bridge]);
            // What a run before left here when it was ended; the bridge says that this part is ours.
            succeeds("ip", &["netns", "del", &space]);
            succeeds("ip", &["link", "del", &cable]);
            must("ip", &["netns", "add", &space]);
            must("ip", &["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &space]);
            must("ip", &["link", "set", &cable, "master", &bridge, "up"]);
            let inside = |arguments: &[&str]| must("ip", &[&["-n", &space], arguments].concat());
            inside(&["addr", "add", &format!("{}/16", self.node(node)), "dev", "eth0"]);
            inside(&["link", "set", "eth0", "up"]);
            inside(&["link", "set", "lo", "up"]);
            for chain in [
                "add table inet chaos",
                "add chain inet chaos in { type filter hook input priority 0; }",
                "add chain inet chaos out { type filter hook output priority 0; }",
            ] {
                self.filter(node, chain);
            }
        }
    }

    fn filter(&self, node: usize, command: &str) {
        must("ip", &["netns", "exec", &self.space(node), "nft", command]);
    }

    fn bridge(&self) -> String {
        format!("emlb{}", self.part)
    }

    fn space(&self, node: usize) -> String {
        format!("eml{}x{node}", self.part)
    }

    fn address(&self, third: u8, last: usize) -> IpAddr {
        let last = u8::try_from(last).unwrap();
        IpAddr::V4(Ipv4Addr::new(self.first, self.part, third, last))
    }

    pub fn nodes(&self) -> usize {
        self.nodes
    }

    pub fn is_namespaced(&self) -> bool {
        self.is_namespaced
    }

    /// Where the harness is, for every node.
    pub fn harness(&self) -> IpAddr {
        self.address(0, 1)
    }

    /// Where a node is.
    pub fn node(&self, node: usize) -> IpAddr {
        self.address(0, 10 + node)
    }

    /// Where the other nodes see it.
    pub fn seen(&self, node: usize) -> IpAddr {
        if self.is_namespaced { self.address(1, 10 + node) } else { self.node(node) }
    }

    pub fn api(&self, node: usize) -> SocketAddr {
        SocketAddr::new(self.node(node), API)
    }

    /// A program that runs where a node is.
    pub fn command(&self, node: usize, program: &str) -> Command {
        if !self.is_namespaced {
            return Command::new(program);
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(node), program]);
        command
    }

    /// Drops packets between two nodes.
    pub fn cut(&self, one: usize, other: usize, way: Way) {
        let drop = |at: usize, chain: &str, field: &str, peer: usize| {
            self.filter(at, &format!("add rule inet chaos {chain} ip {field} {} drop", self.seen(peer)));
        };
        drop(one, "out", "daddr", other);
        drop(other, "in", "saddr", one);
        if way == Way::Both {
            drop(other, "out", "daddr", one);
            drop(one, "in", "saddr", other);
        }
    }

    /// Drops packets between a node and a port of the harness, as that of the database.
    pub fn cut_port(&self, node: usize, port: u16) {
        self.filter(
            node,
            &format!("add rule inet chaos out ip daddr {} tcp dport {port} drop", self.harness()),
        );
        self.filter(
            node,
            &format!("add rule inet chaos in ip saddr {} tcp sport {port} drop", self.harness()),
        );
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        if self.is_namespaced {
            for node in 1..=self.nodes {
                self.filter(node, "flush table inet chaos");
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.is_namespaced {
            for node in 1..=self.nodes {
                succeeds("ip", &["netns", "del", &self.space(node)]);
            }
            succeeds("ip", &["link", "del", &self.bridge()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    /// Whether a program in a namespace reaches the harness by a fresh connection.
    fn reaches(network: &Network, node: usize, target: SocketAddr) -> bool {
        let probe = format!("exec 3<>/dev/tcp/{}/{} && head -c 2 <&3", target.ip(), target.port());
        let mut command = network.command(node, "timeout");
        command.args(["1", "bash", "-c", &probe]).output().unwrap().stdout == b"ok"
    }

    #[test]
    fn a_cut_drops_packets_one_way_or_both_and_heals() {
        let Some(network) = Network::namespaces(2) else { return };
        let listener = TcpListener::bind((network.seen(2), 0)).unwrap();
        let target = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.write_all(b"ok");
            }
        });
        assert!(reaches(&network, 1, target));
        network.cut(1, 2, Way::There);
        assert!(!reaches(&network, 1, target), "what 1 sends to 2 is dropped");
        network.heal();
        assert!(reaches(&network, 1, target));
        network.cut_port(1, target.port());
        assert!(reaches(&network, 1, target), "only the harness' own address is cut");
        network.heal();
        network.cut(2, 1, Way::There);
        assert!(!reaches(&network, 1, target), "the answers of 2 do not reach 1");
        let mut harness = TcpStream::connect_timeout(&target, Duration::from_secs(1)).unwrap();
        let mut word = String::new();
        harness.read_to_string(&mut word).unwrap();
        assert_eq!(word, "ok", "the harness is never cut off");
    }
}
