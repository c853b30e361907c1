use super::*;
use crate::store::memory::MemoryStore;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn new(login: &str, email: Option<&str>) -> NewAccount {
    NewAccount {
        login: login.parse().unwrap(),
        name: None,
        email: email.map(|email| (email.parse().unwrap(), true)),
        roles: [RoleName::agent()].into(),
        password_hash: String::new(),
    }
}

async fn make(store: &MemoryStore, login: &str, email: Option<&str>) -> Result<User, AccountError> {
    create(store, new(login, email), NOW).await
}

async fn set_email(store: &MemoryStore, user: &User, email: Option<&str>) -> Result<User, AccountError> {
    let email: Option<Email> = email.map(|email| email.parse().unwrap());
    let changed = change(store, user.id, None, NOW, |user: &mut User| {
        user.email.clone_from(&email);
        Ok::<(), AccountError>(())
    });
    Ok(changed.await?.1.user)
}

#[tokio::test]
async fn a_login_and_an_address_belong_to_one_user() {
    let store = MemoryStore::default();
    let ann = make(&store, "Ann", Some("Ann@Example.org")).await.unwrap();
    assert!(matches!(make(&store, "ANN", None).await, Err(AccountError::LoginTaken)));
    assert!(matches!(make(&store, "ben", Some("ann@example.ORG")).await, Err(AccountError::EmailTaken)));
    assert!(by_login(&store, "ben").await.unwrap().is_none(), "nothing is left of the second");
    let ben = make(&store, "ben", Some("ben@example.org")).await.unwrap();
    assert!(matches!(set_email(&store, &ben, Some("ann@example.org")).await, Err(AccountError::EmailTaken)));
    let found = by_email(&store, &"ann@example.org".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(found.user, ann);
}

#[tokio::test]
async fn an_address_is_free_again_when_its_user_gives_it_up_or_goes() {
    let store = MemoryStore::default();
    let ann = make(&store, "ann", Some("a@example.org")).await.unwrap();
    set_email(&store, &ann, Some("b@example.org")).await.unwrap();
    let ben = make(&store, "ben", Some("a@example.org")).await.unwrap();
    set_email(&store, &ann, None).await.unwrap();
    let cho = make(&store, "cho", Some("b@example.org")).await.unwrap();
    for user in [ben, cho] {
        remove(&store, user.id, None).await.unwrap();
    }
    make(&store, "dee", Some("a@example.org")).await.unwrap();
    make(&store, "eli", Some("b@example.org")).await.unwrap();
    assert_eq!(store.all(RecordKind::Email).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_refused_change_keeps_the_address_that_was() {
    let store = MemoryStore::default();
    let ann = make(&store, "ann", Some("a@example.org")).await.unwrap();
    make(&store, "ben", None).await.unwrap();
    let refused = change(&store, ann.id, None, NOW, |user: &mut User| {
        user.login = "ben".to_owned();
        user.email = Some("c@example.org".parse().unwrap());
        Ok::<(), AccountError>(())
    });
    assert!(matches!(refused.await, Err(AccountError::LoginTaken)));
    make(&store, "cho", Some("c@example.org")).await.unwrap();
    assert!(matches!(make(&store, "dee", Some("a@example.org")).await, Err(AccountError::EmailTaken)));
}

#[tokio::test]
async fn of_many_who_want_one_address_at_a_time_one_gets_it() {
    let store = MemoryStore::default();
    let wanted = (0..40).map(|i| {
        let store = store.clone();
        async move { make(&store, &format!("user{i}"), Some("one@example.org")).await.is_ok() }
    });
    let made = futures_util::future::join_all(wanted).await;
    assert_eq!(made.iter().filter(|is| **is).count(), 1);
    let owners = all(&store).await.unwrap();
    assert_eq!(owners.iter().filter(|account| account.user.email.is_some()).count(), 1);
}

#[tokio::test]
async fn an_address_that_a_crash_left_behind_is_taken_over_after_a_while() {
    let store = MemoryStore::default();
    let gone = UserId::fresh();
    let address: Email = "left@example.org".parse().unwrap();
    take_address(&store, &address, gone, NOW).await.unwrap();
    assert!(matches!(make(&store, "ann", Some("left@example.org")).await, Err(AccountError::EmailTaken)));
    assert!(by_email(&store, &address).await.unwrap().is_none());
    let later = NOW + LEFT_BEHIND;
    let ann = create(&store, new("ann", Some("left@example.org")), later).await.unwrap();
    assert_eq!(by_email(&store, &address).await.unwrap().unwrap().user, ann);
}

#[tokio::test]
async fn a_change_of_a_known_version_gives_way_to_another() {
    let store = MemoryStore::default();
    let ann = make(&store, "ann", None).await.unwrap();
    let rename = |to: &'static str| {
        move |user: &mut User| {
            user.name = to.to_owned();
            Ok::<(), AccountError>(())
        }
    };
    change(&store, ann.id, Some(1), NOW, rename("Ann")).await.unwrap();
    assert!(matches!(change(&store, ann.id, Some(1), NOW, rename("Anna")).await, Err(AccountError::Changed)));
    let (before, after) = change(&store, ann.id, None, NOW, rename("Anna")).await.unwrap();
    assert_eq!((before.user.name.as_str(), after.user.name.as_str(), after.version), ("Ann", "Anna", 3));
    assert!(matches!(remove(&store, ann.id, Some(1)).await, Err(AccountError::Changed)));
}
