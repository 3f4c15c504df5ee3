//! The public error: what happened, where, and what to do.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use http::StatusCode;

use crate::{BodyError, Problem, ToProblem};

/// Why something that was asked of Wharf could not be done.
///
/// Returned when a server is bound, configured or started, and by the typed accessors of a
/// [`Request`](crate::Request). In the latter case the request is at fault: a handler that passes
/// the error on with `?` answers with its [status](Error::status) and message.
pub struct Error(Box<Inside>);

struct Inside {
    kind: Kind,
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// What the client is told; without one, the status and the message if the request is at fault.
    problem: Option<Box<Problem>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An address could not be listened on.
    Bind,
    /// A value or a route that cannot be.
    Configuration,
    /// The system refused something while starting or running.
    System,
    /// A handler failed; answered with 500.
    Handler,
    /// The request is at fault; answered with this status.
    Request(StatusCode),
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inside { kind, message: message.into(), source: None, problem: None }))
    }

    pub(crate) fn with_source(
        kind: Kind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let source = Some(source.into());
        Error(Box::new(Inside { kind, message: message.into(), source, problem: None }))
    }

    /// An error that a handler answers with `status` and `message`, for its own checks of a
    /// request.
    ///
    /// ```
    /// use wharf::{Error, StatusCode};
    ///
    /// let error = Error::request(StatusCode::BAD_REQUEST, "the name is empty");
    /// assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    /// assert_eq!(error.to_string(), "the name is empty");
    /// ```
    pub fn request(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::Request(status), message)
    }

    /// The request's fault as `problem` tells it, with the cause for the log.
    #[cfg(any(feature = "json", feature = "multipart"))]
    pub(crate) fn refused(
        problem: Problem,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let kind = Kind::Request(problem.status());
        let message = problem.to_string().into();
        let (source, problem) = (Some(source.into()), Some(Box::new(problem)));
        Error(Box::new(Inside { kind, message, source, problem }))
    }

    /// A handler's own failure: `source` is logged, and the client gets a `500` that tells nothing
    /// of it.
    ///
    /// ```
    /// use wharf::{Error, Request};
    ///
    /// fn motd(_: &Request) -> Result<String, Error> {
    ///     std::fs::read_to_string("/etc/motd").map_err(Error::internal)
    /// }
    /// # let _ = motd;
    /// ```
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::with_source(Kind::Handler, "a handler failed", source)
    }

    /// What a client is told: the status and the message if the request is at fault, what a
    /// [`ToProblem`] error says, and of anything else only that there was something.
    pub fn problem(&self) -> Problem {
        match (&self.0.problem, self.0.kind) {
            (Some(problem), _) => (**problem).clone(),
            (None, Kind::Request(status)) => {
                Problem::new(status).with_detail(self.0.message.clone())
            }
            (None, _) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// Whether an address could not be listened on, being in use or not this machine's.
    pub fn is_bind(&self) -> bool {
        self.0.kind == Kind::Bind
    }

    /// Whether a setting or a route is wrong.
    pub fn is_configuration(&self) -> bool {
        self.0.kind == Kind::Configuration
    }

    /// Whether the request is at fault.
    pub fn is_request(&self) -> bool {
        matches!(self.0.kind, Kind::Request(_))
    }

    /// The status that answers it: the request's fault has its own, and so has a [`ToProblem`] error;
    /// everything else is `500 Internal Server Error`.
    pub fn status(&self) -> StatusCode {
        match (&self.0.problem, self.0.kind) {
            (Some(problem), _) => problem.status(),
            (None, Kind::Request(status)) => status,
            (None, _) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

const UNREADABLE: &str = "the request's body could not be read";

/// A handler's own failure, as by [`Error::internal`]; or the request's fault, if it comes from
/// [reading](crate::BodyReader) the request's body. An `Error` within comes out again.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        let error = match error.downcast::<Error>() {
            Ok(error) => return error,
            Err(error) => error,
        };
        let body = error.get_ref().and_then(|inside| inside.downcast_ref::<BodyError>());
        match body {
            Some(&body) => Error::with_source(Kind::Request(body.status()), UNREADABLE, body),
            None => Error::internal(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// For `?` in handlers: the client is told what the error wants it to know.
impl<E: ToProblem> From<E> for Error {
    fn from(error: E) -> Error {
        let problem = error.to_problem();
        let status = problem.status();
        let kind = if status.is_server_error() { Kind::Handler } else { Kind::Request(status) };
        let message = problem.title().to_owned().into();
        let (source, problem) = (Some(error.into()), Some(Box::new(problem)));
        Error(Box::new(Inside { kind, message, source, problem }))
    }
}

/// For `?` in handlers that make their problems as they go.
impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        let message = problem.to_string().into();
        let kind = Kind::Request(problem.status());
        Error(Box::new(Inside { kind, message, source: None, problem: Some(Box::new(problem)) }))
    }
}

/// For `?` in handlers: a `wharf::Error` comes out again, also one of a body's reader; anything else
/// is [internal](Error::internal).
impl From<Box<dyn StdError + Send + Sync>> for Error {
    fn from(error: Box<dyn StdError + Send + Sync>) -> Error {
        let error = match error.downcast::<Error>() {
            Ok(error) => return *error,
            Err(error) => error,
        };
        error.downcast::<io::Error>().map_or_else(Error::internal, |error| Error::from(*error))
    }
}

/// For `?` in handlers: the client is told what a `wharf::Error` says, whatever context it was given,
/// and the log has the context too; anything else is [internal](Error::internal).
#[cfg(feature = "anyhow")]
impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Error {
        let is_bare = |error: &(dyn StdError + Send + Sync + 'static)| error.is::<Error>();
        if is_bare(error.as_ref()) {
            return error.downcast().unwrap_or_else(Error::internal);
        }
        let of_body = error.downcast_ref::<io::Error>().and_then(said_by);
        let said = error.downcast_ref::<Error>().map(|error| (error.0.kind, error.problem()));
        let Some((kind, problem)) = said.or(of_body) else { return Error::internal(error) };
        let message = problem.title().to_owned().into();
        let (source, problem) = (Some(error.into()), Some(Box::new(problem)));
        Error(Box::new(Inside { kind, message, source, problem }))
    }
}

/// What the client is told of an error that comes from reading the request's body.
#[cfg(feature = "anyhow")]
fn said_by(error: &io::Error) -> Option<(Kind, Problem)> {
    let inside = error.get_ref()?;
    if let Some(error) = inside.downcast_ref::<Error>() {
        return Some((error.0.kind, error.problem()));
    }
    let status = inside.downcast_ref::<BodyError>()?.status();
    Some((Kind::Request(status), Problem::new(status).with_detail(UNREADABLE)))
}
