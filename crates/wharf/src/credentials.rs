//! Who the client says it is: the Authorization field (RFC 9110 section 11.6.2). Whether it is true
//! is for the program to find out.

#[cfg(feature = "basic-auth")]
use std::fmt;

use crate::Request;

/// A user's name and password. The password does not show in debug output.
#[cfg(feature = "basic-auth")]
#[derive(Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// The name, which has no colon.
    pub user: String,
    /// The password. Compare it, or better its hash, in constant time.
    pub password: String,
}

#[cfg(feature = "basic-auth")]
impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Request {
    /// The bearer token (RFC 6750 section 2.1). None: there is none, or it has characters that no
    /// token has, or there are several Authorization fields, of which nobody knows which one counts.
    ///
    /// ```
    /// use wharf::{Request, StatusCode};
    ///
    /// fn status(request: &Request) -> Result<&'static str, StatusCode> {
    ///     match request.bearer_token() {
    ///         Some(token) if is_known(token) => Ok("all is well\n"),
    ///         _ => Err(StatusCode::UNAUTHORIZED),
    ///     }
    /// }
    /// # fn is_known(_: &str) -> bool { true }
    /// # let _ = status;
    /// ```
    pub fn bearer_token(&self) -> Option<&str> {
        let token = self.authorization("bearer")?;
        let bare = token.trim_end_matches('=');
        let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
        (!bare.is_empty() && bare.chars().all(is_of_token)).then_some(token)
    }

    /// The name and password of the Basic scheme (RFC 7617), in UTF-8. None: there are none, or
    /// they are malformed, or there are several Authorization fields.
    ///
    /// ```
    /// use wharf::{IntoResponse, Request, Response, StatusCode};
    ///
    /// fn door(request: &Request) -> Response {
    ///     match request.basic_auth() {
    ///         Some(auth) if is_known(&auth.user, &auth.password) => "come in\n".into_response(),
    ///         _ => Response::new(StatusCode::UNAUTHORIZED)
    ///             .header("www-authenticate", "Basic realm=\"door\", charset=\"UTF-8\""),
    ///     }
    /// }
    /// # fn is_known(_: &str, _: &str) -> bool { true }
    /// # let _ = door;
    /// ```
    #[cfg(feature = "basic-auth")]
    pub fn basic_auth(&self) -> Option<BasicAuth> {
        use base64::Engine;
        use base64::alphabet::STANDARD;
        use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

        const LENIENT: GeneralPurposeConfig =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);

        let decoded = BASE64.decode(self.authorization("basic")?).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        // RFC 7617 section 2: neither part has control characters.
        if decoded.chars().any(char::is_control) {
            return None;
        }
        let (user, password) = decoded.split_once(':')?;
        Some(BasicAuth { user: user.to_owned(), password: password.to_owned() })
    }

    /// What follows the scheme in the only Authorization field there is.
    fn authorization(&self, scheme: &str) -> Option<&str> {
        let mut fields = self.header_all("authorization");
        let (only, None) = (fields.next()?, fields.next()) else { return None };
        let (sent, credentials) = std::str::from_utf8(only).ok()?.split_once(' ')?;
        sent.eq_ignore_ascii_case(scheme).then(|| credentials.trim_matches(' '))
    }
}

#[cfg(test)]
mod tests {
    use crate::request::blank_with_head;

    #[test]
    fn a_bearer_token_is_one_token_of_one_field() {
        let token = |fields: &str| {
            let request = blank_with_head(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
            request.bearer_token().map(str::to_owned)
        };
        assert_eq!(token("authorization: Bearer abc.d-e_f~+/==\r\n").unwrap(), "abc.d-e_f~+/==");
        assert_eq!(token("AUTHORIZATION: bEARER   x\r\n").unwrap(), "x");
        for none in [
            "",
            "authorization: Bearer\r\n",
            "authorization: Bearer \r\n",
            "authorization: Bearer ==\r\n",
            "authorization: Bearer a b\r\n",
            "authorization: Bearer a=b\r\n",
            "authorization: Basic YTpi\r\n",
            "authorization: Bearer a\r\nauthorization: Bearer b\r\n",
        ] {
            assert_eq!(token(none), None, "{none}");
        }
    }

    #[cfg(feature = "basic-auth")]
    #[test]
    fn basic_credentials_are_decoded_and_hidden() {
        let auth = |credentials: &str| {
            let head = format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: {credentials}\r\n\r\n");
            blank_with_head(&head).basic_auth()
        };
        // The examples of RFC 7617 sections 2 and 2.1.
        let aladdin = auth("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
        assert_eq!((&*aladdin.user, &*aladdin.password), ("Aladdin", "open sesame"));
        assert!(!format!("{aladdin:?}").contains("sesame"));
        assert_eq!(auth("Basic dGVzdDoxMjPCow==").unwrap().password, "123\u{a3}");
        assert_eq!(auth("basic YTpiOmM").unwrap().password, "b:c", "no padding; a colon in it");
        for none in ["Basic", "Basic !", "Basic YQ==", "Basic YTr/", "Basic YToA", "Bearer YTpi"] {
            assert_eq!(auth(none), None, "{none}");
        }
    }
}
