//! What a handler may return.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::fields::Known;
use crate::response::InvalidHeader;

use crate::{Error, Response};

/// What can be answered with.
///
/// Texts are `text/plain; charset=utf-8`, bytes and open [files](std::fs::File)
/// `application/octet-stream`; a status alone has no body, `()` is `204 No Content`, `None` is `404
/// Not Found`, and of a `Result` each side answers for itself. [`Json`], [`Html`](crate::Html),
/// [`Redirect`](crate::Redirect) and [`Problem`](crate::Problem) are what they say. In a tuple, the
/// last part is answered; a status and [header fields](ResponseParts) may stand before it.
/// [`Response`] is what becomes of all of them, and has files, streams and events too.
///
/// ```
/// use wharf::{IntoResponse, StatusCode};
///
/// let response = (StatusCode::CREATED, [("location", "/orders/7")], "stored").into_response();
/// assert_eq!(response.status(), StatusCode::CREATED);
/// assert_eq!(None::<String>.into_response().status(), StatusCode::NOT_FOUND);
/// ```
///
/// A handler that does not name what it answers with has to say that this borrows nothing from the
/// request, which the compiler else assumes since the edition of 2024: by `+ use<>`.
///
/// ```
/// use wharf::{Error, IntoResponse, Request, Router};
///
/// fn find(request: &Request) -> Result<impl IntoResponse + use<>, Error> {
///     let name: String = request.param("name")?;
///     Ok(([("cache-control", "no-store")], name))
/// }
/// let router = Router::new().get("/find/{name}", find);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a handler can answer with",
    label = "a handler returns a text, bytes, a status, `Json`, `Html`, `Redirect`, a `Response`, an \
             `Option` or `Result` of these, or a tuple with a status and fields before one of these",
    note = "implement `wharf::IntoResponse` for `{Self}`, or turn it into a `wharf::Response`",
    note = "an error becomes a `wharf::Error` with `?` if it implements `wharf::ToProblem`, and with \
            `.map_err(wharf::Error::internal)` otherwise"
)]
pub trait IntoResponse {
    /// The answer.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    #[inline]
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
    #[inline]
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for String {
    #[inline]
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

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        Response::of_type(Known::Octets, self)
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

/// As `include_bytes!` gives them.
impl<const LENGTH: usize> IntoResponse for &'static [u8; LENGTH] {
    fn into_response(self) -> Response {
        self.as_slice().into_response()
    }
}

impl IntoResponse for Cow<'static, [u8]> {
    fn into_response(self) -> Response {
        match self {
            Cow::Borrowed(bytes) => bytes.into_response(),
            Cow::Owned(bytes) => bytes.into_response(),
        }
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

/// What may stand before an answer in a tuple, and adds to it: a status, header fields.
///
/// Fields are an array or a `Vec` of names and values, or a [`HeaderMap`]. They replace fields of the
/// same name that the answer has by itself, but for Set-Cookie and Vary, which are added.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something that can stand before an answer",
    label = "before an answer may stand a status and header fields",
    note = "header fields are `[(name, value)]`, a `Vec` of these, or a `HeaderMap`"
)]
pub trait ResponseParts {
    /// The answer with this added.
    fn add_to(self, response: Response) -> Response;
}

impl ResponseParts for StatusCode {
    fn add_to(self, response: Response) -> Response {
        response.with_status(self)
    }
}

impl<N, V, const COUNT: usize> ResponseParts for [(N, V); COUNT]
where
    N: TryInto<HeaderName, Error: Into<InvalidHeader>>,
    V: TryInto<HeaderValue, Error: Into<InvalidHeader>>,
{
    fn add_to(self, response: Response) -> Response {
        add_fields(self, response)
    }
}

impl<N, V> ResponseParts for Vec<(N, V)>
where
    N: TryInto<HeaderName, Error: Into<InvalidHeader>>,
    V: TryInto<HeaderValue, Error: Into<InvalidHeader>>,
{
    fn add_to(self, response: Response) -> Response {
        add_fields(self, response)
    }
}

impl ResponseParts for HeaderMap {
    fn add_to(self, response: Response) -> Response {
        let mut last = None;
        // A name comes with its first value alone.
        let fields = self.into_iter().filter_map(|(name, value)| {
            last = name.or_else(|| last.take());
            Some((last.clone()?, value))
        });
        add_fields(fields, response)
    }
}

fn add_fields<N, V>(fields: impl IntoIterator<Item = (N, V)>, mut response: Response) -> Response
where
    N: TryInto<HeaderName, Error: Into<InvalidHeader>>,
    V: TryInto<HeaderValue, Error: Into<InvalidHeader>>,
{
    let own = response.take_fields();
    fields
        .into_iter()
        .fold(response, |response, (name, value)| response.header(name, value))
        .with_fields_before(own)
}

macro_rules! tuples {
    ($($part:ident)*) => {
        impl<$($part: ResponseParts,)* T: IntoResponse> IntoResponse for ($($part,)* T,) {
            #[allow(non_snake_case, reason = "the parts are named by their types")]
            fn into_response(self) -> Response {
                let ($($part,)* answer,) = self;
                let response = answer.into_response();
                $(let response = $part.add_to(response);)*
                response
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);

/// A value as a JSON document. One that does not serialise (a map whose keys are no strings, say) is
/// answered with `500`, and logged.
///
/// ```
/// use serde::Serialize;
/// use wharf::{IntoResponse, Json};
///
/// #[derive(Serialize)]
/// struct Order {
///     id: u32,
/// }
///
/// let response = Json(Order { id: 7 }).into_response();
/// assert_eq!(response.body_bytes().unwrap(), r#"{"id":7}"#);
/// ```
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T: serde_core::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(document) => Response::json(document),
            Err(error) => Error::internal(error).into_response(),
        }
    }
}

/// What the client is told is the error's [problem](Error::problem); the error itself is logged.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.problem().because_of(&self).into_response()
    }
}

/// As [`Error`] is answered: a `wharf::Error` within is told to the client, anything else is `500`.
#[cfg(feature = "anyhow")]
impl IntoResponse for anyhow::Error {
    fn into_response(self) -> Response {
        Error::from(self).into_response()
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    fn fields(response: &Response) -> Vec<(&str, &str)> {
        response.headers().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn tuples_replace_what_the_answer_said_by_itself() {
        let answer = (StatusCode::CREATED, [("content-type", "text/css"), ("x", "1")], "a{}")
            .into_response();
        assert_eq!(answer.status(), 201);
        assert_eq!(fields(&answer), [("content-type", "text/css"), ("x", "1")]);
        let inner = ([("x", "inner")], "");
        let answer = ([("x", "1"), ("content-type", "text/css")], inner).into_response();
        assert_eq!(fields(&answer), [("x", "1"), ("content-type", "text/css")]);
        let inner = ([("set-cookie", "a=1"), ("vary", "accept"), ("x", "inner")], "");
        let answer = ([("x", "1"), ("x", "2"), ("set-cookie", "b=2"), ("vary", "cookie")], inner)
            .into_response();
        assert_eq!(
            fields(&answer)[1..],
            [
                ("set-cookie", "a=1"),
                ("vary", "accept"),
                ("x", "1"),
                ("x", "2"),
                ("set-cookie", "b=2"),
                ("vary", "cookie")
            ]
        );
    }

    #[test]
    fn bytes_may_be_had_in_every_form() {
        let forms = [
            include_bytes!("into_response.rs").into_response(),
            b"//"[..].into_response(),
            Cow::Borrowed(&b"//"[..]).into_response(),
            Cow::<[u8]>::Owned(b"//".to_vec()).into_response(),
            Bytes::from_static(b"//").into_response(),
            b"//".to_vec().into_response(),
        ];
        for form in forms {
            assert_eq!(fields(&form), [("content-type", "application/octet-stream")]);
            assert!(form.body_bytes().unwrap().starts_with(b"//"));
        }
    }

    #[test]
    fn tuples_take_fields_in_every_form() {
        let mut map = HeaderMap::new();
        map.append("x", HeaderValue::from_static("1"));
        map.append("x", HeaderValue::from_static("2"));
        let answer = (StatusCode::ACCEPTED, map, vec![(header::ETAG, "\"a\"")], ()).into_response();
        assert_eq!(answer.status(), 202);
        assert_eq!(fields(&answer), [("x", "1"), ("x", "2"), ("etag", "\"a\"")]);
        let split = ([("x", "a\r\nset-cookie: stolen")], "").into_response().checked();
        assert_eq!((split.status(), fields(&split)), (StatusCode::INTERNAL_SERVER_ERROR, vec![]));
    }

    #[cfg(feature = "json")]
    #[test]
    fn what_is_no_json_is_a_failure_of_the_handler() {
        let answer = Json(std::collections::BTreeMap::from([((1, 2), 3)])).into_response();
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.problem().unwrap().detail(), None);
        assert_eq!(Json([1, 2]).into_response().body_bytes().unwrap(), "[1,2]");
    }

    #[test]
    fn errors_tell_the_client_what_is_safe() {
        let secret = "the password is 1234";
        let answer = Error::internal(secret).into_response();
        assert_eq!(answer.status(), 500);
        let body = std::str::from_utf8(answer.body_bytes().unwrap()).unwrap();
        assert_eq!(body, r#"{"title":"Internal Server Error","status":500}"#);
        let answer = Error::request(StatusCode::CONFLICT, "taken").into_response();
        assert_eq!(answer.problem().unwrap().detail(), Some("taken"));
        let boxed: Box<dyn std::error::Error + Send + Sync> = secret.into();
        assert_eq!(Error::from(boxed).problem().detail(), None);
        let boxed: Box<dyn std::error::Error + Send + Sync> =
            Error::request(StatusCode::CONFLICT, "taken").into();
        assert_eq!(Error::from(boxed).status(), StatusCode::CONFLICT);
        let read = || std::io::Error::other(Error::request(StatusCode::CONFLICT, "taken"));
        assert_eq!(Error::from(read()).status(), StatusCode::CONFLICT);
        let boxed: Box<dyn std::error::Error + Send + Sync> = read().into();
        assert_eq!(Error::from(boxed).status(), StatusCode::CONFLICT);
    }

    #[cfg(feature = "anyhow")]
    #[test]
    fn anyhows_errors_keep_what_wharfs_said() {
        use anyhow::Context;
        let refused = || Err::<(), _>(Error::request(StatusCode::CONFLICT, "taken"));
        let handler = || -> anyhow::Result<()> { refused().context("while reserving") };
        assert_eq!(handler().into_response().status(), StatusCode::CONFLICT);
        let handler = || -> Result<(), Error> { Err(anyhow::anyhow!("the disk is full"))? };
        assert_eq!(handler().into_response().status(), StatusCode::INTERNAL_SERVER_ERROR);
        let answer = anyhow::anyhow!("the disk is full").into_response();
        assert_eq!(
            (answer.status(), answer.problem().unwrap().detail()),
            (StatusCode::INTERNAL_SERVER_ERROR, None)
        );
    }
}
