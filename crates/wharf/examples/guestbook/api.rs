//! The JSON API. Failures are problem documents (RFC 9457).
//!
//! It asks for no proof of who calls: whoever reaches it may write and delete. Pages of other
//! sites cannot, since browsers ask before they send JSON or a DELETE to another site, and nothing
//! here says yes.

use std::sync::Arc;

use serde::Serialize;
use wharf::{Request, Response, Router, StatusCode};

use crate::draft::{Draft, Invalid};
use crate::failure::Failure;
use crate::paging::Paging;
use crate::store::{Entry, Store};

type Handler = fn(&Store, &Request) -> Result<Response, Failure>;

pub(crate) fn routes(store: &Arc<Store>) -> Router {
    let with_store = |handler: Handler| {
        let store = store.clone();
        move |request: &Request| handler(&store, request).unwrap_or_else(problem)
    };
    Router::new()
        .get("/entries", with_store(list))
        .post("/entries", with_store(create))
        .get("/entries/{id}", with_store(show))
        .delete("/entries/{id}", with_store(delete))
        .fallback(|_| problem(Failure::new(StatusCode::NOT_FOUND, "there is nothing here")))
}

#[derive(Serialize)]
struct EntryList {
    entries: Vec<Entry>,
    /// The address of the entries that follow; null behind the last.
    next: Option<String>,
}

fn list(store: &Store, request: &Request) -> Result<Response, Failure> {
    let Paging { before, limit } = Paging::of(request)?;
    let listing = store.list(before, limit)?;
    let next = listing.older_than.map(|id| format!("/api/entries?before={id}&limit={limit}"));
    Ok(document(&EntryList { entries: listing.entries, next }))
}

fn create(store: &Store, request: &Request) -> Result<Response, Failure> {
    let new = Draft::from_json(request)?.check()?;
    let entry = store.add(&new)?;
    let location = format!("/api/entries/{}", entry.id);
    Ok(document(&entry).with_status(StatusCode::CREATED).header("location", location))
}

fn show(store: &Store, request: &Request) -> Result<Response, Failure> {
    let entry = store.get(request.param("id")?)?;
    entry.map(|entry| document(&entry)).ok_or_else(no_entry)
}

fn delete(store: &Store, request: &Request) -> Result<Response, Failure> {
    if store.delete(request.param("id")?)? {
        Ok(Response::new(StatusCode::NO_CONTENT))
    } else {
        Err(no_entry())
    }
}

fn no_entry() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "there is no entry with this id")
}

/// Entries change, so that nobody is to keep an answer.
fn document(value: &impl Serialize) -> Response {
    // Strings and numbers always serialise.
    let text = serde_json::to_vec(value).expect("plain data");
    Response::json(text).header("cache-control", "no-store")
}

/// A problem document of the plain kind: `title` says what the status says, `detail` what went
/// wrong here, and `errors` which fields were at fault.
#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Invalid],
}

fn problem(failure: Failure) -> Response {
    let Failure { status, detail, invalid } = failure;
    let title = status.canonical_reason().unwrap_or_default();
    let problem = Problem { title, status: status.as_u16(), detail: &detail, errors: &invalid };
    let text = serde_json::to_vec(&problem).expect("plain data");
    Response::new(status)
        .header("content-type", "application/problem+json")
        .header("cache-control", "no-store")
        .body(text)
}
