//! Which other sites' scripts may use these routes: the CORS protocol of the Fetch standard.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::{Hook, Refused};
use crate::error::{Error, Kind};
use crate::{Request, Response};

/// Lets scripts of other sites use the routes, by the [CORS protocol][fetch].
///
/// A browser keeps a script from reading answers of a site that it does not come from, unless these
/// allow it. At first nothing is allowed: say which origins are, and if more than plain GET, HEAD
/// and POST requests are made, which methods and header fields. Preflight requests are answered
/// here, before any hook or handler further in: put this hook outside of one that signs in.
///
/// What is not allowed is not refused, since CORS protects users and not servers; the browser
/// keeps the answer from the script, or after a preflight does not send the request.
///
/// ```
/// use std::time::Duration;
/// use wharf::hooks::Cors;
/// use wharf::{Method, Router};
///
/// let cors = Cors::origins(["https://app.example.com", "https://admin.example.com"])
///     .methods([Method::GET, Method::PUT])
///     .request_headers(["content-type"])
///     .credentials()
///     .max_age(Duration::from_secs(600));
/// let router = Router::new().get("/orders", |_| "all of them").hook(cors);
/// # let _ = router;
/// ```
///
/// [fetch]: https://fetch.spec.whatwg.org/#http-cors-protocol
#[derive(Clone)]
pub struct Cors {
    origins: Origins,
    credentials: bool,
    /// What was said of [`Cors::methods`] and the like, as the fields' values.
    methods: List,
    request_headers: List,
    exposed: List,
    max_age: Option<HeaderValue>,
    /// What was given and cannot be.
    invalid: Option<String>,
}

#[derive(Clone)]
enum Origins {
    Any,
    These(Vec<String>),
    If(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

#[derive(Clone, Default)]
enum List {
    #[default]
    None,
    /// Whatever is asked for.
    Any,
    These(HeaderValue),
}

const PREFLIGHT_VARIES: [&str; 3] =
    ["origin", "access-control-request-method", "access-control-request-headers"];
const MAX_AGE: HeaderName = header::ACCESS_CONTROL_MAX_AGE;

impl Cors {
    fn new(origins: Origins) -> Cors {
        Cors {
            origins,
            credentials: false,
            methods: List::These(HeaderValue::from_static("GET, HEAD, POST")),
            request_headers: List::None,
            exposed: List::None,
            max_age: None,
            invalid: None,
        }
    }

    /// Allows the scripts of these origins, each written as browsers send it: scheme, host in lower
    /// case, port if it is not the scheme's own, and no path. One that is written otherwise keeps
    /// the server from starting.
    pub fn origins<O: Into<String>>(origins: impl IntoIterator<Item = O>) -> Cors {
        let origins: Vec<String> = origins.into_iter().map(Into::into).collect();
        let invalid = origins.iter().find(|origin| !is_origin(origin)).cloned();
        Cors { invalid, ..Cors::new(Origins::These(origins)) }
    }

    /// Allows the scripts of every origin: for what is public anyway. Not to be had together with
    /// [`credentials`](Cors::credentials).
    pub fn any_origin() -> Cors {
        Cors::new(Origins::Any)
    }

    /// Allows the scripts of origins for which `is_allowed` says so. It runs for each request that
    /// has an origin. Compare whole origins: one that merely ends with a trusted name may be
    /// anybody's.
    pub fn origins_if(is_allowed: impl Fn(&str) -> bool + Send + Sync + 'static) -> Cors {
        Cors::new(Origins::If(Arc::new(is_allowed)))
    }

    /// The methods that scripts may use. Default: GET, HEAD and POST, which forms could use too.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Cors {
        let names: Vec<String> = methods.into_iter().map(|it| it.as_str().to_owned()).collect();
        self.methods = self.list(&names);
        self
    }

    /// The header fields that scripts may send, beyond those that need no permission. Default:
    /// none.
    pub fn request_headers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Cors {
        self.request_headers = self.names(names);
        self
    }

    /// Scripts may send any header field.
    pub fn any_request_header(mut self) -> Cors {
        self.request_headers = List::Any;
        self
    }

    /// The header fields of an answer that scripts may read, beyond those that need no permission.
    /// Default: none.
    pub fn expose_headers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Cors {
        self.exposed = self.names(names);
        self
    }

    /// Scripts may send and get cookies and other proof of who the user is. Only for origins that
    /// are trusted with all the user could do here.
    pub fn credentials(mut self) -> Cors {
        self.credentials = true;
        self
    }

    /// How long a browser may keep in mind what a preflight was answered, in whole seconds.
    /// Default: not said; browsers take 5 seconds.
    pub fn max_age(mut self, age: Duration) -> Cors {
        self.max_age = Some(HeaderValue::from(age.as_secs()));
        self
    }

    fn names<N: Into<String>>(&mut self, names: impl IntoIterator<Item = N>) -> List {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let invalid = names.iter().find(|name| HeaderName::try_from(name.as_str()).is_err());
        self.invalid = self.invalid.take().or(invalid.cloned());
        self.list(&names)
    }

    fn list(&mut self, names: &[String]) -> List {
        match HeaderValue::try_from(names.join(", ")) {
            _ if names.is_empty() => List::None,
            Ok(value) => List::These(value),
            Err(_) => List::None,
        }
    }

    /// The value of Access-Control-Allow-Origin for a request from `origin`.
    fn allowed_origin(&self, origin: &str) -> Option<HeaderValue> {
        let is_allowed = match &self.origins {
            Origins::Any => return Some(HeaderValue::from_static("*")),
            Origins::These(origins) => origins.iter().any(|allowed| allowed == origin),
            Origins::If(is_allowed) => is_allowed(origin),
        };
        is_allowed.then(|| HeaderValue::try_from(origin).ok()).flatten()
    }

    /// Adds what both a preflight's and any other answer say.
    fn allow(&self, origin: Option<&str>, response: Response) -> Response {
        let Some(allowed) = origin.and_then(|origin| self.allowed_origin(origin)) else {
            return response;
        };
        let response = response.set_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if !self.credentials {
            return response;
        }
        let yes = HeaderValue::from_static("true");
        response.set_header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes)
    }

    fn preflight(&self, origin: &str, request: &Request) -> Response {
        let response = Response::new(StatusCode::NO_CONTENT).vary(&PREFLIGHT_VARIES);
        let response = self.allow(Some(origin), response);
        if response.header_value(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_none() {
            return response;
        }
        let wanted = request.header_bytes(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let response = match &self.methods {
            List::These(methods) => {
                response.header(header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone())
            }
            List::Any | List::None => response,
        };
        // `*` would not stand for Authorization, nor for anything along with credentials.
        let names = match &self.request_headers {
            List::None => None,
            List::Any => wanted.and_then(|names| HeaderValue::from_bytes(names).ok()),
            List::These(names) => Some(names.clone()),
        };
        let response = match names {
            Some(names) => response.header(header::ACCESS_CONTROL_ALLOW_HEADERS, names),
            None => response,
        };
        match &self.max_age {
            Some(age) => response.header(MAX_AGE, age.clone()),
            None => response,
        }
    }

    /// Adds what an answer that is no preflight's says.
    fn share(&self, origin: Option<&str>, response: Response) -> Response {
        let response = match self.origins {
            Origins::Any => response,
            // Caches must not give one origin what another one was answered.
            Origins::These(_) | Origins::If(_) => response.vary(&["origin"]),
        };
        let response = self.allow(origin, response);
        let is_shared = response.header_value(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_some();
        match &self.exposed {
            List::These(names) if is_shared => {
                response.set_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, names.clone())
            }
            _ => response,
        }
    }
}

/// Whether this is how browsers write an origin (RFC 6454 section 6.2), `null` included.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return origin == "null" };
    let is_scheme = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    let is_host = |b: u8| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/?#@*".contains(&b);
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !host.is_empty()
        && host.bytes().all(is_host)
}

impl Hook for Cors {
    fn before(&self, request: &mut Request) -> Option<Response> {
        let asks = request.method() == Method::OPTIONS
            && request.header_bytes(header::ACCESS_CONTROL_REQUEST_METHOD).is_some();
        let origin = request.header(header::ORIGIN).filter(|_| asks)?;
        Some(self.preflight(origin, request))
    }

    fn after(&self, request: &Request, response: Response) -> Response {
        self.share(request.header(header::ORIGIN), response)
    }

    fn check(&self) -> Result<(), Error> {
        let message = if let Some(invalid) = &self.invalid {
            format!("{invalid:?} is neither an origin as browsers write it nor a field's name")
        } else if self.credentials && matches!(self.origins, Origins::Any) {
            "CORS cannot allow credentials to any origin: name the origins".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Configuration, message))
    }

    fn refused(&self, refused: &Refused<'_>, response: Response) -> Response {
        let origin = refused.request().and_then(|request| request.header(header::ORIGIN));
        self.share(origin, response)
    }
}

impl fmt::Debug for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins = match &self.origins {
            Origins::Any => "any",
            Origins::These(_) => "listed",
            Origins::If(_) => "by a function",
        };
        f.debug_struct("Cors")
            .field("origins", &origins)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for origin in ["https://a.example", "http://localhost:8080", "http://[::1]:80", "null"] {
            assert!(Cors::origins([origin]).check().is_ok(), "{origin}");
        }
        for origin in
            ["a.example", "https://a.example/", "https://A.example", "*", "", "https://*.a", "://a"]
        {
            let error = Cors::origins([origin]).check().unwrap_err();
            assert!(error.is_configuration() && error.to_string().contains(origin), "{origin}");
        }
        assert!(Cors::any_origin().check().is_ok());
        assert!(Cors::any_origin().credentials().check().is_err());
        assert!(Cors::any_origin().expose_headers(["a b"]).check().is_err());
    }
}
