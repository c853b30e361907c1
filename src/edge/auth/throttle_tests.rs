use super::*;
use crate::store::memory::MemoryStore;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOME: [u8; 4] = [192, 0, 2, 1];
const OFFICE: [u8; 4] = [192, 0, 2, 2];

/// A node: its own throttle on a shared store.
fn node(store: &MemoryStore) -> Throttle {
    Throttle::new(Arc::new(store.clone()), Arc::new(Vault::of_seed(&[3; 32])), 1_000_000)
}

fn at(ip: impl Into<IpAddr>) -> Place<'static> {
    Place { ip: ip.into(), device: None }
}

/// A place that nobody was seen at before.
fn elsewhere(number: u32) -> Place<'static> {
    at(IpAddr::V4((0x0a00_0000 + number).into()))
}

async fn is_admitted(throttle: &Throttle, login: &str, place: Place<'_>, now: Timestamp) -> bool {
    match throttle.admit(&throttle.account(login), place, now).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), Code::TooManyTries);
            false
        }
    }
}

async fn sign_in(
    throttle: &Throttle,
    login: &str,
    user: UserId,
    place: Place<'_>,
    remember: bool,
) -> Option<Secret> {
    let attempt = throttle.admit(&throttle.account(login), place, NOW).await.unwrap();
    throttle.succeeded(attempt, user, remember, NOW).await.unwrap()
}

#[tokio::test]
async fn no_account_gets_more_than_a_hundred_tries_in_any_hour_over_two_nodes_and_restarts() {
    let store = MemoryStore::default();
    let user = UserId::fresh();
    let device = sign_in(&node(&store), "ann", user, at(HOME), true).await.unwrap();
    let mut admitted: Vec<Timestamp> = Vec::new();
    let (mut one, mut other) = (node(&store), node(&store));
    // Every 10 seconds for three hours, from a new place, from home, and from the device, on two nodes.
    for round in 0..1080_u32 {
        let now = NOW + Millis::from_secs(u64::from(round) * 10);
        if round % 100 == 99 {
            (one, other) = (node(&store), node(&store));
        }
        let remembered = Place { ip: HOME.into(), device: Some(&device) };
        for (throttle, place) in [(&one, elsewhere(round)), (&other, at(HOME)), (&one, remembered)] {
            if is_admitted(throttle, "Ann", place, now).await {
                admitted.push(now);
            }
        }
    }
    let in_hour_from = |start: Timestamp| {
        admitted.iter().filter(|at| **at >= start && at.since(start) < Millis::from_secs(3600)).count()
    };
    let worst = admitted.iter().map(|start| in_hour_from(*start)).max().unwrap();
    assert!((50..=100).contains(&worst), "{worst} tries in an hour");
}

#[tokio::test]
async fn tries_at_the_same_time_are_counted_before_any_of_them_is_answered() {
    let store = MemoryStore::default();
    let nodes = [node(&store), node(&store)];
    let tries = (0..400).map(|i| is_admitted(&nodes[i as usize % 2], "ann", elsewhere(i), NOW));
    let admitted = futures_util::future::join_all(tries).await;
    assert_eq!(admitted.iter().filter(|is| **is).count() as u64, FROM_STRANGE_PLACES);
}

#[tokio::test]
async fn a_stranger_locks_nobody_out_of_a_known_address_or_device() {
    let store = MemoryStore::default();
    let throttle = node(&store);
    let user = UserId::fresh();
    let device = sign_in(&throttle, "ann", user, at(HOME), true).await.unwrap();
    let mut refused = 0;
    for i in 0..500 {
        refused += u32::from(!is_admitted(&throttle, "ann", elsewhere(i), NOW).await);
    }
    assert!(refused > 400, "{refused} were refused");
    assert!(is_admitted(&throttle, "ann", at(HOME), NOW).await, "the owner at home");
    // Somebody behind the owner's own address uses that up as well.
    while is_admitted(&throttle, "ann", at(HOME), NOW).await {}
    let travelling = Place { ip: [203, 0, 113, 9].into(), device: Some(&device) };
    assert!(is_admitted(&throttle, "ann", travelling, NOW).await, "the owner's device, wherever it is");
    let forged = Secret::new("dev_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned());
    let stranger = Place { ip: [203, 0, 113, 9].into(), device: Some(&forged) };
    assert!(!is_admitted(&throttle, "ann", stranger, NOW).await, "any other text is no device");
}

#[tokio::test]
async fn a_device_of_one_account_is_none_of_another() {
    let store = MemoryStore::default();
    let throttle = node(&store);
    let device = sign_in(&throttle, "mallory", UserId::fresh(), at(HOME), true).await.unwrap();
    for i in 0..50 {
        is_admitted(&throttle, "ann", elsewhere(i), NOW).await;
    }
    let place = Place { ip: OFFICE.into(), device: Some(&device) };
    assert!(!is_admitted(&throttle, "ann", place, NOW).await);
    assert!(is_admitted(&throttle, "mallory", place, NOW).await);
}

#[tokio::test]
async fn a_success_frees_its_own_place_and_no_strangers() {
    let store = MemoryStore::default();
    let throttle = node(&store);
    let user = UserId::fresh();
    sign_in(&throttle, "ann", user, at(HOME), false).await;
    for _ in 0..50 {
        assert!(sign_in(&throttle, "ann", user, at(HOME), false).await.is_none());
    }
    while is_admitted(&throttle, "ann", elsewhere(1), NOW).await {}
    sign_in(&throttle, "ann", user, at(HOME), false).await;
    assert!(!is_admitted(&throttle, "ann", elsewhere(2), NOW).await);
}

#[tokio::test]
async fn an_address_has_its_tries_per_minute_whatever_the_login() {
    let store = MemoryStore::default();
    let throttle = Throttle::new(Arc::new(store.clone()), Arc::new(Vault::of_seed(&[3; 32])), 10);
    sign_in(&throttle, "ann", UserId::fresh(), at(OFFICE), false).await;
    let mut admitted = 0;
    for i in 0..50 {
        admitted += u32::from(is_admitted(&throttle, &format!("user{i}"), at(OFFICE), NOW).await);
    }
    assert_eq!(admitted, 9, "and one was a sign-in");
    assert!(is_admitted(&throttle, "ann", at(OFFICE), NOW).await, "who is known there does not wait");
    let refusal = throttle.admit(&throttle.account("ben"), at(OFFICE), NOW).await.unwrap_err();
    assert_eq!(refusal.code(), Code::TooManyTries);
    assert!(is_admitted(&throttle, "ben", at(OFFICE), NOW + ADDRESS_WINDOW).await);
}

#[tokio::test]
async fn known_places_are_few_and_can_be_forgotten() {
    let store = MemoryStore::default();
    let throttle = node(&store);
    let user = UserId::fresh();
    for i in 0..20 {
        sign_in(&throttle, "ann", user, elsewhere(i), true).await;
    }
    let places = store.about(GrantKind::KnownPlace, user.uuid(), NOW).await.unwrap();
    assert_eq!(places.len(), MOST_PLACES);
    throttle.forget_places(user).await.unwrap();
    assert!(store.about(GrantKind::KnownPlace, user.uuid(), NOW).await.unwrap().is_empty());
}

#[test]
fn one_customers_network_is_one_address() {
    let ip = |text: &str| network(text.parse().unwrap());
    assert_eq!(ip("2001:db8:1:2:3:4:5:6"), ip("2001:db8:1:2::1"));
    assert_ne!(ip("2001:db8:1:2::1"), ip("2001:db8:1:3::1"));
    assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
    assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
}
