//! The JSON API. Failures are problem documents (RFC 9457).
//!
//! It asks for no proof of who calls: whoever reaches it may write and delete. Pages of other
//! sites cannot, since browsers ask before they send JSON or a DELETE to another site, and nothing
//! here says yes.

use std::sync::Arc;

use serde::Serialize;
use wharf::{
    Error, IntoResponse, Json, Problem, Request, Response, Router, StatusCode, post, with,
};

use crate::draft::{Draft, Invalid, JSON_BYTES};
use crate::paging::Paging;
use crate::store::{Entry, Store};

pub(crate) fn routes(store: &Arc<Store>) -> Router {
    Router::new()
        .get("/entries", with(store, list))
        .route("/entries", post(with(store, create)).body_limit(JSON_BYTES))
        .get("/entries/{id}", with(store, show))
        .delete("/entries/{id}", with(store, delete))
        .fallback(|_| Problem::new(StatusCode::NOT_FOUND).with_detail("there is nothing here"))
        // What Wharf refuses by itself is a problem document here, too.
        .on_error(|_, response| match response.problem() {
            Some(problem) => response.reworded(problem),
            None => response,
        })
        // Entries change, so that nobody is to keep an answer.
        .after(|_, response| response.header("cache-control", "no-store"))
}

#[derive(Serialize)]
struct EntryList {
    entries: Vec<Entry>,
    /// The address of the entries that follow; null behind the last.
    next: Option<String>,
}

fn list(store: &Store, request: &Request) -> Result<Response, Error> {
    let Paging { before, limit } = Paging::of(request)?;
    let listing = store.list(before, limit)?;
    let next = listing.older_than.map(|id| format!("/api/entries?before={id}&limit={limit}"));
    Ok(Json(EntryList { entries: listing.entries, next }).into_response())
}

fn create(store: &Store, request: &Request) -> Result<Response, Error> {
    let new = Draft::from_json(request)?.check().map_err(|faults| unfit(&faults))?;
    let entry = store.add(&new)?;
    let location = format!("/api/entries/{}", entry.id);
    Ok((StatusCode::CREATED, [("location", location)], Json(entry)).into_response())
}

fn show(store: &Store, request: &Request) -> Result<Response, Error> {
    let entry = store.get(request.param("id")?)?;
    Ok(Json(entry.ok_or_else(no_entry)?).into_response())
}

fn delete(store: &Store, request: &Request) -> Result<Response, Error> {
    if store.delete(request.param("id")?)? { Ok(().into_response()) } else { Err(no_entry()) }
}

fn no_entry() -> Error {
    Error::request(StatusCode::NOT_FOUND, "there is no entry with this id")
}

/// Says of each field what is wrong with it.
fn unfit(faults: &[Invalid]) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
        .with_detail("the entry cannot be kept as it is")
        .with_member("errors", &faults)
}
