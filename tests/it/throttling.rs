//! Tries to sign in are counted by all nodes together and over restarts, on each product.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use eml::domain::id::UserId;
use eml::domain::time::{Clock, Millis, Timestamp};
use eml::edge::auth::{Place, Throttle, Vault};
use eml::store::Stores;

use crate::samples::on_every_product;

/// More than any address makes here.
const NO_LIMIT: u32 = 1_000_000;

on_every_product! {
    nodes_count_together_and_a_restart_forgets_nothing
    a_place_is_known_to_all_nodes_and_its_tries_are_its_own
}

fn node(stores: &Stores) -> Throttle {
    Throttle::new(stores.grants.clone(), Arc::new(Vault::of_seed(&[9; 32])), NO_LIMIT)
}

/// A place that was not seen before.
fn place(number: u32) -> Place<'static> {
    Place { ip: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)), device: None }
}

/// How many of these tries are let through, all asked for at the same time on these nodes.
async fn admitted(nodes: &[Throttle], login: &str, numbers: std::ops::Range<u32>, now: Timestamp) -> usize {
    let tries = numbers.map(|number| {
        let node = &nodes[number as usize % nodes.len()];
        async move { node.admit(&node.account(login), place(number), now).await.is_ok() }
    });
    futures_util::future::join_all(tries).await.into_iter().filter(|is| *is).count()
}

async fn nodes_count_together_and_a_restart_forgets_nothing(stores: Stores) {
    let now = Clock.now();
    let first = admitted(&[node(&stores), node(&stores)], "ann", 0..120, now).await;
    assert!((10..=50).contains(&first), "{first} tries");
    let after_restart = admitted(&[node(&stores), node(&stores)], "Ann", 120..240, now).await;
    assert_eq!(after_restart, 0, "the same login in another case, on nodes that have just begun");
    assert_eq!(admitted(&[node(&stores)], "ben", 0..1, now).await, 1, "another login");
    let later = now + Millis::from_secs(3600);
    let in_next = admitted(&[node(&stores), node(&stores)], "ann", 240..360, later).await;
    assert!(
        in_next > 0 && first + in_next <= 100,
        "{first} and {in_next} tries within little more than an hour"
    );
}

async fn a_place_is_known_to_all_nodes_and_its_tries_are_its_own(stores: Stores) {
    let now = Clock.now();
    let (one, other) = (node(&stores), node(&stores));
    let account = one.account("ann");
    let attempt = one.admit(&account, place(1), now).await.unwrap();
    let device = one.succeeded(attempt, UserId::fresh(), true, now).await.unwrap().unwrap();
    assert!(admitted(&[node(&stores), node(&stores)], "ann", 2..200, now).await < 50);
    assert!(other.admit(&account, place(201), now).await.is_err(), "a stranger");
    let home = other.admit(&account, place(1), now).await;
    assert!(home.is_ok(), "the address of the sign-in");
    let elsewhere = Place { device: Some(&device), ..place(202) };
    assert!(other.admit(&account, elsewhere, now).await.is_ok(), "the device of the sign-in");
    let of_another = other.admit(&other.account("ben"), elsewhere, now).await.unwrap();
    other.succeeded(of_another, UserId::fresh(), false, now).await.unwrap();
    assert!(other.admit(&account, place(202), now).await.is_err(), "a place of another account");
}
