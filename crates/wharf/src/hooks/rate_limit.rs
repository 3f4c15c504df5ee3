//! How often a client may ask: a bound by key, in memory that is bounded too.
//!
//! The generic cell rate algorithm, which keeps one time for each key: when the key's requests would
//! all be earned, had they come at the rate. It is a few lines; what libraries of it do not have is
//! the bound on the number of keys, without which whoever invents keys takes all memory.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use super::Hook;
use crate::admission::Peer;
use crate::error::{Error, Kind};
use crate::{IntoResponse, Request, Response};

/// Lets each client ask only so often; what is beyond is answered `429 Too Many Requests` with
/// Retry-After (RFC 6585 section 4).
///
/// `RateLimit::new(100, Duration::from_secs(60))` lets a client that has been quiet ask 100 times at
/// once, and gives it one request back every 0.6 s. A client is an address; of IPv6 a network of 64
/// bits, which is what one client has. Behind a proxy that is the proxy, so there a
/// [key](RateLimit::by) has to be told.
///
/// Every answer says how the client stands, in the fields RateLimit-Policy and RateLimit of the
/// IETF's draft-ietf-httpapi-ratelimit-headers; limits around each other add up there, told apart by
/// their [names](RateLimit::name).
///
/// Clients are counted for as long as they have not earned all back, but no more than
/// [`max_keys`](RateLimit::max_keys) of them. When there are more, those are forgotten who have used
/// the least. It counts in one process: several servers each count for themselves.
///
/// ```
/// use std::time::Duration;
/// use wharf::Router;
/// use wharf::hooks::RateLimit;
///
/// let minute = Duration::from_secs(60);
/// let sign_in = Router::new()
///     .post("/sign-in", |_| "welcome")
///     .hook(RateLimit::new(5, minute).name("sign-in"));
/// let router = Router::new()
///     .nest("/account", sign_in)
///     // Requests without a key are not limited here.
///     .hook(RateLimit::new(600, minute).by(|request| {
///         request.header("x-api-key").map(str::to_owned)
///     }));
/// # let _ = router;
/// ```
pub struct RateLimit {
    requests: u32,
    per: Duration,
    name: &'static str,
    max_keys: usize,
    key: Key,
    hasher: RandomState,
    /// Locked for some nanoseconds a request.
    tables: Box<[Mutex<Table>]>,
    began: Instant,
}

/// The hash of a request's key; none if it has none.
type Key = Box<dyn Fn(&Request, &RandomState) -> Option<u64> + Send + Sync>;

const MAX_KEYS: usize = 100_000;
/// So many tables, so that threads rarely meet at one.
const TABLES: usize = 16;
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl RateLimit {
    /// So many requests in such a time, by the address that they come from. A server with 0 of
    /// either, or with a time of more than a year, does not start.
    pub fn new(requests: u32, per: Duration) -> RateLimit {
        RateLimit {
            requests,
            per,
            name: "default",
            max_keys: MAX_KEYS,
            key: Box::new(|request, hasher| Some(hasher.hash_one(Peer::of(request.peer().ip())))),
            hasher: RandomState::new(),
            tables: (0..TABLES).map(|_| Mutex::default()).collect(),
            began: Instant::now(),
        }
    }

    /// Counts by what `key` makes of a request, such as a user or a proxy's word for the client's
    /// address. `None`: this request is not limited.
    pub fn by<K: Hash>(
        mut self,
        key: impl Fn(&Request) -> Option<K> + Send + Sync + 'static,
    ) -> RateLimit {
        self.key = Box::new(move |request, hasher| key(request).map(|key| hasher.hash_one(key)));
        self
    }

    /// What clients are told that this limit is called: letters, digits, `-` and `_`. Default
    /// `default`.
    pub fn name(mut self, name: &'static str) -> RateLimit {
        self.name = name;
        self
    }

    /// How many clients are counted at one time, at 32 bytes each or so. Default 100,000.
    pub fn max_keys(mut self, keys: usize) -> RateLimit {
        self.max_keys = keys;
        self
    }

    fn pace(&self) -> Pace {
        let nanos = u64::try_from(self.per.as_nanos()).unwrap_or(u64::MAX);
        Pace { each: (nanos / u64::from(self.requests.max(1))).max(1), most: nanos }
    }

    /// Counts a request of that key.
    fn count(&self, key: u64, now: u64) -> Standing {
        let table = &self.tables[key as usize % TABLES];
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        table.count(key, now, self.pace(), (self.max_keys / TABLES).max(1))
    }

    fn told(&self, response: Response, standing: Standing) -> Response {
        let (name, window) = (self.name, self.per.as_secs().max(1));
        let policy = format!("\"{name}\";q={};w={window}", self.requests);
        let limit = format!("\"{name}\";r={};t={}", standing.left, seconds(standing.reset));
        // The name was checked at the start.
        let value = |text| HeaderValue::try_from(text).ok();
        let fields = [(POLICY, value(policy)), (LIMIT, value(limit))];
        fields.into_iter().fold(response, |response, (name, value)| match value {
            Some(value) => response.header(name, value),
            None => response,
        })
    }
}

impl Hook for RateLimit {
    fn before(&self, request: &mut Request) -> Option<Response> {
        let key = (self.key)(request, &self.hasher)?;
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let standing = self.count(key, now);
        if let Some(wait) = standing.wait {
            let message = "Too many requests; try again later.";
            let response = Error::request(StatusCode::TOO_MANY_REQUESTS, message).into_response();
            let response = response.header(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
            return Some(self.told(response, standing));
        }
        let told = Told(std::ptr::from_ref(self).addr(), standing);
        match request.extensions_mut().get_mut::<AllTold>() {
            Some(AllTold(all)) => all.push(told),
            None => {
                request.extensions_mut().insert(AllTold(vec![told]));
            }
        }
        None
    }

    fn after(&self, request: &Request, response: Response) -> Response {
        let all = request.extensions().get::<AllTold>().map_or(&[][..], |AllTold(all)| all);
        let own = all.iter().find(|told| told.0 == std::ptr::from_ref(self).addr());
        match own {
            Some(&Told(_, standing)) => self.told(response, standing),
            None => response,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let year = Duration::from_secs(366 * 24 * 60 * 60);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let wrong = if self.requests == 0 || self.per.is_zero() {
            "lets nobody ask: give it a number of requests and a time"
        } else if self.per > year {
            "counts for more than a year: give it a shorter time"
        } else if !self.name.chars().all(is_name) {
            "has a name that no field can have: use letters, digits, '-' and '_'"
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Configuration, format!("the rate limit {:?} {wrong}", self.name)))
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RateLimit({:?}: {} in {:?})", self.name, self.requests, self.per)
    }
}

/// What the limits around a request found: each by its address, and how the client stands.
#[derive(Clone)]
struct AllTold(Vec<Told>);

#[derive(Clone)]
struct Told(usize, Standing);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    /// Requests that may come at once.
    left: u64,
    /// After so many nanoseconds all may.
    reset: u64,
    /// This request came too early by so many nanoseconds.
    wait: Option<u64>,
}

/// In nanoseconds.
#[derive(Clone, Copy)]
struct Pace {
    /// What a request costs.
    each: u64,
    /// What may be owed.
    most: u64,
}

/// When the keys, by their hashes, will have earned all that they have used. Hashes cannot be chosen
/// from outside, since their seed is not known.
#[derive(Default)]
struct Table(HashMap<u64, u64>);

impl Table {
    fn count(&mut self, key: u64, now: u64, pace: Pace, max_keys: usize) -> Standing {
        let earned = self.0.get(&key).map_or(now, |&earned| earned.max(now));
        let after = earned.saturating_add(pace.each);
        let (owed, wait) = match (after - now).checked_sub(pace.most) {
            Some(beyond @ 1..) => (earned - now, Some(beyond)),
            _ => {
                if self.0.len() >= max_keys && !self.0.contains_key(&key) {
                    self.make_room(now, max_keys);
                }
                self.0.insert(key, after);
                (after - now, None)
            }
        };
        let left = pace.most.saturating_sub(owed) / pace.each;
        Standing { left, reset: owed, wait }
    }

    /// Forgets who has earned all back, who counts as much as one who never came. Where that is not
    /// half of them, then half of them: those who have used the least.
    fn make_room(&mut self, now: u64, max_keys: usize) {
        self.0.retain(|_, earned| *earned > now);
        if self.0.len() <= max_keys / 2 {
            return;
        }
        let mut times: Vec<u64> = self.0.values().copied().collect();
        let middle = times.len() / 2;
        let (_, &mut middle, _) = times.select_nth_unstable(middle);
        self.0.retain(|_, earned| *earned > middle);
    }
}

/// Whole seconds, never too few.
fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let limit = RateLimit::new(3, Duration::from_secs(6));
        let left: Vec<_> = (0..3).map(|_| limit.count(7, 5).left).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = Standing { left: 0, reset: 6 * SECOND, wait: Some(2 * SECOND) };
        assert_eq!(limit.count(7, 5), refused);
        assert_eq!(limit.count(7, 5), refused, "who is refused owes no more");
        assert_eq!(limit.count(8, 5).left, 2, "another has his own");
        let early = limit.count(7, 5 + SECOND);
        assert_eq!((early.left, early.wait), (0, Some(SECOND)));
        assert_eq!(limit.count(7, 5 + 2 * SECOND).wait, None, "one was earned");
        assert!(limit.count(7, 5 + 2 * SECOND).wait.is_some());
        assert_eq!(limit.count(7, 100 * SECOND).left, 2, "no more is earned than the burst");
    }

    #[test]
    fn keys_are_bounded_and_who_uses_most_is_remembered() {
        let limit = RateLimit::new(3, Duration::from_secs(6)).max_keys(160);
        for _ in 0..3 {
            assert_eq!(limit.count(0, 0).wait, None);
        }
        for key in 1..100_000 {
            assert_eq!(limit.count(key, 0).wait, None);
        }
        let keys: usize = limit.tables.iter().map(|table| table.lock().unwrap().0.len()).sum();
        assert!((TABLES..=160).contains(&keys), "{keys}");
        assert!(limit.count(0, 0).wait.is_some(), "many strangers do not free it");
        for key in (0..100_000).step_by(TABLES).skip(1) {
            limit.count(key, 60 * SECOND);
        }
        assert!(limit.tables[0].lock().unwrap().0.len() <= 10);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let minute = Duration::from_secs(60);
        assert!(RateLimit::new(1, minute).name("a-1_b").check().is_ok());
        for wrong in [
            RateLimit::new(0, minute),
            RateLimit::new(1, Duration::ZERO),
            RateLimit::new(1, Duration::MAX),
            RateLimit::new(1, minute).name("a\"b"),
        ] {
            assert!(wrong.check().is_err_and(|error| error.is_configuration()), "{wrong:?}");
        }
    }
}
