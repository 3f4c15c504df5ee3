//! A name for each request, which logs on both sides of a proxy can share.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{HeaderName, HeaderValue};

use super::{Hook, Refused};
use crate::{Request, Response};

const FIELD: HeaderName = HeaderName::from_static("x-request-id");
/// A longer one is not believed.
const MAX_BYTES: usize = 128;

/// The name of a request, as [`RequestIds`] attached it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The name: visible ASCII.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Gives each request a name: a [`RequestId`] among its
/// [extensions](Request::extensions), and `X-Request-Id` in its answer.
///
/// A name is 32 hexadecimal digits that nobody can guess from earlier ones. The name that a client
/// sent is not believed, unless the client is one that is [trusted](RequestIds::trust) (a proxy of
/// one's own, say) and the name has at most 128 letters, digits and `-_.:/+=@~`.
///
/// ```
/// use wharf::hooks::{RequestId, RequestIds};
/// use wharf::Router;
///
/// let ids = RequestIds::new().trust(|peer| peer.ip().is_loopback());
/// let router = Router::new()
///     .get("/", |request| {
///         let id = request.extensions().get::<RequestId>().expect("the hook attached it");
///         format!("you are {id}")
///     })
///     .hook(ids);
/// # let _ = router;
/// ```
pub struct RequestIds {
    /// Its keys are the system's own chance, so what it makes of a count cannot be guessed.
    chance: RandomState,
    count: AtomicU64,
    is_trusted: Box<dyn Fn(SocketAddr) -> bool + Send + Sync>,
}

impl RequestIds {
    /// Nobody's own names are believed.
    pub fn new() -> RequestIds {
        RequestIds {
            chance: RandomState::new(),
            count: AtomicU64::new(0),
            is_trusted: Box::new(|_| false),
        }
    }

    /// Believes the names that peers send for whom `is_trusted` says so.
    pub fn trust(
        mut self,
        is_trusted: impl Fn(SocketAddr) -> bool + Send + Sync + 'static,
    ) -> RequestIds {
        self.is_trusted = Box::new(is_trusted);
        self
    }

    fn make(&self) -> RequestId {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let half = |half: u8| self.chance.hash_one((number, half));
        let text = format!("{:016x}{:016x}", half(0), half(1));
        // Digits always make a value.
        RequestId(HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("0")))
    }

    fn of(&self, request: &Request) -> RequestId {
        let believed = || {
            let sent = request.header_bytes(FIELD).filter(|sent| is_plain(sent))?;
            let value = HeaderValue::from_bytes(sent).ok()?;
            (self.is_trusted)(request.peer()).then_some(RequestId(value))
        };
        believed().unwrap_or_else(|| self.make())
    }
}

/// Whether a name can stand in a log line, a shell command and a path without harm.
fn is_plain(name: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(b);
    (1..=MAX_BYTES).contains(&name.len()) && name.iter().all(allowed)
}

impl Default for RequestIds {
    fn default() -> RequestIds {
        RequestIds::new()
    }
}

impl fmt::Debug for RequestIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestIds").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Hook for RequestIds {
    fn before(&self, request: &mut Request) -> Option<Response> {
        let id = self.of(request);
        request.extensions_mut().insert(id);
        None
    }

    fn after(&self, request: &Request, response: Response) -> Response {
        match request.extensions().get::<RequestId>() {
            Some(id) => response.set_header(FIELD, id.0.clone()),
            None => response,
        }
    }

    fn refused(&self, refused: &Refused<'_>, response: Response) -> Response {
        let id = refused.request().map_or_else(|| self.make(), |request| self.of(request));
        response.set_header(FIELD, id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let ids = RequestIds::new();
        let made: std::collections::HashSet<_> = (0..1_000).map(|_| ids.make()).collect();
        assert_eq!(made.len(), 1_000);
        assert!(made.iter().all(|id| id.as_str().len() == 32 && is_plain(id.as_str().as_bytes())));
        let others = RequestIds::new();
        assert!((0..1_000).all(|_| !made.contains(&others.make())), "another server's differ too");
    }

    #[test]
    fn only_plain_names_are_believed() {
        for name in ["a", "7f-Z_.:/+=@~", &"x".repeat(128)] {
            assert!(is_plain(name.as_bytes()), "{name}");
        }
        for name in ["", "a b", "a\"b", "a\\", "ä", "a;b", "$(a)", "a\u{1b}", &"x".repeat(129)] {
            assert!(!is_plain(name.as_bytes()), "{name}");
        }
    }
}
