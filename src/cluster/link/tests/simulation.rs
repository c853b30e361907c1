//! What only the simulated network can do.

use std::time::Duration;

use super::rig::{LONG, Seen, at, eventually, raw, settings};
use crate::cluster::link::{LinkError, Living, Peer, SimulatedLinks, SimulatedNetwork, Transport as _};
use crate::domain::node::NodeRef;
use std::sync::Arc;

fn join(network: &SimulatedNetwork, name: &str) -> (NodeRef, SimulatedLinks, Arc<Seen>) {
    let (node, seen) = (at(name), Arc::new(Seen::default()));
    let living: Living = Arc::new(|_| true);
    (node.clone(), network.join(node, settings(), seen.clone(), living), seen)
}

fn peer(at: &NodeRef) -> Peer {
    Peer { at: at.clone(), address: "simulated:1".into() }
}

#[tokio::test]
async fn a_slow_and_lossy_line_keeps_the_order() {
    let network = SimulatedNetwork::new(7);
    network.set_delay(Duration::from_millis(1), Duration::from_millis(20));
    network.set_loss(0.1);
    let (_, links, _seen) = join(&network, "a");
    let (there, _links_there, seen) = join(&network, "b");
    links.set_peers(&[peer(&there)]);
    eventually("connected", || links.is_up(&there)).await;
    for i in 0..200 {
        links.push(&there, raw(&i.to_string())).unwrap();
        if i % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    eventually("all news are there", || seen.pushed() == 200).await;
    let order: Vec<_> = seen.pushes.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(order, (0..200).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(links.ask(&there, raw("1"), LONG).await.unwrap().get(), "1");
}

#[tokio::test]
async fn a_cut_of_one_way_breaks_what_needs_it() {
    let network = SimulatedNetwork::new(7);
    let (here, links, _seen) = join(&network, "a");
    let (there, links_there, seen_there) = join(&network, "b");
    links.set_peers(&[peer(&there)]);
    links_there.set_peers(&[peer(&here)]);
    eventually("connected", || links.is_up(&there) && links_there.is_up(&here)).await;
    network.cut("b", "a");
    let ask = links.ask(&there, raw("1"), LONG).await;
    assert_eq!(ask.unwrap_err(), LinkError::Gone { sure: false });
    assert_eq!(seen_there.asks.load(std::sync::atomic::Ordering::SeqCst), 1, "the question did arrive");
    network.heal("b", "a");
    eventually("connected again", || links.is_up(&there) && links_there.is_up(&here)).await;
}
