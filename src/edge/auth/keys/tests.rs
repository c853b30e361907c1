use super::*;
use crate::domain::id::UserId;
use crate::store;

const MINUTE: Millis = Millis::from_secs(60);
const YEAR: Millis = Millis::from_secs(365 * 86_400);

fn authority(seed: u8) -> Authority {
    Authority::new(Arc::new(Vault::of_seed(&[seed; 32])), "eml", YEAR).unwrap()
}

async fn memory() -> Stores {
    store::open("memory:").await.unwrap()
}

fn token(authority: &Authority) -> String {
    authority.token_for(&Holder::admin(UserId::fresh()), MINUTE).unwrap()
}

fn kid_of(token: &str) -> String {
    let head = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&head).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_tells_what_it_was_given_until_it_expires() {
    let authority = authority(1);
    let holder = Holder::admin(UserId::fresh());
    let good = authority.token_for(&holder, MINUTE).unwrap();
    for _ in 0..2 {
        // The second time from memory.
        let claims = authority.verify(&good).unwrap();
        assert_eq!((claims.sub, &claims.roles), (Subject::User(holder.user_id), &holder.roles));
    }
    let now = Clock.now().millis() / 1000;
    let claims = authority.claims(Subject::User(holder.user_id), MINUTE);
    for (why, changed, want) in [
        ("its last second is over", Claims { exp: now, ..claims.clone() }, Code::TokenExpired),
        ("it is not good yet", Claims { nbf: now + 5, ..claims.clone() }, Code::NoToken),
        ("it was made in the future", Claims { iat: now + 60, ..claims.clone() }, Code::NoToken),
        ("it would be good for too long", Claims { exp: now + 86_401, ..claims.clone() }, Code::NoToken),
        ("it is for others", Claims { aud: "others".to_owned(), ..claims.clone() }, Code::NoToken),
        ("it is of others", Claims { iss: "others".to_owned(), ..claims.clone() }, Code::NoToken),
    ] {
        let token = authority.mint(&changed).unwrap();
        for _ in 0..2 {
            assert_eq!(authority.verify(&token).unwrap_err().code(), want, "{why}");
        }
    }
}

#[test]
fn a_remembered_token_expires_too() {
    let authority = authority(1);
    let claims = authority.claims(Subject::User(UserId::fresh()), MINUTE);
    let brief = Claims { exp: Clock.now().millis() / 1000 + 1, ..claims };
    let token = authority.mint(&brief).unwrap();
    assert!(authority.verify(&token).is_ok());
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(authority.verify(&token).unwrap_err().code(), Code::TokenExpired);
}

#[test]
fn tokens_of_another_vault_are_refused() {
    let (ours, theirs) = (authority(1), authority(2));
    assert!(ours.verify(&token(&ours)).is_ok());
    for token in [token(&theirs).as_str(), "nonsense", "", "..", "a.b.c"] {
        assert_eq!(ours.verify(token).unwrap_err().code(), Code::NoToken);
    }
}

#[tokio::test]
async fn whoever_knows_the_vault_signs_for_a_node_without_its_store() {
    let stores = memory().await;
    let (node, beside) = (authority(1), authority(1));
    node.keep_up(&stores).await.unwrap();
    assert!(node.verify(&token(&beside)).is_ok());
    assert!(beside.verify(&token(&node)).is_ok());
}

#[tokio::test]
async fn a_new_key_is_shown_before_it_signs_and_the_old_one_verifies_on() {
    let stores = memory().await;
    let (node, other) = (authority(1), authority(1));
    for authority in [&node, &other] {
        authority.keep_up(&stores).await.unwrap();
    }
    let before = token(&node);
    let kid = node.rotate(&stores).await.unwrap();
    assert_ne!(kid_of(&token(&node)), kid, "other nodes do not know it yet");
    assert_eq!(node.jwks()["keys"].as_array().unwrap().len(), 2);
    assert!(other.verify(&token(&node)).is_ok() && node.verify(&before).is_ok());
    let ring = node.ring();
    let now = Clock.now();
    assert_eq!(ring.signing(now + SHOWN_FIRST).unwrap().stored.kid, kid);
    let old = Uuid::parse_str(&kid_of(&before)).unwrap();
    assert!(ring.holds(old, now + LONGEST_LIFE));
    assert!(!ring.holds(old, now + LONGEST_LIFE + SHOWN_FIRST + Millis(1_000)), "its tokens have expired");
}

#[tokio::test]
async fn of_two_nodes_that_make_the_next_key_at_once_one_does() {
    let stores = memory().await;
    let node = authority(1);
    node.keep_up(&stores).await.unwrap();
    let key = |salt: &str| Key::derived(&node.vault, salt, Clock.now()).unwrap().stored;
    insert(&*stores.records, 2, &key("mine")).await.unwrap();
    let late = insert(&*stores.records, 2, &key("yours")).await;
    assert!(matches!(late, Err(StoreError::Exists(_))));
    assert_eq!(Authority::stored(&*stores.records).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_revoked_key_ends_what_it_signed_and_another_takes_its_place() {
    let stores = memory().await;
    let (node, other) = (authority(1), authority(1));
    for authority in [&node, &other] {
        authority.keep_up(&stores).await.unwrap();
    }
    let token_of_before = token(&node);
    assert!(other.verify(&token_of_before).is_ok(), "and it is remembered now");
    assert!(node.revoke_key(&stores, &kid_of(&token_of_before)).await.unwrap());
    assert!(!node.revoke_key(&stores, "00").await.unwrap());
    other.keep_up(&stores).await.unwrap();
    for authority in [&node, &other] {
        assert_eq!(authority.verify(&token_of_before).unwrap_err().code(), Code::NoToken);
        let fresh = token(authority);
        assert!(node.verify(&fresh).is_ok() && other.verify(&fresh).is_ok());
    }
    // A program that knows the vault alone cannot sign any more.
    assert!(node.verify(&token(&authority(1))).is_err());
}

#[tokio::test]
async fn an_old_key_is_followed_by_another_by_itself() {
    let stores = memory().await;
    let vault = Arc::new(Vault::of_seed(&[1; 32]));
    let young = Authority::new(vault.clone(), "eml", YEAR).unwrap();
    young.keep_up(&stores).await.unwrap();
    assert_eq!(Authority::stored(&*stores.records).await.unwrap().len(), 1);
    let old = Authority::new(vault, "eml", Millis(0)).unwrap();
    old.keep_up(&stores).await.unwrap();
    assert_eq!(Authority::stored(&*stores.records).await.unwrap().len(), 2);
}
