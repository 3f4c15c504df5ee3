//! Fields that tell browsers to be careful with an answer.

use http::header::{HeaderName, HeaderValue};

use super::{Hook, Refused};
use crate::error::{Error, Kind};
use crate::{Request, Response};

/// Adds header fields that make browsers careful, to every answer that has not its own.
///
/// | field | value | what for |
/// |---|---|---|
/// | `X-Content-Type-Options` | `nosniff` | a text is not taken for a script |
/// | `X-Frame-Options` | `DENY` | no other page shows this one in a frame, to steal clicks |
/// | `Referrer-Policy` | `strict-origin-when-cross-origin` | paths and queries stay here |
/// | `Cross-Origin-Opener-Policy` | `same-origin` | no hold on a window that another site opened |
/// | `Cross-Origin-Resource-Policy` | `same-origin` | other sites do not embed what is here |
///
/// A content security policy depends on the pages: give one by [`with`](SecurityHeaders::with).
/// `Strict-Transport-Security` is not among them, since Wharf speaks no TLS itself and RFC 6797
/// section 7.2 forbids the field without it. Behind a proxy that does, add it by `with` too.
///
/// ```
/// use wharf::Router;
/// use wharf::hooks::SecurityHeaders;
///
/// let headers = SecurityHeaders::new()
///     .with("content-security-policy", "default-src 'self'")
///     .with("strict-transport-security", "max-age=63072000")
///     .without("cross-origin-resource-policy");
/// let router = Router::new().get("/", |_| "safe").hook(headers);
/// # let _ = router;
/// ```
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    fields: Vec<(HeaderName, HeaderValue)>,
    /// What was given and cannot be a field.
    invalid: Option<String>,
}

const DEFAULT: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

impl SecurityHeaders {
    /// The fields of the table above.
    pub fn new() -> SecurityHeaders {
        let fields = DEFAULT
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        SecurityHeaders { fields: fields.into(), invalid: None }
    }

    /// Adds a field, or gives one another value. One that cannot be a header field keeps the server
    /// from starting.
    pub fn with(self, name: &str, value: &str) -> SecurityHeaders {
        let mut headers = self.without(name);
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => headers.fields.push((name, value)),
            _ => headers.invalid = Some(format!("{name}: {value}")),
        }
        headers
    }

    /// Leaves a field out.
    pub fn without(mut self, name: &str) -> SecurityHeaders {
        self.fields.retain(|(existing, _)| !existing.as_str().eq_ignore_ascii_case(name));
        self
    }

    fn apply(&self, response: Response) -> Response {
        self.fields.iter().fold(response, |response, (name, value)| {
            response.or_field(name.clone(), value.clone())
        })
    }
}

impl Default for SecurityHeaders {
    fn default() -> SecurityHeaders {
        SecurityHeaders::new()
    }
}

impl Hook for SecurityHeaders {
    fn after(&self, _: &Request, response: Response) -> Response {
        self.apply(response)
    }

    fn check(&self) -> Result<(), Error> {
        let Some(field) = &self.invalid else { return Ok(()) };
        let message = format!("a security header cannot be a header field: {field:?}");
        Err(Error::new(Kind::Configuration, message))
    }

    fn refused(&self, _: &Refused<'_>, response: Response) -> Response {
        self.apply(response)
    }
}
