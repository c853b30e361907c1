//! The controls under `/loopback/`: place calls, set telephones, read figures, cause trouble.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use serde_json::json;

use super::chaos::Chaos;
use super::leg::{LegView, Order};
use super::rest::{NOT_FOUND, Refusal, authenticate};
use super::settings::{CallPlan, NumberPlan, PhonePlan};
use super::stats::StatsView;
use super::switch::Switch;

/// The paths of the controls; JSON, with the account's Basic authentication.
pub(super) fn routes(switch: &Arc<Switch>) -> Router<Arc<Switch>> {
    let paths = Router::new()
        .route("/calls", post(place_call))
        .route("/calls/{call}", get(show_call))
        .route("/calls/{call}/hangup", post(hang_up))
        .route("/stats", get(show_stats))
        .route("/stats/reset", post(reset_stats))
        .route("/phones/{name}", put(set_phone))
        .route("/numbers", post(set_number))
        .route("/chaos", post(set_chaos).get(show_chaos))
        .layer(from_fn_with_state(Arc::clone(switch), authenticate));
    Router::new().nest("/loopback", paths)
}

async fn place_call(State(switch): State<Arc<Switch>>, Json(plan): Json<CallPlan>) -> Response {
    match switch.place(plan) {
        Ok(leg) => (StatusCode::CREATED, Json(json!({ "sid": leg.sid }))).into_response(),
        Err(_) => Refusal(StatusCode::BAD_REQUEST, 21211, "The number called is not one of this account")
            .into_response(),
    }
}

async fn show_call(
    State(switch): State<Arc<Switch>>,
    Path(call): Path<String>,
) -> Result<Json<LegView>, Refusal> {
    switch.leg(&call).map(|leg| Json(leg.view())).ok_or(NOT_FOUND)
}

async fn hang_up(State(switch): State<Arc<Switch>>, Path(call): Path<String>) -> Result<StatusCode, Refusal> {
    let leg = switch.leg(&call).ok_or(NOT_FOUND)?;
    let taken = leg.order(Order::HangUp);
    Ok(if taken { StatusCode::ACCEPTED } else { StatusCode::CONFLICT })
}

async fn show_stats(State(switch): State<Arc<Switch>>) -> Json<StatsView> {
    Json(switch.stats.view())
}

async fn reset_stats(State(switch): State<Arc<Switch>>) -> StatusCode {
    switch.stats.reset();
    StatusCode::NO_CONTENT
}

async fn set_phone(
    State(switch): State<Arc<Switch>>,
    Path(name): Path<String>,
    Json(plan): Json<PhonePlan>,
) -> StatusCode {
    switch.set_phone(&name, plan);
    StatusCode::NO_CONTENT
}

async fn set_number(State(switch): State<Arc<Switch>>, Json(plan): Json<NumberPlan>) -> StatusCode {
    switch.set_number(plan);
    StatusCode::NO_CONTENT
}

async fn set_chaos(State(switch): State<Arc<Switch>>, Json(chaos): Json<Chaos>) -> StatusCode {
    switch.mischief.replace(chaos);
    StatusCode::NO_CONTENT
}

async fn show_chaos(State(switch): State<Arc<Switch>>) -> Json<Chaos> {
    Json(switch.mischief.settings())
}
