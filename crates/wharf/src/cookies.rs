//! Cookies (RFC 6265): read from a request without a copy, and set by an answer with safe defaults.

use crate::Request;
#[cfg(feature = "cookies")]
use crate::{Response, ResponseParts};

impl Request {
    /// The value of a cookie as it was sent, without the quotes it may stand in. Of several with
    /// one name it is the first, which is the one for the longest path (RFC 6265 section 5.4).
    ///
    /// A cookie is what the client says it is: whether it was set by this server only a signature
    /// tells.
    ///
    /// ```
    /// use wharf::{Request, StatusCode};
    ///
    /// fn whoami(request: &Request) -> Result<String, StatusCode> {
    ///     let session = request.cookie("sid").ok_or(StatusCode::UNAUTHORIZED)?;
    ///     Ok(format!("the session {session}\n"))
    /// }
    /// # let _ = whoami;
    /// ```
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Every cookie in the order they were sent: name and value. What is not text or has no `=` is
    /// passed over.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.header_all("cookie")
            .filter_map(|line| std::str::from_utf8(line).ok())
            .flat_map(wharf_http::cookies)
    }
}

#[cfg(feature = "cookies")]
impl Response {
    /// Sets a cookie. What it does not say itself is set to what is safe: `HttpOnly` (scripts do
    /// not see it), `SameSite=Lax` (forms of other sites do not send it), `Secure` (only over
    /// HTTPS) and `Path=/`.
    ///
    /// Browsers take `localhost` for secure, most of them also without HTTPS. Where a site has no
    /// HTTPS at all, `secure(false)` says so.
    ///
    /// A name or a value that a cookie cannot have (RFC 6265 section 4.1.1: no spaces, quotes,
    /// commas, semicolons or backslashes, and only ASCII) turns the answer into a `500`, as
    /// [`header`](Response::header) does: encode it first.
    ///
    /// ```
    /// use wharf::{Response, cookie::Cookie};
    ///
    /// let response = Response::text("welcome").cookie(("sid", "4f1d"));
    /// let (_, value) = response.headers().find(|(name, _)| *name == "set-cookie").unwrap();
    /// assert_eq!(value, "sid=4f1d; HttpOnly; SameSite=Lax; Secure; Path=/");
    ///
    /// // To take it away again:
    /// let response = response.cookie(Cookie::build("sid").removal());
    /// # let _ = response;
    /// ```
    pub fn cookie(self, cookie: impl Into<cookie::Cookie<'static>>) -> Response {
        let mut cookie = cookie.into();
        if !is_fit(&cookie) {
            let name = cookie.name();
            tracing::error!("an answer is not sent: its cookie {name:?} has to be encoded first");
            return self.spoiled();
        }
        if cookie.http_only().is_none() {
            cookie.set_http_only(true);
        }
        if cookie.same_site().is_none() {
            cookie.set_same_site(cookie::SameSite::Lax);
        }
        if cookie.secure().is_none() {
            cookie.set_secure(true);
        }
        if cookie.path().is_none() {
            cookie.set_path("/");
        }
        self.header("set-cookie", cookie.to_string())
    }
}

#[cfg(feature = "cookies")]
impl ResponseParts for cookie::Cookie<'static> {
    fn add_to(self, response: Response) -> Response {
        response.cookie(self)
    }
}

/// Whether no part can end and begin another attribute (RFC 6265 section 4.1.1).
#[cfg(feature = "cookies")]
fn is_fit(cookie: &cookie::Cookie) -> bool {
    let is_octet = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
    let is_token = |byte: u8| is_octet(byte) && !b"()<>@:/[]?={}".contains(&byte);
    let is_attribute =
        |text: &str| text.bytes().all(|byte| (b' '..0x7f).contains(&byte) && byte != b';');
    !cookie.name().is_empty()
        && cookie.name().bytes().all(is_token)
        && cookie.value_trimmed().bytes().all(is_octet)
        && cookie.path().is_none_or(is_attribute)
        && cookie.domain().is_none_or(is_attribute)
}

#[cfg(all(test, feature = "cookies"))]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_set_safely_unless_told_otherwise() {
        use cookie::{Cookie, SameSite};
        let set = |cookie: Cookie<'static>| {
            let response = Response::text("").cookie(cookie).checked();
            let field = response.headers().find(|(name, _)| *name == "set-cookie");
            field.map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        let open = Cookie::build(("theme", "dark"))
            .http_only(false)
            .secure(false)
            .same_site(SameSite::Strict)
            .path("/a");
        assert_eq!(set(open.build()).unwrap(), "theme=dark; SameSite=Strict; Path=/a");
        assert!(set(Cookie::build("sid").removal().build()).unwrap().contains("Max-Age=0"));
        for (name, value) in [
            ("a", "x; Domain=evil.example"),
            ("a;b", "x"),
            ("a", "x y"),
            ("a", "\u{fc}"),
            ("a", "x\r\ny"),
            ("", "x"),
            ("a b", "x"),
        ] {
            assert_eq!(set(Cookie::new(name, value)), None, "{name:?} {value:?}");
        }
        assert_eq!(set(Cookie::build(("a", "b")).path("/; Domain=evil").build()), None);
        let response = (Cookie::new("a", "b"), "text");
        let response = crate::IntoResponse::into_response(response);
        assert!(response.headers().any(|(name, _)| *name == "set-cookie"));
    }
}
