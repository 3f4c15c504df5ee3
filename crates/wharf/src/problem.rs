//! Problem details (RFC 9457): what went wrong, said to programs and to people.
//!
//! A [`Problem`] is data until the request that it answers is known: then it becomes a JSON document
//! or a line of text. Nothing here knows of routes or connections.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write};

use http::StatusCode;
use http::header::{self, HeaderValue};
use wharf_http::{negotiate, status_reason};

use crate::fields::Known;
use crate::hooks::RequestId;
use crate::response::Wording;
use crate::{IntoResponse, Request, Response};

/// What went wrong, as a client is told it: problem details by RFC 9457.
///
/// It is sent as `application/problem+json`, or as a line of text to a client that prefers text or a
/// page, as browsers do. Nothing belongs into it that the client must not see.
///
/// ```
/// use wharf::{Problem, Request, Response, StatusCode};
///
/// fn pay(_: &Request) -> Result<Response, Problem> {
///     Err(Problem::new(StatusCode::CONFLICT)
///         .with_type("https://shop.example/problems/paid-already")
///         .with_title("Paid already")
///         .with_detail("This order was paid on 1 May."))
/// }
/// # let _ = pay;
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Problem(Box<Details>);

/// Apart, so that a problem is cheap to hand on.
#[derive(Clone, PartialEq, Eq)]
struct Details {
    status: StatusCode,
    type_uri: Option<Cow<'static, str>>,
    title: Option<Cow<'static, str>>,
    detail: Option<Cow<'static, str>>,
    instance: Option<Cow<'static, str>>,
    /// Further members: their names, and their values as JSON.
    members: Vec<(Cow<'static, str>, String)>,
    /// For the log alone.
    cause: Cause,
}

/// The members that RFC 9457 section 3.1 defines.
#[cfg(feature = "json")]
const DEFINED: [&str; 5] = ["type", "title", "status", "detail", "instance"];
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl Problem {
    /// A problem of which only the status is known. Its title is what the status is called.
    pub fn new(status: StatusCode) -> Problem {
        Problem(Box::new(Details {
            status,
            type_uri: None,
            title: None,
            detail: None,
            instance: None,
            members: Vec::new(),
            cause: Cause(None),
        }))
    }

    /// Names the kind of problem by a URI, which need not lead anywhere (RFC 9457 section 3.1.1).
    /// Without it the kind is what the status says.
    pub fn with_type(mut self, uri: impl Into<Cow<'static, str>>) -> Problem {
        self.0.type_uri = Some(uri.into());
        self
    }

    /// What this kind of problem is called, for people: the same for every occurrence.
    pub fn with_title(mut self, title: impl Into<Cow<'static, str>>) -> Problem {
        self.0.title = Some(title.into());
        self
    }

    /// What went wrong this time, for people, and what the client can do about it.
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Problem {
        self.0.detail = Some(detail.into());
        self
    }

    /// A URI for this occurrence, for support to find it by (RFC 9457 section 3.1.5).
    pub fn with_instance(mut self, uri: impl Into<Cow<'static, str>>) -> Problem {
        self.0.instance = Some(uri.into());
        self
    }

    /// Adds a member for programs (RFC 9457 section 3.2): which fields were at fault, say. One that
    /// the standard defines, or that does not serialise, is left out, and the log says so.
    ///
    /// ```
    /// use wharf::{Problem, StatusCode};
    ///
    /// let problem = Problem::new(StatusCode::CONFLICT).with_member("balance", &30);
    /// assert_eq!(problem.to_json(), r#"{"title":"Conflict","status":409,"balance":30}"#);
    /// ```
    #[cfg(feature = "json")]
    pub fn with_member(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: &impl serde_core::Serialize,
    ) -> Problem {
        let name = name.into();
        if DEFINED.contains(&&*name) {
            tracing::error!("a problem's member {name:?} is one that RFC 9457 defines");
            return self;
        }
        match serde_json::to_string(value) {
            Ok(json) => self.0.members.push((name, json)),
            Err(error) => tracing::error!("a problem's member {name:?} has no JSON: {error}"),
        }
        self
    }

    /// Adds a text for programs.
    #[cfg(any(feature = "json", feature = "form"))]
    pub(crate) fn with_text(mut self, name: &'static str, text: &str) -> Problem {
        let mut json = String::new();
        write_string(&mut json, text);
        self.0.members.push((name.into(), json));
        self
    }

    /// The same problem, of which the log is told the cause.
    pub(crate) fn because_of(mut self, error: &(dyn StdError + 'static)) -> Problem {
        self.0.cause = Cause::of(self.0.status, error);
        self
    }

    /// Tells the log the cause, if it is not told yet.
    #[cold]
    pub(crate) fn tell_cause(&mut self, request: &Request) {
        self.0.cause.tell(Some(request));
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The URI of its kind, if it has one.
    pub fn type_uri(&self) -> Option<&str> {
        self.0.type_uri.as_deref()
    }

    /// What it is called: its own title, or else what its status is called.
    pub fn title(&self) -> &str {
        match &self.0.title {
            Some(title) => title,
            None => status_reason(self.0.status.as_u16()).unwrap_or("Unknown"),
        }
    }

    /// What went wrong this time, if that was said.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The JSON document (RFC 9457 section 3).
    pub fn to_json(&self) -> String {
        let mut json = String::from("{");
        let texts = [
            ("type", self.type_uri()),
            ("title", Some(self.title())),
            ("detail", self.detail()),
            ("instance", self.0.instance.as_deref()),
        ];
        for (name, text) in texts {
            let Some(text) = text else { continue };
            write_string(&mut json, name);
            json.push(':');
            write_string(&mut json, text);
            json.push(',');
            if name == "title" {
                // Writing to a string does not fail.
                let _ = write!(json, "\"status\":{},", self.0.status.as_u16());
            }
        }
        for (name, value) in &self.0.members {
            write_string(&mut json, name);
            json.push(':');
            json.push_str(value);
            json.push(',');
        }
        json.pop();
        json.push('}');
        json
    }

    fn to_text(&self) -> String {
        format!("{}\n", self.detail().unwrap_or(self.title()))
    }

    fn as_json_response(&self) -> Response {
        Response::new(self.0.status).header(header::CONTENT_TYPE, PROBLEM_JSON).body(self.to_json())
    }
}

/// A JSON string (RFC 8259 section 7).
fn write_string(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            control if control < ' ' => {
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())?;
        match &self.0.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.as_json_response().worded(Wording::Problem).telling(self)
    }
}

/// An error that knows what to tell the client.
///
/// A handler may return such an error itself, or turn it into a [`wharf::Error`](crate::Error) with
/// `?`. Either way the client sees the [`Problem`] alone. The error and its causes are logged, with
/// the request's method and path: as an error when the status is the server's fault (5xx), else for
/// debugging.
///
/// ```
/// use std::fmt;
/// use wharf::{Error, Problem, Request, StatusCode, ToProblem};
///
/// #[derive(Debug)]
/// enum ShopError {
///     SoldOut,
///     Database(std::io::Error),
/// }
///
/// impl ToProblem for ShopError {
///     fn to_problem(&self) -> Problem {
///         match self {
///             ShopError::SoldOut => {
///                 Problem::new(StatusCode::CONFLICT).with_detail("There are none left.")
///             }
///             ShopError::Database(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR),
///         }
///     }
/// }
///
/// // By hand here; the crate thiserror writes these.
/// impl std::error::Error for ShopError {}
/// impl fmt::Display for ShopError {
///     fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
///         match self {
///             ShopError::SoldOut => f.write_str("sold out"),
///             ShopError::Database(error) => write!(f, "the database: {error}"),
///         }
///     }
/// }
///
/// fn reserve(_id: u64) -> Result<(), ShopError> {
///     Err(ShopError::SoldOut)
/// }
///
/// fn buy(request: &Request) -> Result<&'static str, Error> {
///     reserve(request.param("id")?)?;
///     Ok("It is yours.\n")
/// }
/// # let _ = (buy, ShopError::Database);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what the client is told",
    label = "for this to become a `wharf::Error`, it has to implement `wharf::ToProblem`",
    note = "where the client is to be told nothing of it, `.map_err(wharf::Error::internal)` does"
)]
pub trait ToProblem: StdError + Send + Sync + 'static {
    /// What the client is told.
    fn to_problem(&self) -> Problem;
}

impl<E: ToProblem> IntoResponse for E {
    fn into_response(self) -> Response {
        self.to_problem().because_of(&self).into_response()
    }
}

/// What the log is told of an error: once, with the request, as soon as that is known; else when
/// the answer has become another one.
struct Cause(Option<(StatusCode, String)>);

impl Cause {
    /// The error with its own causes, unless nobody would read it.
    fn of(status: StatusCode, error: &(dyn StdError + 'static)) -> Cause {
        let is_read = match status.is_server_error() {
            true => tracing::enabled!(tracing::Level::ERROR),
            false => tracing::enabled!(tracing::Level::DEBUG),
        };
        Cause(is_read.then(|| (status, with_causes(error))))
    }

    fn tell(&mut self, request: Option<&Request>) {
        let Some((status, text)) = self.0.take() else { return };
        let method = request.map(|request| request.method().as_str());
        let path = request.map(Request::path);
        let id = request.and_then(|request| request.extensions().get()).map(RequestId::as_str);
        if status.is_server_error() {
            tracing::error!(method, path, id, "{text}");
        } else {
            tracing::debug!(method, path, id, "answered with {status}: {text}");
        }
    }
}

impl Drop for Cause {
    fn drop(&mut self) {
        self.tell(None);
    }
}

/// It is told by the original.
impl Clone for Cause {
    fn clone(&self) -> Cause {
        Cause(None)
    }
}

/// No part of what the client is told.
impl PartialEq for Cause {
    fn eq(&self, _: &Cause) -> bool {
        true
    }
}

impl Eq for Cause {}

fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        // Some errors say their cause themselves.
        if !text.ends_with(&next_text) {
            let _ = write!(text, ": {next_text}");
        }
        cause = next.source();
    }
    text
}

/// Words what went wrong as the client of `request` understands it. What a handler has worded itself
/// stays as it is, and so does what is worded already.
#[cold]
pub(crate) fn word(mut response: Response, request: Option<&Request>) -> Response {
    let accept = || request.into_iter().flat_map(|request| request.header_all("accept"));
    const JSON: [&str; 2] = ["application/problem+json", "application/json"];
    // A page is what a person wants to see, and a line of text is nearest to it.
    const FOR_PEOPLE: [&str; 2] = ["text/html", "text/plain"];
    let wording = response.wording();
    match (wording, response.problem()) {
        (Wording::Problem, Some(problem)) => {
            let offers = [JSON[0], JSON[1], FOR_PEOPLE[0], FOR_PEOPLE[1]];
            if negotiate(accept, &offers).is_some_and(|offer| offer >= 2) {
                response = response.typed(Known::Text).body(problem.to_text());
            }
            response = response.telling(problem);
        }
        (Wording::Own, Some(problem)) => {
            let offers = [FOR_PEOPLE[0], FOR_PEOPLE[1], JSON[0], JSON[1]];
            if negotiate(accept, &offers).is_some_and(|offer| offer >= 2) {
                let json = problem.to_json();
                response = response.header(header::CONTENT_TYPE, PROBLEM_JSON).body(json);
                response = response.telling(problem);
            }
        }
        _ => return response,
    }
    let response = response.worded(Wording::Done);
    response.header(header::VARY, HeaderValue::from_static("accept"))
}

/// The problem that an answer of Wharf's own tells in a line of text.
pub(crate) fn own_problem(response: &Response) -> Problem {
    let problem = Problem::new(response.status());
    let text = String::from_utf8_lossy(response.body_bytes().map_or(&[], |body| &**body))
        .trim_end()
        .to_owned();
    if text.is_empty() || text == problem.title() { problem } else { problem.with_detail(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_what_is_known_and_is_json_whatever_the_text() {
        let problem = Problem::new(StatusCode::NOT_FOUND);
        assert_eq!(problem.to_json(), r#"{"title":"Not Found","status":404}"#);
        let problem = problem
            .with_type("https://a.example/\"x\"")
            .with_title("a\\b\u{1}\n")
            .with_detail("\u{fc}\u{2028}\u{7f}")
            .with_instance("/log/7");
        let json = problem.to_json();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["type"], "https://a.example/\"x\"");
        assert_eq!(value["title"], "a\\b\u{1}\n");
        assert_eq!(value["status"], 404);
        assert_eq!(value["detail"], "\u{fc}\u{2028}\u{7f}");
        assert_eq!(value["instance"], "/log/7");
        assert_eq!(value.as_object().unwrap().len(), 5);
    }

    #[cfg(feature = "json")]
    #[test]
    fn members_are_added_but_not_in_place_of_the_standards() {
        let problem = Problem::new(StatusCode::CONFLICT)
            .with_member("fields", &["a", "b"])
            .with_member("status", &200);
        assert_eq!(problem.to_json(), r#"{"title":"Conflict","status":409,"fields":["a","b"]}"#);
    }

    #[test]
    fn what_is_worded_once_stays_and_can_be_asked_for() {
        let busy = Response::message(StatusCode::SERVICE_UNAVAILABLE, "Busy.\n");
        assert_eq!(busy.problem().unwrap().detail(), Some("Busy."));
        let busy = word(word(busy, None), None);
        assert_eq!(busy.body_bytes().unwrap(), "Busy.\n");
        let fields: Vec<_> = busy.headers().map(|(name, _)| name.as_str()).collect();
        assert_eq!(fields, ["content-type", "vary"]);
        assert_eq!(busy.problem().unwrap().detail(), Some("Busy."));
        let problem = Problem::new(StatusCode::CONFLICT).with_detail("Sold out.");
        let answer = word(problem.clone().into_response(), None);
        assert_eq!(answer.problem(), Some(problem));
        assert_eq!(answer.body("mine").problem(), None, "who gives another body words it");
        assert_eq!(Response::text("no problem").problem(), None);
    }
}
