//! Bodies and queries as the values they stand for.
//!
//! Values borrow what they can from the bytes as they were received. What does not fit is refused
//! with a [`Problem`] that says where, and repeats nothing of what was sent but names of fields:
//! a body may hold secrets, and problems end up in logs and on screens.

use std::str::from_utf8;

use http::StatusCode;
#[cfg(any(feature = "json", feature = "form"))]
use serde_core::Deserialize;
use wharf_http::Media;

#[cfg(any(feature = "json", feature = "form"))]
use crate::Problem;
use crate::{Error, Request};

impl Request {
    /// Which of these media types the client likes best (RFC 9110 section 12.5.1): the one of the
    /// highest quality in Accept, and of several the first. None: it wants none of them, which a
    /// handler may answer with `406 Not Acceptable`, or disregard. A client that states no
    /// preference gets the first.
    ///
    /// ```
    /// use wharf::{Html, IntoResponse, Request, Response};
    ///
    /// fn order(request: &Request) -> Response {
    ///     let response = match request.accepts(&["text/html", "application/json"]) {
    ///         Some("application/json") => Response::json(r#"{"id":7}"#),
    ///         _ => Html("<p>Order 7").into_response(),
    ///     };
    ///     response.header("vary", "accept")
    /// }
    /// # let _ = order;
    /// ```
    pub fn accepts<'o>(&self, offers: &[&'o str]) -> Option<&'o str> {
        wharf_http::negotiate(|| self.header_all("accept"), offers).map(|index| offers[index])
    }

    /// The body as a text in UTF-8, whatever its media type.
    ///
    /// # Errors
    /// `415` if Content-Type names another charset, `400` if the body is not UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        let media = Media::of(self.header("content-type").unwrap_or_default());
        let is_utf8 = |charset: &str| {
            charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
        };
        if !media.parameter("charset").is_none_or(is_utf8) {
            let detail = "The body has to be in UTF-8.";
            return Err(Error::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        from_utf8(self.whole_body()?).map_err(|error| {
            let detail = format!("The body is not UTF-8 behind byte {}.", error.valid_up_to());
            Error::request(StatusCode::BAD_REQUEST, detail)
        })
    }

    /// The body as the value that its JSON stands for (RFC 8259). The value may borrow: a `&str` or
    /// a `Cow<str>` marked with `#[serde(borrow)]` lies in the bytes as they were received, unless
    /// the string has escapes, which a `&str` does not admit.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use wharf::{Error, Request};
    ///
    /// #[derive(Deserialize)]
    /// struct Order<'r> {
    ///     article: &'r str,
    ///     count: u32,
    /// }
    ///
    /// fn order(request: &Request) -> Result<String, Error> {
    ///     let order: Order = request.json()?;
    ///     Ok(format!("{} times {}\n", order.count, order.article))
    /// }
    /// # let _ = order;
    /// ```
    ///
    /// # Errors
    /// `415` if Content-Type is neither `application/json` nor ends in `+json`; `400` with line and
    /// column if the body is not JSON; `422` with the path of the field if its shape is another.
    #[cfg(feature = "json")]
    pub fn json<'r, T: Deserialize<'r>>(&'r self) -> Result<T, Error> {
        self.expect_media("application/json", |media| {
            let has_suffix = media.sub.len() > 5
                && media
                    .sub
                    .get(media.sub.len() - 5..)
                    .is_some_and(|end| end.eq_ignore_ascii_case("+json"));
            media.is("application", "json") || has_suffix
        })?;
        let mut json = serde_json::Deserializer::from_slice(self.whole_body()?);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            if error.inner().is_data() {
                let inner = error.inner();
                let at = format!(", line {}, column {}", inner.line(), inner.column());
                wrong_shape(StatusCode::UNPROCESSABLE_ENTITY, "body", &at, error)
            } else {
                not_json(error.into_inner())
            }
        })?;
        json.end().map_err(not_json)?;
        Ok(value)
    }

    /// The body as the value that a posted form stands for (`application/x-www-form-urlencoded`).
    /// A field that comes several times fills a `Vec`. The value may borrow, as that of
    /// [`json`](Request::json); what had escapes needs a `Cow<str>` or a `String`.
    ///
    /// # Errors
    /// `415` if Content-Type is another, `400` if escapes are not UTF-8, `422` with the name of the
    /// field if its shape is another.
    #[cfg(feature = "form")]
    pub fn form<'r, T: Deserialize<'r>>(&'r self) -> Result<T, Error> {
        self.expect_media("application/x-www-form-urlencoded", |media| {
            media.is("application", "x-www-form-urlencoded")
        })?;
        urlencoded(self.whole_body()?, StatusCode::UNPROCESSABLE_ENTITY, "form")
    }

    /// The query as the value that it stands for, which is read like a [form](Request::form).
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use serde::Deserialize;
    /// use wharf::{Error, Request};
    ///
    /// #[derive(Deserialize)]
    /// struct Search<'r> {
    ///     #[serde(borrow, default)]
    ///     words: Cow<'r, str>,
    ///     page: Option<u32>,
    /// }
    ///
    /// fn search(request: &Request) -> Result<String, Error> {
    ///     let Search { words, page } = request.query()?;
    ///     Ok(format!("page {} of all with {words}\n", page.unwrap_or(1)))
    /// }
    /// # let _ = search;
    /// ```
    ///
    /// # Errors
    /// `400` with the name of the parameter if its shape is another, or if escapes are not UTF-8.
    #[cfg(feature = "form")]
    pub fn query<'r, T: Deserialize<'r>>(&'r self) -> Result<T, Error> {
        urlencoded(self.query_string().as_bytes(), StatusCode::BAD_REQUEST, "query")
    }

    /// The body, unless it is still to come, and then the handler asks for the wrong thing.
    fn whole_body(&self) -> Result<&[u8], Error> {
        if self.inflow.is_some() {
            let message = "the route is streaming: its body is read by `Request::reader` alone";
            return Err(Error::new(crate::error::Kind::Configuration, message));
        }
        Ok(self.body())
    }

    /// Refuses a body of another media type, or of none (RFC 9110 section 15.5.16).
    #[cfg(any(feature = "json", feature = "form"))]
    pub(crate) fn expect_media(
        &self,
        expected: &str,
        is_fit: impl Fn(&Media) -> bool,
    ) -> Result<(), Error> {
        if is_fit(&Media::of(self.header("content-type").unwrap_or_default())) {
            return Ok(());
        }
        let detail = format!("The body has to be {expected}, and Content-Type has to say so.");
        Err(Error::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
    }
}

/// Syntax errors of `serde_json` are fixed sentences with a position.
#[cfg(feature = "json")]
fn not_json(error: serde_json::Error) -> Error {
    let detail = format!("The body is not JSON: {error}.");
    Error::refused(Problem::new(StatusCode::BAD_REQUEST).with_detail(detail), error)
}

#[cfg(feature = "form")]
fn urlencoded<'r, T: Deserialize<'r>>(
    bytes: &'r [u8],
    wrong_shape_status: StatusCode,
    place: &'static str,
) -> Result<T, Error> {
    let is_plain = bytes.is_ascii() && !bytes.contains(&b'%');
    // Separators are ASCII, so that the values are UTF-8 if the whole is.
    if !is_plain && percent_encoding::percent_decode(bytes).decode_utf8().is_err() {
        let detail = format!("The {place} has escapes that are not UTF-8.");
        return Err(Error::request(StatusCode::BAD_REQUEST, detail));
    }
    let deserializer = serde_html_form::Deserializer::from_bytes(bytes);
    serde_path_to_error::deserialize(deserializer)
        .map_err(|error| wrong_shape(wrong_shape_status, place, "", error))
}

/// Says which field is wrong and what was expected, and nothing of what was sent.
#[cfg(any(feature = "json", feature = "form"))]
fn wrong_shape<E: std::error::Error>(
    status: StatusCode,
    place: &str,
    at: &str,
    error: serde_path_to_error::Error<E>,
) -> Error {
    let path = path_of(error.path());
    let reason = reason_of(&error.inner().to_string());
    let place = match path.as_str() {
        "" => format!("The {place}"),
        path => format!("The {place}'s field {path}"),
    };
    let mut problem =
        Problem::new(status).with_detail(format!("{place} is not as it has to be: {reason}{at}."));
    if !path.is_empty() {
        problem = problem.with_text("field", &path);
    }
    // Not with serde's error, which may say what was found.
    problem.into()
}

/// `orders[3].article`. Names that are none, but content, show as `?`.
#[cfg(any(feature = "json", feature = "form"))]
fn path_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    use std::fmt::Write;

    let is_name = |text: &str| {
        text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-$.".contains(c))
    };
    let mut text = String::new();
    for segment in path {
        let name = match segment {
            Segment::Seq { index } => {
                // Writing to a string does not fail.
                let _ = write!(text, "[{index}]");
                continue;
            }
            Segment::Map { key } if is_name(key) => key,
            Segment::Enum { variant } if is_name(variant) => variant,
            _ => "?",
        };
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(name);
    }
    if text.chars().all(|c| c == '?') { String::new() } else { text }
}

/// What may be told of serde's message. Its own sentences first say what was found, which is
/// content, then what was expected; those of other types may say anything.
#[cfg(any(feature = "json", feature = "form"))]
fn reason_of(message: &str) -> String {
    /// Sentences of the standard library's parsers.
    const FIXED: [&str; 8] = [
        "invalid digit found in string",
        "cannot parse integer from empty string",
        "number too large to fit in target type",
        "number too small to fit in target type",
        "invalid float literal",
        "cannot parse float from empty string",
        "provided string was not `true` or `false`",
        "too many characters in string",
    ];
    let message = message.rsplit_once(" at line ").map_or(message, |(sentence, _)| sentence);
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| message.starts_with(prefix));
    if FIXED.contains(&message) || begins(&["missing field `", "duplicate field `"]) {
        return message.to_owned();
    }
    let found_and_expected = [
        "invalid type: ",
        "invalid value: ",
        "invalid length ",
        "unknown variant `",
        "unknown field `",
    ];
    if begins(&found_and_expected)
        && let Some((_, expected)) = message.rsplit_once(", expected ")
    {
        let what = if message.starts_with("unknown field") { "an unknown field, " } else { "" };
        return format!("{what}expected {expected}");
    }
    "its value does not fit".to_owned()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use serde::Deserialize;

    use super::*;
    use crate::request::{Body, View, blank_with_head};

    fn request(head: &str, body: &str) -> Request {
        let mut request = blank_with_head(&format!("{head}\r\nhost: a\r\n\r\n"));
        request.body = Body::Apart(View::Joined(Bytes::copy_from_slice(body.as_bytes())));
        request
    }

    fn json(body: &str) -> Request {
        request("POST / HTTP/1.1\r\ncontent-type: application/json", body)
    }

    fn form(body: &str) -> Request {
        request("POST / HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded", body)
    }

    fn lies_in(part: &str, whole: &[u8]) -> bool {
        whole.as_ptr_range().contains(&part.as_ptr())
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order<'r> {
        article: &'r str,
        #[serde(borrow, default)]
        note: Cow<'r, str>,
        #[serde(default)]
        counts: Vec<u8>,
    }

    fn refused<'r, T: Deserialize<'r> + std::fmt::Debug>(request: &'r Request) -> (u16, String) {
        let error = request.json::<T>().unwrap_err();
        let problem = error.problem();
        (problem.status().as_u16(), problem.detail().unwrap_or_default().to_owned())
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_strings_are_not_copied() {
        let request = json(r#"{"article": "a plain text", "note": "plain too", "counts": [1]}"#);
        let order: Order = request.json().unwrap();
        assert_eq!((order.article, &*order.note), ("a plain text", "plain too"));
        assert!(lies_in(order.article, request.body()));
        assert!(lies_in(&order.note, request.body()));
        assert_eq!(order.counts, [1]);
        let request = json(r#"{"article": "", "note": "an \u0065scape"}"#);
        let order: Order = request.json().unwrap();
        assert!(matches!(order.note, Cow::Owned(text) if text == "an escape"));
    }

    #[cfg(feature = "form")]
    #[test]
    fn form_and_query_values_without_escapes_are_not_copied() {
        let form = form("article=plain&counts=1&counts=2&note=a+b%C3%BC");
        let order: Order = form.form().unwrap();
        assert!(order.article == "plain" && lies_in(order.article, form.body()));
        assert_eq!((&*order.note, &*order.counts), ("a b\u{fc}", &[1, 2][..]));
        let query = request("GET /x?article=plain HTTP/1.1", "");
        let order: Order = query.query().unwrap();
        assert!(
            order.article == "plain" && lies_in(order.article, query.query_string().as_bytes())
        );
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_is_asked_for_by_its_media_type() {
        let read = |media: &str| {
            let request = request(&format!("POST / HTTP/1.1\r\ncontent-type: {media}"), "7");
            request.json::<u8>().map_err(|error| error.status().as_u16())
        };
        assert_eq!(read("application/json"), Ok(7));
        assert_eq!(read("Application/JSON; charset=utf-8"), Ok(7));
        assert_eq!(read("application/merge-patch+json"), Ok(7));
        for other in ["text/plain", "application/jsonx", "", "+json", "\u{fc}\u{fc}\u{fc}+json/x"] {
            assert_eq!(read(other), Err(415), "{other}");
        }
        let none = request("POST / HTTP/1.1", "7");
        assert_eq!(none.json::<u8>().unwrap_err().status(), 415);
    }

    #[cfg(feature = "json")]
    #[test]
    fn problems_say_where_and_repeat_nothing() {
        let (status, detail) = refused::<Order>(&json("{\"article\":\n \"x\",}"));
        assert_eq!(status, 400);
        assert!(detail.contains("line 2 column 6"), "{detail}");
        assert_eq!(refused::<u8>(&json("1 2")).0, 400, "more behind the value");
        assert_eq!(refused::<u8>(&json("")).0, 400);
        assert_eq!(refused::<u8>(&json(&"[".repeat(100_000))).0, 422, "not a number anyway");
        assert_eq!(refused::<serde_json::Value>(&json(&"[".repeat(100_000))).0, 400);
        for (body, words) in [
            (
                r#"{"article": 7, "note": "secret"}"#,
                &["field article", "expected a borrowed string"][..],
            ),
            (r#"{"article": "a", "counts": [1, "secret"]}"#, &["field counts[1]", "expected u8"]),
            (
                r#"{"article": "a", "counts": [1, 300]}"#,
                &["field counts[1]", "expected u8", "line 1"],
            ),
            (r#"{"note": "secret"}"#, &["missing field `article`"]),
            (r#"{"article": "a", "x": "secret"}"#, &["field x", "unknown", "`article`, `note`"]),
            ("[]", &["expected struct Order"]),
            (r#""secret""#, &["expected struct Order"]),
        ] {
            let (status, detail) = refused::<Order>(&json(body));
            assert_eq!(status, 422, "{body}");
            assert!(words.iter().all(|word| detail.contains(word)), "{body}: {detail}");
            assert!(!detail.contains("secret") && !detail.contains("300"), "{body}: {detail}");
        }
        let (_, detail) = refused::<BTreeMap<&str, u8>>(&json(r#"{"my secret!": "x"}"#));
        assert!(!detail.contains("secret"), "a key may be content: {detail}");
        let error = json(r#"{"article": "a", "counts": [-1]}"#).json::<Order>().unwrap_err();
        assert!(error.problem().to_json().contains(r#""field":"counts[0]""#));
    }

    #[cfg(feature = "json")]
    #[test]
    fn words_of_other_types_are_not_passed_on() {
        #[derive(Debug, Deserialize)]
        #[serde(try_from = "String")]
        struct Picky;
        impl TryFrom<String> for Picky {
            type Error = String;
            fn try_from(text: String) -> Result<Picky, String> {
                Err(format!("I do not like {text}"))
            }
        }
        let (status, detail) = refused::<Picky>(&json("\"secret\""));
        assert_eq!((status, detail.contains("secret")), (422, false), "{detail}");
    }

    #[cfg(feature = "form")]
    #[test]
    fn forms_and_queries_have_their_own_statuses() {
        let status = |request: &Request| match request.query_string() {
            "" => request.form::<Order>().unwrap_err(),
            _ => request.query::<Order>().unwrap_err(),
        };
        let error = status(&form("article=a&counts=secret"));
        assert_eq!(error.status(), 422);
        let problem = error.problem();
        let detail = problem.detail().unwrap();
        assert!(detail.contains("counts") && detail.contains("invalid digit"), "{detail}");
        assert!(!detail.contains("secret"));
        assert_eq!(status(&form("article=%FF")).status(), 400);
        assert_eq!(status(&form("article=%C3%BC")).status(), 422, "a borrowed text, but escapes");
        assert_eq!(status(&json("{}")).status(), 415);
        assert_eq!(status(&request("GET /?article=a&counts=x HTTP/1.1", "")).status(), 400);
        assert_eq!(status(&request("GET /?x HTTP/1.1", "")).status(), 400);
    }

    #[test]
    fn text_is_utf_8() {
        let text = |charset: &str, body: &str| {
            let head = format!("POST / HTTP/1.1\r\ncontent-type: text/plain{charset}");
            let request = request(&head, body);
            request.text().map(str::to_owned).map_err(|error| error.status().as_u16())
        };
        assert_eq!(text("", "gr\u{fc}n"), Ok("gr\u{fc}n".to_owned()));
        assert_eq!(text("; charset=\"UTF-8\"", "a"), Ok("a".to_owned()));
        assert_eq!(text(";charset=latin1", "a"), Err(415));
        let mut broken = request("POST / HTTP/1.1", "");
        broken.body = Body::Apart(View::Joined(Bytes::from_static(b"ab\xff")));
        let error = broken.text().unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.to_string().contains("byte 2"), "{error}");
    }
}
