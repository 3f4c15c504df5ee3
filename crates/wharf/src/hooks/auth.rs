//! Who may pass: the Basic scheme (RFC 7617) and bearer tokens (RFC 6750).

use std::fmt;

use constant_time_eq::constant_time_eq;
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::{Hook, User};
use crate::error::{Error, Kind};
use crate::{Request, Response};

type Check<C> = Box<dyn Fn(&C) -> Option<User> + Send + Sync>;

/// Lets only those pass who send a name and a password that are known; others get
/// `401 Unauthorized`, upon which a browser asks for them.
///
/// Who passes is attached to the request as a [`User`]. Passwords travel readable, so use this only
/// behind TLS. Put [`Cors`](super::Cors) outside of it, since preflights carry no password.
///
/// ```
/// use wharf::hooks::{RequireBasicAuth, User};
/// use wharf::Router;
///
/// let password = std::env::var("ADMIN_PASSWORD").unwrap_or("for this example only".to_owned());
/// let admin = Router::new()
///     .get("/", |request| request.extensions().get::<User>().map(|user| user.name().to_owned()))
///     .hook(RequireBasicAuth::users("the back room", [("admin", password)]));
/// let router = Router::new().nest("/admin", admin);
/// # let _ = router;
/// ```
pub struct RequireBasicAuth {
    check: Check<crate::BasicAuth>,
    /// None: the realm cannot stand in a field.
    challenge: Option<HeaderValue>,
}

impl RequireBasicAuth {
    /// Knows these names and passwords. How long it takes to compare one does not tell which of its
    /// bytes are wrong; it may tell its length.
    ///
    /// `realm` is what a browser says the password is for.
    pub fn users<N: Into<String>, P: Into<String>>(
        realm: &str,
        users: impl IntoIterator<Item = (N, P)>,
    ) -> RequireBasicAuth {
        let users: Vec<(String, String)> =
            users.into_iter().map(|(name, password)| (name.into(), password.into())).collect();
        RequireBasicAuth::check(realm, move |name, password| {
            // All of them, whichever it is: no early end tells how far the search came.
            users.iter().fold(false, |found, (known, secret)| {
                let is_it = constant_time_eq(known.as_bytes(), name.as_bytes())
                    & constant_time_eq(secret.as_bytes(), password.as_bytes());
                found | is_it
            })
        })
    }

    /// Asks `is_right` about a name and a password: compare a slow hash of it, in constant time.
    pub fn check(
        realm: &str,
        is_right: impl Fn(&str, &str) -> bool + Send + Sync + 'static,
    ) -> RequireBasicAuth {
        let check = move |sent: &crate::BasicAuth| {
            is_right(&sent.user, &sent.password).then(|| User::new(sent.user.clone()))
        };
        let challenge = challenge("Basic", realm, ", charset=\"UTF-8\"");
        RequireBasicAuth { check: Box::new(check), challenge }
    }
}

impl Hook for RequireBasicAuth {
    fn before(&self, request: &mut Request) -> Option<Response> {
        match request.basic_auth().and_then(|sent| (self.check)(&sent)) {
            Some(user) => {
                request.extensions_mut().insert(user);
                None
            }
            None => Some(unauthorized(self.challenge.clone())),
        }
    }

    fn check(&self) -> Result<(), Error> {
        check_challenge(&self.challenge)
    }
}

impl fmt::Debug for RequireBasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequireBasicAuth").field(&self.challenge).finish()
    }
}

/// Lets only those pass who send a bearer token that is known; others get `401 Unauthorized`.
///
/// Whose token it is is attached to the request as a [`User`]. A token is as good as a password:
/// use this only behind TLS.
///
/// ```
/// use wharf::hooks::RequireBearer;
/// use wharf::Router;
///
/// let token = std::env::var("API_TOKEN").unwrap_or("for-this-example-only".to_owned());
/// let api = Router::new()
///     .get("/orders", |_| "all of them")
///     .hook(RequireBearer::tokens("orders", [(token, "the shop")]));
/// # let _ = api;
/// ```
pub struct RequireBearer {
    check: Check<str>,
    /// For those who sent no token.
    challenge: Option<HeaderValue>,
    /// For those whose token is not known.
    invalid: Option<HeaderValue>,
}

impl RequireBearer {
    /// Knows these tokens, each with the name of its user. How long it takes to compare one does
    /// not tell which of its bytes are wrong; it may tell its length.
    pub fn tokens<T: Into<String>, N: Into<String>>(
        realm: &str,
        tokens: impl IntoIterator<Item = (T, N)>,
    ) -> RequireBearer {
        let tokens: Vec<(String, String)> =
            tokens.into_iter().map(|(token, name)| (token.into(), name.into())).collect();
        RequireBearer::check(realm, move |sent| {
            let mut owner = None;
            for (token, name) in &tokens {
                if constant_time_eq(token.as_bytes(), sent.as_bytes()) {
                    owner = Some(name);
                }
            }
            owner.map(|name| User::new(name.clone()))
        })
    }

    /// Asks `whose` about a token: `None` if it is nobody's.
    pub fn check(
        realm: &str,
        whose: impl Fn(&str) -> Option<User> + Send + Sync + 'static,
    ) -> RequireBearer {
        RequireBearer {
            check: Box::new(whose),
            challenge: challenge("Bearer", realm, ""),
            invalid: challenge("Bearer", realm, ", error=\"invalid_token\""),
        }
    }
}

impl Hook for RequireBearer {
    fn before(&self, request: &mut Request) -> Option<Response> {
        // RFC 6750 section 3.1: without a token no error is named.
        let Some(sent) = request.bearer_token() else {
            return Some(unauthorized(self.challenge.clone()));
        };
        match (self.check)(sent) {
            Some(user) => {
                request.extensions_mut().insert(user);
                None
            }
            None => Some(unauthorized(self.invalid.clone())),
        }
    }

    fn check(&self) -> Result<(), Error> {
        check_challenge(&self.challenge)
    }
}

impl fmt::Debug for RequireBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequireBearer").field(&self.challenge).finish()
    }
}

/// The value of WWW-Authenticate (RFC 9110 section 11.6.1).
fn challenge(scheme: &str, realm: &str, rest: &str) -> Option<HeaderValue> {
    let is_plain = !realm.contains(['"', '\\']);
    let text = format!("{scheme} realm=\"{realm}\"{rest}");
    is_plain.then(|| HeaderValue::try_from(text).ok()).flatten()
}

fn check_challenge(challenge: &Option<HeaderValue>) -> Result<(), Error> {
    let message = "a realm cannot have quotes, backslashes or control characters";
    challenge.as_ref().map(|_| ()).ok_or_else(|| Error::new(Kind::Configuration, message))
}

fn unauthorized(challenge: Option<HeaderValue>) -> Response {
    let response = Response::message(StatusCode::UNAUTHORIZED, "Unauthorized\n");
    challenge
        .into_iter()
        .fold(response, |response, challenge| response.header(header::WWW_AUTHENTICATE, challenge))
}
