//! What a handler may return.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderName, StatusCode};

use crate::{Error, Response};

/// What can be answered with.
///
/// Texts are `text/plain; charset=utf-8`, bytes `application/octet-stream`, a status alone has no
/// body, `None` is `404 Not Found`, and of a `Result` each side answers for itself. A tuple of a
/// status and an answer gives that answer the status; one with an array of fields adds these.
///
/// ```
/// use wharf::{IntoResponse, StatusCode};
///
/// let response = (StatusCode::CREATED, [("location", "/orders/7")], "stored").into_response();
/// assert_eq!(response.status(), StatusCode::CREATED);
/// assert_eq!(None::<String>.into_response().status(), StatusCode::NOT_FOUND);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a handler can answer with",
    label = "a handler returns a text, bytes, a status, a `Response`, an `Option` or `Result` of \
             these, or a tuple with a status",
    note = "implement `wharf::IntoResponse` for `{Self}`, or turn it into a `wharf::Response`"
)]
pub trait IntoResponse {
    /// The answer.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(StatusCode::NO_CONTENT)
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for Cow<'static, str> {
    fn into_response(self) -> Response {
        match self {
            Cow::Borrowed(text) => text.into_response(),
            Cow::Owned(text) => text.into_response(),
        }
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        Response::new(StatusCode::OK).or_field(header::CONTENT_TYPE, OCTETS).body(self)
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Bytes::from(self).into_response()
    }
}

impl IntoResponse for &'static [u8] {
    fn into_response(self) -> Response {
        Bytes::from_static(self).into_response()
    }
}

impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        match self {
            Some(answer) => answer.into_response(),
            None => Response::message(StatusCode::NOT_FOUND, "Not Found\n"),
        }
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(answer) => answer.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

impl<T: IntoResponse, N, V, const COUNT: usize> IntoResponse for (StatusCode, [(N, V); COUNT], T)
where
    N: TryInto<HeaderName, Error: Into<crate::response::InvalidHeader>>,
    V: TryInto<HeaderValue, Error: Into<crate::response::InvalidHeader>>,
{
    fn into_response(self) -> Response {
        let (status, fields, answer) = self;
        fields
            .into_iter()
            .fold(answer.into_response(), |response, (name, value)| response.header(name, value))
            .with_status(status)
    }
}

/// The request's fault is told to the client; any other error is logged, and the client learns
/// only that there was one.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if self.is_request() {
            return Response::message(self.status(), format!("{self}\n"));
        }
        tracing::error!("{self}");
        Response::message(self.status(), "Internal Server Error\n")
    }
}
