//! The REST side of conferences: participants held, muted, coached and removed; rooms ended.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::conference::{Room, Seat};
use super::rest::{Fields, NOT_FOUND, Refusal, recordings};
use super::switch::Switch;
use super::twiml::Link;

/// The paths below an account that concern conferences and recordings.
pub(super) fn routes() -> Router<Arc<Switch>> {
    Router::new()
        .route("/Conferences.json", get(list_rooms))
        .route("/Conferences/{room}", post(update_room).get(show_room))
        .route("/Conferences/{room}/Participants.json", get(list_seats))
        .route(
            "/Conferences/{room}/Participants/{call}",
            post(update_seat).get(show_seat).delete(remove_seat),
        )
        .merge(recordings())
}

fn plain(segment: &str) -> &str {
    segment.strip_suffix(".json").unwrap_or(segment)
}

fn room(switch: &Switch, segment: &str) -> Result<Arc<Room>, Refusal> {
    switch.rooms.find(plain(segment)).ok_or(NOT_FOUND)
}

fn seat(room: &Room, segment: &str) -> Result<Arc<Seat>, Refusal> {
    room.seat(plain(segment)).ok_or(NOT_FOUND)
}

/// The open room of a name; asked for without a name, none.
async fn list_rooms(State(switch): State<Arc<Switch>>, RawQuery(query): RawQuery) -> Json<Value> {
    let fields = Fields::read(query.unwrap_or_default().as_bytes());
    let named = fields.get("FriendlyName").and_then(|name| switch.rooms.find(name));
    let asked = |room: &Room| fields.get("Status").is_none_or(|status| status == room.status());
    let found: Vec<Value> =
        named.filter(|room| asked(room)).iter().map(|room| describe_room(&switch, room)).collect();
    Json(json!({ "conferences": found, "page": 0, "page_size": 50, "next_page_uri": null }))
}

async fn show_room(
    State(switch): State<Arc<Switch>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(describe_room(&switch, &*room(&switch, &name)?)))
}

async fn update_room(
    State(switch): State<Arc<Switch>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let room = room(&switch, &name)?;
    if Fields::read(&body).get("Status") == Some("completed") {
        switch.end_room_by_request(&room);
    }
    Ok(Json(describe_room(&switch, &room)))
}

async fn list_seats(
    State(switch): State<Arc<Switch>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let room = room(&switch, &name)?;
    let all: Vec<Value> = room.seats().iter().map(|seat| describe_seat(&switch, &room, seat)).collect();
    Ok(Json(json!({ "participants": all, "page": 0, "page_size": 50, "next_page_uri": null })))
}

async fn show_seat(
    State(switch): State<Arc<Switch>>,
    Path((name, call)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let room = room(&switch, &name)?;
    let seat = seat(&room, &call)?;
    Ok(Json(describe_seat(&switch, &room, &seat)))
}

async fn update_seat(
    State(switch): State<Arc<Switch>>,
    Path((name, call)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let room = room(&switch, &name)?;
    let seat = seat(&room, &call)?;
    let fields = Fields::read(&body);
    // Unlike everywhere else, hold music is asked for by GET unless the method says POST.
    let music = fields.link("HoldUrl", "HoldMethod")?.map(|link| Link {
        get: !fields.get("HoldMethod").is_some_and(|method| method.eq_ignore_ascii_case("post")),
        ..link
    });
    let coached = fields.get("CallSidToCoach").map(ToOwned::to_owned);
    switch.mark(&room, &seat, |marks| {
        marks.muted = fields.flag("Muted").unwrap_or(marks.muted);
        marks.ends = fields.flag("EndConferenceOnExit").unwrap_or(marks.ends);
        if let Some(held) = fields.flag("Hold") {
            marks.held = held;
            marks.hold_music = music.filter(|_| held);
        }
        match fields.flag("Coaching") {
            Some(false) => marks.coaching = None,
            Some(true) | None => marks.coaching = coached.or_else(|| marks.coaching.take()),
        }
    });
    Ok(Json(describe_seat(&switch, &room, &seat)))
}

async fn remove_seat(
    State(switch): State<Arc<Switch>>,
    Path((name, call)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let room = room(&switch, &name)?;
    let seat = seat(&room, &call)?;
    switch.leave_room(&room, &seat, "participant_updated_via_api");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn describe_room(switch: &Switch, room: &Room) -> Value {
    let account = &switch.settings.account_sid;
    json!({
        "sid": room.sid,
        "account_sid": account,
        "friendly_name": room.name,
        "status": room.status(),
        "api_version": "2010-04-01",
        "uri": format!("/2010-04-01/Accounts/{account}/Conferences/{}.json", room.sid),
    })
}

fn describe_seat(switch: &Switch, room: &Room, seat: &Seat) -> Value {
    let account = &switch.settings.account_sid;
    let path = format!("/2010-04-01/Accounts/{account}/Conferences/{}/Participants", room.sid);
    let marks = seat.marks().clone();
    json!({
        "account_sid": account,
        "call_sid": seat.leg.sid,
        "conference_sid": room.sid,
        "label": seat.label,
        "muted": marks.muted,
        "hold": marks.held,
        "coaching": marks.coaching.is_some(),
        "call_sid_to_coach": marks.coaching,
        "end_conference_on_exit": marks.ends,
        "status": "connected",
        "uri": format!("{path}/{}.json", seat.leg.sid),
    })
}
