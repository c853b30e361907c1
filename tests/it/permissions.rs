//! Who may do what: every route and every command of a socket, with every role and every single
//! permission, on one's own things and on those of others.

use std::collections::BTreeSet;

use eml::domain::id::{AgentId, CallId, UserId};
use eml::domain::identity::{Permission, PermissionSet, RoleName};
use eml::domain::time::{Clock, Millis};
use eml::edge::auth::{Access, COMMANDS, Claims, Holder, ROUTES, Subject};
use eml::store::records::{RecordKind, StoredRecord};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Desk, House, HouseSettings};

/// Answers that say that somebody may not do this at all, or is nobody.
const REFUSALS: [&str; 4] = ["EML-2001", "EML-2002", "EML-2003", "EML-2011"];
/// Routes that cannot be asked as others are: a socket is opened otherwise.
const SOCKET: &str = "/ws";
/// Routes that are open to all without a token, and otherwise to whose token allows this.
const OPEN_OR: &[(&str, &str, Permission)] = &[("POST", "/users/register", Permission::UsersWrite)];
/// A role that no program brings along.
const OWN_ROLE: &str = "night-shift";

/// Somebody who asks.
struct Asker {
    name: String,
    /// Nobody has none.
    token: Option<String>,
    may: PermissionSet,
}

fn asker(house: &House, name: &str, may: PermissionSet, change: impl FnOnce(Claims) -> Claims) -> Asker {
    let authority = &house.node().authority;
    let claims = authority.claims(Subject::User(UserId::fresh()), Millis::from_secs(3_600));
    let token = authority.mint(&change(claims)).unwrap();
    Asker { name: name.to_owned(), token: Some(token), may }
}

/// Nobody; somebody without roles; each role; a role of one's own; an admin's token for one thing each.
async fn askers(house: &House) -> Vec<Asker> {
    let own: PermissionSet = [Permission::CallsRead, Permission::AgentsRelease].into_iter().collect();
    own_role(house, own).await;
    let mut askers = vec![
        Asker { name: "nobody".to_owned(), token: None, may: PermissionSet::NONE },
        asker(house, "no role", PermissionSet::NONE, |claims| claims),
        asker(house, "a role that does not exist", PermissionSet::NONE, |claims| Claims {
            roles: roles(&["ghost"]),
            ..claims
        }),
        asker(house, OWN_ROLE, own, |claims| Claims { roles: roles(&[OWN_ROLE]), ..claims }),
    ];
    for name in RoleName::BUILT_IN {
        let may = name.parse::<RoleName>().unwrap().built_in();
        askers.push(asker(house, name, may, |claims| Claims { roles: roles(&[name]), ..claims }));
    }
    for permission in Permission::ALL {
        let only: PermissionSet = [*permission].into_iter().collect();
        let name = format!("admin, for {} only", permission.as_str());
        askers.push(asker(house, &name, only, |claims| Claims {
            roles: roles(&["admin"]),
            scope: Some(only),
            ..claims
        }));
    }
    askers
}

fn roles(names: &[&str]) -> BTreeSet<RoleName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

async fn own_role(house: &House, permissions: PermissionSet) {
    let body = json!({ "name": OWN_ROLE, "permissions": permissions });
    insert(house, RecordKind::Role, OWN_ROLE, body).await;
    house.node().engine.reload_directory().await.unwrap();
}

/// Stores a record; answers its id.
async fn insert(house: &House, kind: RecordKind, key: &str, body: Value) -> uuid::Uuid {
    let (id, now) = (UserId::fresh().uuid(), Clock.now());
    let record =
        StoredRecord { id, key: key.to_owned(), body, version: 1, created_at: now, updated_at: now };
    house.node().engine.stores().records.insert(kind, record).await.unwrap();
    id
}

async fn ask(
    house: &House,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: &Value,
) -> (StatusCode, Value) {
    let request = house.http.request(method.parse().unwrap(), format!("{}{path}", house.base)).json(body);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let answer = request.send().await.unwrap();
    let status = answer.status();
    (status, answer.json().await.unwrap_or_default())
}

/// A route with something that does not exist in each of its places.
fn filled(route: &str) -> String {
    let parts = route.split('/').map(|part| if part.starts_with('{') { "nobody" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_lets_in_whom_its_row_says_and_nobody_else() {
    let house = House::bare(HouseSettings::default()).await;
    let askers = askers(&house).await;
    let mut asked = 0;
    for (method, route, access) in ROUTES.iter().filter(|(_, route, _)| *route != SOCKET) {
        for asker in &askers {
            let (status, body) =
                ask(&house, asker.token.as_deref(), method, &filled(route), &json!({})).await;
            let code = body["code"].as_str().unwrap_or_default();
            let why = format!("{} asks {method} {route}: {status} {body}", asker.name);
            let open = OPEN_OR.iter().find(|(other, path, _)| other == method && path == route);
            let wanted = match access {
                Access::Public if asker.token.is_some() => open
                    .filter(|(_, _, permission)| !asker.may.has(*permission))
                    .map(|_| "EML-2003"),
                Access::Public => None,
                _ if asker.token.is_none() => Some("EML-2001"),
                Access::Needs(permission)
                | Access::NeedsOrChallenge(permission)
                | Access::Critical(permission) => (!asker.may.has(*permission)).then_some("EML-2003"),
            };
            match wanted {
                Some(refusal) => assert_eq!(code, refusal, "{why}"),
                // What a handler refuses for reasons of its own, it explains.
                None => assert!(!REFUSALS.contains(&code) || body["detail"].is_string(), "{why}"),
            }
            assert!(!status.is_server_error(), "{why}");
            asked += 1;
        }
    }
    assert_eq!(asked, (ROUTES.len() - 1) * askers.len());
    house.close().await;
}

#[tokio::test]
async fn every_command_of_a_socket_is_for_whom_its_row_says_and_nobody_else() {
    let house = House::bare(HouseSettings::default()).await;
    for asker in askers(&house).await {
        let Some(token) = &asker.token else { continue };
        if !asker.may.has(Permission::Own) {
            assert_eq!(
                Desk::refusal_of_token(&house.base, token).await,
                StatusCode::FORBIDDEN,
                "{}",
                asker.name
            );
            continue;
        }
        let mut desk = Desk::open(&house.base, token, None).await;
        for (command, permission) in COMMANDS {
            // Nothing is named, so that whoever is let in is told what is missing.
            let reply = desk.try_ask(command, json!({ "nothing": 1 })).await;
            let wanted = if asker.may.has(*permission) { "EML-1002" } else { "EML-2003" };
            assert_eq!(reply["problem"]["code"], wanted, "{} asks {command}: {reply}", asker.name);
        }
        let reply = desk.try_ask("no.such.command", json!({})).await;
        assert_eq!(reply["problem"]["code"], "EML-1003");
        desk.close().await;
    }
    house.close().await;
}

/// What a route does with things of others, for callers who may use it on their own.
enum Others {
    /// It refuses those who may not act for others.
    Refused,
    /// It is as if there was no such thing for them; tests below show it.
    Hidden,
    /// What is named belongs to nobody.
    Nobodys,
}

/// Every route below `own`, `calls:control` and `agents:control` that names a thing.
const OWNERS: &[(&str, &str, Others)] = &[
    ("DELETE", "/auth/sessions/{id}", Others::Hidden),
    ("POST", "/auth/oidc/{provider}/link", Others::Nobodys),
    ("DELETE", "/auth/identities/{id}", Others::Hidden),
    ("POST", "/calls/{id}/hold", Others::Refused),
    ("POST", "/calls/{id}/resume", Others::Refused),
    ("POST", "/calls/{id}/hangup", Others::Refused),
    ("POST", "/calls/{id}/disposition", Others::Refused),
    ("PUT", "/agents/{id}/activity", Others::Refused),
];

#[test]
fn every_route_that_names_a_thing_says_what_it_does_with_those_of_others() {
    let personal = [Permission::Own, Permission::CallsControl, Permission::AgentsControl];
    for (method, route, access) in ROUTES {
        let (Access::Needs(permission) | Access::NeedsOrChallenge(permission) | Access::Critical(permission)) =
            access
        else {
            continue;
        };
        if route.contains('{') && personal.contains(permission) {
            let known = OWNERS.iter().any(|(other, path, _)| other == method && path == route);
            assert!(known, "{method} {route} has no row in OWNERS");
        }
    }
    for (method, route, _) in OWNERS {
        assert!(ROUTES.iter().any(|(other, path, _)| other == method && path == route), "{method} {route}");
    }
}

/// Two agents with a call each, and a session each.
struct Floor {
    house: House,
    people: [(Holder, CallId); 2],
}

impl Floor {
    async fn open() -> Self {
        let (house, _fake) = House::with_fake().await;
        let mut people = Vec::new();
        for name in ["ann", "ben"] {
            let holder = house.agent(name).await;
            let (status, call) =
                house.request(Method::POST, "/calls/start", json!({ "to": "+12025550143" }), &holder).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{call}");
            people.push((holder, call["id"].as_str().unwrap().parse().unwrap()));
        }
        Self { house, people: people.try_into().unwrap() }
    }

    /// The thing of a route that belongs to one of the two.
    fn target(&self, route: &str, whose: usize) -> String {
        let (holder, call) = &self.people[whose];
        let agent: AgentId = holder.agent_id.unwrap();
        route.replace("{id}", &if route.starts_with("/calls") { call.to_string() } else { agent.to_string() })
    }
}

#[tokio::test]
async fn what_belongs_to_others_is_refused_to_those_who_may_not_act_for_them() {
    let floor = Floor::open().await;
    let supervisor = Holder { roles: roles(&["supervisor"]), agent_id: None, ..floor.house.admin() };
    let body = json!({ "activity": "break" });
    for (method, route, _) in OWNERS.iter().filter(|(_, _, others)| matches!(others, Others::Refused)) {
        let body = if route.contains("activity") { body.clone() } else { Value::Null };
        let asked = async |holder: &Holder, whose: usize| {
            let path = floor.target(route, whose);
            floor.house.request(method.parse().unwrap(), &path, body.clone(), holder).await
        };
        let (ann, _) = &floor.people[0];
        let may_not = ["EML-2003", "EML-3003"];
        let (_, answer) = asked(ann, 1).await;
        let is_refused = may_not.contains(&answer["code"].as_str().unwrap_or_default());
        assert!(is_refused, "{method} {route} of another: {answer}");
        for (who, whose) in [(ann, 0), (&supervisor, 0), (&supervisor, 1)] {
            let (_, answer) = asked(who, whose).await;
            let is_refused = may_not.contains(&answer["code"].as_str().unwrap_or_default());
            assert!(!is_refused, "{method} {route}: {answer}");
        }
    }
    floor.house.close().await;
}

#[tokio::test]
async fn agents_start_calls_for_themselves_alone() {
    let floor = Floor::open().await;
    let [(ann, _), (ben, _)] = &floor.people;
    let supervisor = Holder { roles: roles(&["supervisor"]), ..ann.clone() };
    for (who, agent_id, wanted) in [
        (ann, ben.agent_id, StatusCode::FORBIDDEN),
        (ann, ann.agent_id, StatusCode::ACCEPTED),
        (&supervisor, ben.agent_id, StatusCode::ACCEPTED),
    ] {
        let body = json!({ "to": "+12025550144", "agent_id": agent_id });
        let (status, answer) = floor.house.request(Method::POST, "/calls/start", body, who).await;
        assert_eq!(status, wanted, "{answer}");
    }
    floor.house.close().await;
}

#[tokio::test]
async fn sessions_of_others_are_hidden_from_all_but_those_who_change_users() {
    let house = House::bare(HouseSettings::default()).await;
    let other = UserId::fresh();
    let session = eml::domain::id::SessionId::fresh();
    let life = (Clock.now(), Millis::from_secs(60));
    let grant = eml::edge::auth::host_session(session, other, None, life).unwrap();
    house.node().engine.stores().grants.put(grant).await.unwrap();
    let list = format!("/auth/sessions?user_id={other}");
    let one = format!("/auth/sessions/{session}");
    for (role, listed, ended) in [
        ("agent", StatusCode::FORBIDDEN, StatusCode::NOT_FOUND),
        ("supervisor", StatusCode::FORBIDDEN, StatusCode::NOT_FOUND),
        ("service", StatusCode::FORBIDDEN, StatusCode::NOT_FOUND),
        ("admin", StatusCode::OK, StatusCode::NO_CONTENT),
    ] {
        let holder = Holder { roles: roles(&[role]), ..house.admin() };
        assert_eq!(house.request(Method::GET, &list, Value::Null, &holder).await.0, listed, "{role}");
        assert_eq!(house.request(Method::DELETE, &one, Value::Null, &holder).await.0, ended, "{role}");
    }
    house.close().await;
}

#[tokio::test]
async fn outside_identities_of_others_are_hidden_from_everybody() {
    let house = House::bare(HouseSettings::default()).await;
    let identity = json!({
        "user_id": UserId::fresh(), "provider": "acme", "issuer": "https://acme.example", "subject": "1",
        "made_user": false, "linked_at": Clock.now(),
    });
    let id = insert(&house, RecordKind::OutsideIdentity, "a hash", identity).await;
    let path = format!("/auth/identities/{id}");
    for role in RoleName::BUILT_IN {
        let holder = Holder { roles: roles(&[role]), ..house.admin() };
        let (status, answer) = house.request(Method::DELETE, &path, Value::Null, &holder).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{role}: {answer}");
        let (_, listed) = house.request(Method::GET, "/auth/identities", Value::Null, &holder).await;
        assert_eq!(listed["data"], json!([]), "{role}");
    }
    let left = house.node().engine.stores().records.by_id(RecordKind::OutsideIdentity, id).await;
    assert!(left.unwrap().is_some());
    house.close().await;
}
