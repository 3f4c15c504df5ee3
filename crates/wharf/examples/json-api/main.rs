//! A JSON API for a list of tasks, kept in SQLite: typed requests, checks, pages, problem details.
//!
//! ```text
//! cargo run --release --example json-api       # or: json-api 127.0.0.1:8080 tasks.db
//! curl --json '{"title": "Oil the winch"}' http://127.0.0.1:8080/tasks
//! curl 'http://127.0.0.1:8080/tasks?done=false&limit=10'
//! curl -X PATCH --json '{"done": true}' http://127.0.0.1:8080/tasks/1
//! ```
//!
//! This file says what the API is, `tasks` keeps them. Handlers wait for SQLite; Wharf runs those
//! on its workers.

mod tasks;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf::{
    Error, IntoResponse, Json, Problem, Request, Response, Router, Server, StatusCode, ToProblem,
    with,
};

use crate::tasks::{Task, Tasks};

const TITLE_CHARS: usize = 200;
const MOST_LISTED: u32 = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let file = arguments.next().unwrap_or_else(|| "tasks.db".to_owned());
    let server = Server::bind(address.as_str())?;
    let router = routes(&Arc::new(Tasks::open(&file)?));
    Ok(server.on_start(|address| println!("listening on http://{address}")).serve(router)?)
}

fn routes(tasks: &Arc<Tasks>) -> Router {
    Router::new()
        .get("/tasks", with(tasks, list))
        .post("/tasks", with(tasks, create))
        .get("/tasks/{id}", with(tasks, show))
        .patch("/tasks/{id}", with(tasks, change))
        .delete("/tasks/{id}", with(tasks, delete))
        .body_limit(16 * 1024)
        .after(|_, response| response.header("cache-control", "no-store"))
}

#[derive(Deserialize)]
struct Page {
    /// The id of the last task that was seen.
    #[serde(default)]
    after: i64,
    #[serde(default = "twenty")]
    limit: u32,
    done: Option<bool>,
}

fn twenty() -> u32 {
    20
}

#[derive(Serialize)]
struct Listing {
    tasks: Vec<Task>,
    /// Where the list goes on; null at its end.
    next: Option<String>,
}

fn list(tasks: &Tasks, request: &Request) -> Result<Json<Listing>, Error> {
    let Page { after, limit, done } = request.query()?;
    if !(1..=MOST_LISTED).contains(&limit) {
        return Err(Invalid("limit", format!("is 1 to {MOST_LISTED}")).into());
    }
    // One more than is shown says whether there is more.
    let mut tasks = tasks.list(after, limit + 1, done).map_err(Error::internal)?;
    let has_more = tasks.len() > limit as usize;
    tasks.truncate(limit as usize);
    let last = tasks.last().filter(|_| has_more);
    let done = done.map_or(String::new(), |done| format!("&done={done}"));
    let next = last.map(|last| format!("/tasks?after={}&limit={limit}{done}", last.id));
    Ok(Json(Listing { tasks, next }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTask {
    title: String,
}

fn create(tasks: &Tasks, request: &Request) -> Result<Response, Error> {
    let new: NewTask = request.json()?;
    let task = tasks.add(checked(&new.title)?).map_err(Error::internal)?;
    let location = [("location", format!("/tasks/{}", task.id))];
    Ok((StatusCode::CREATED, location, Json(task)).into_response())
}

fn show(tasks: &Tasks, request: &Request) -> Result<Json<Task>, Error> {
    let id = request.param("id")?;
    Ok(Json(tasks.get(id).map_err(Error::internal)?.ok_or(NoTask(id))?))
}

/// What is left out stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    title: Option<String>,
    done: Option<bool>,
}

fn change(tasks: &Tasks, request: &Request) -> Result<Json<Task>, Error> {
    let (id, change): (_, Change) = (request.param("id")?, request.json()?);
    let title = change.title.as_deref().map(checked).transpose()?;
    let changed = tasks.change(id, title, change.done).map_err(Error::internal)?;
    Ok(Json(changed.ok_or(NoTask(id))?))
}

fn delete(tasks: &Tasks, request: &Request) -> Result<Response, Error> {
    let id = request.param("id")?;
    if !tasks.delete(id).map_err(Error::internal)? {
        return Err(NoTask(id).into());
    }
    Ok(Response::new(StatusCode::NO_CONTENT))
}

/// A title as it is kept.
fn checked(title: &str) -> Result<&str, Invalid> {
    let title = title.trim();
    if title.is_empty() {
        return Err(Invalid("title", "is empty".to_owned()));
    }
    if title.chars().count() > TITLE_CHARS {
        return Err(Invalid("title", format!("has more than {TITLE_CHARS} characters")));
    }
    Ok(title)
}

/// A field, and what is wrong with it.
#[derive(Debug)]
struct Invalid(&'static str, String);

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

impl ToProblem for Invalid {
    fn to_problem(&self) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .with_detail(self.to_string())
            .with_member("field", &self.0)
    }
}

/// There is no task with this id.
#[derive(Debug)]
struct NoTask(i64);

impl std::error::Error for NoTask {}

impl fmt::Display for NoTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no task {}", self.0)
    }
}

impl ToProblem for NoTask {
    fn to_problem(&self) -> Problem {
        Problem::new(StatusCode::NOT_FOUND).with_detail(self.to_string())
    }
}
