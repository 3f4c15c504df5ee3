//! Answers that send the client elsewhere, to where they say and nowhere else.

use std::borrow::Cow;

use http::{StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{IntoResponse, Problem, Response};

/// Sends the client to another location (RFC 9110 section 15.4).
///
/// What a URI cannot have, spaces, letters beyond ASCII or line breaks, is percent-encoded. A
/// location that came with the request belongs through [`within`](Redirect::within), lest others use
/// the site to lead people to theirs.
///
/// ```
/// use wharf::{Redirect, Request};
///
/// fn signed_in(request: &Request) -> Redirect {
///     Redirect::see_other(request.header("x-came-from").unwrap_or("/")).within()
/// }
/// # let _ = signed_in;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    status: StatusCode,
    location: String,
    is_allowed: bool,
}

/// What no URI has (RFC 3986 appendix A); `%` begins an escape that is there already.
const NOT_OF_URIS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

impl Redirect {
    /// `303 See Other`: the client goes on with a GET, as after a form was posted.
    pub fn see_other(location: &str) -> Redirect {
        Redirect::new(StatusCode::SEE_OTHER, location)
    }

    /// `307 Temporary Redirect`: the client asks there, with the same method and body.
    pub fn temporary(location: &str) -> Redirect {
        Redirect::new(StatusCode::TEMPORARY_REDIRECT, location)
    }

    /// `308 Permanent Redirect`: the client asks there, with the same method and body, now and from
    /// now on.
    pub fn permanent(location: &str) -> Redirect {
        Redirect::new(StatusCode::PERMANENT_REDIRECT, location)
    }

    fn new(status: StatusCode, location: &str) -> Redirect {
        let location = Cow::from(utf8_percent_encode(location, NOT_OF_URIS)).into_owned();
        Redirect { status, location, is_allowed: true }
    }

    /// Only to a path of this site: any other location is answered with `400 Bad Request`.
    pub fn within(mut self) -> Redirect {
        // `//host` names a host (RFC 3986 section 4.2). So does `/\host` to browsers, but here the
        // backslash is encoded.
        self.is_allowed = self.location.starts_with('/') && !self.location.starts_with("//");
        self
    }
}

impl IntoResponse for Redirect {
    fn into_response(self) -> Response {
        if !self.is_allowed {
            let detail = "The location to go on to is not one of this site.";
            return Problem::new(StatusCode::BAD_REQUEST).with_detail(detail).into_response();
        }
        Response::new(self.status).header(header::LOCATION, self.location)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(redirect: Redirect) -> (u16, Option<String>) {
        let response = redirect.into_response();
        let location = response.headers().find(|(name, _)| *name == header::LOCATION);
        let location = location.map(|(_, value)| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), location)
    }

    #[test]
    fn locations_are_uris_whatever_they_were() {
        for (given, sent) in [
            ("/a?b=c#d", "/a?b=c#d"),
            ("https://a.example/%20", "https://a.example/%20"),
            ("/gr\u{fc}n und \"rot\"", "/gr%C3%BCn%20und%20%22rot%22"),
            ("/a\r\nset-cookie: x", "/a%0D%0Aset-cookie:%20x"),
        ] {
            assert_eq!(location(Redirect::temporary(given)), (307, Some(sent.to_owned())));
        }
        assert_eq!(location(Redirect::see_other("/")).0, 303);
        assert_eq!(location(Redirect::permanent("/")).0, 308);
    }

    #[test]
    fn a_redirect_within_the_site_stays_there() {
        for fit in ["/", "/a//b", "/?next=//evil", "/%2F/evil"] {
            assert_eq!(location(Redirect::see_other(fit).within()).0, 303, "{fit}");
        }
        for elsewhere in [
            "//evil",
            "///evil",
            "https://evil",
            "javascript:alert(1)",
            "",
            "evil",
            "\\\\evil",
            "\t//evil",
        ] {
            assert_eq!(location(Redirect::see_other(elsewhere).within()), (400, None));
        }
        let backslash = location(Redirect::see_other("/\\evil").within());
        assert_eq!(backslash, (303, Some("/%5Cevil".to_owned())), "a path to every browser");
        let tab = location(Redirect::see_other("/\t/evil").within());
        assert_eq!(tab, (303, Some("/%09/evil".to_owned())));
    }
}
