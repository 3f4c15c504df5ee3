//! Clients that ask too often.

use std::time::Duration;

use wharf::hooks::RateLimit;
use wharf::test::{Answer, App};
use wharf::{Router, get};

const HOUR: Duration = Duration::from_secs(3600);

fn app() -> App {
    let inner = Router::new()
        .route("/inline", get(|_| "fine").inline())
        .route("/pooled", get(|_| "fine").pooled())
        .hook(RateLimit::new(2, HOUR).name("by-address"));
    let by_key = RateLimit::new(1, HOUR)
        .name("by-key")
        .by(|request| request.header("x-api-key").map(str::to_owned));
    App::new(Router::new().nest("/in", inner).get("/", |_| "fine").hook(by_key))
}

fn ask(app: &App, path: &str, from: &str) -> Answer {
    app.get(path).from(from.parse().expect("an address")).send()
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let app = app();
    for (path, left, full_in) in [("/in/inline", "r=1", 1_800), ("/in/pooled", "r=0", 3_600)] {
        let answer = ask(&app, path, "10.1.1.1");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"by-address\";q=2;w=3600"));
        let said = answer.header("ratelimit").expect("it is said");
        let said = said.strip_prefix("\"by-address\";").and_then(|it| it.split_once(";t="));
        let (said_left, seconds) = said.expect("what is left, and when all is again");
        let seconds: u64 = seconds.parse().expect("seconds");
        // Some may have passed since the first one asked.
        assert!(said_left == left && (full_in - 800..=full_in).contains(&seconds), "{said:?}");
    }
    for path in ["/in/inline", "/in/pooled"] {
        let answer = ask(&app, path, "10.1.1.1");
        assert_eq!(answer.status(), 429, "the routes share the limit");
        let wait: u64 = answer.header("retry-after").expect("a time").parse().expect("seconds");
        assert!((1_000..=1_800).contains(&wait), "{wait}");
        assert_eq!(answer.headers().get_all("ratelimit").iter().count(), 1);
        assert!(answer.header("ratelimit").is_some_and(|it| it.contains(";r=0;")), "{answer:?}");
    }
    assert_eq!(ask(&app, "/in/inline", "10.1.1.2").status(), 200, "another address");
    assert_eq!(ask(&app, "/", "10.1.1.1").header("ratelimit"), None, "it has no key");
}

#[test]
fn one_ipv6_network_is_one_client() {
    let app = app();
    let statuses = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"]
        .map(|from| ask(&app, "/in/inline", from).status().as_u16());
    assert_eq!(statuses, [200, 200, 429, 200]);
}

#[test]
fn keys_are_the_programs_own_and_limits_add_up() {
    let app = app();
    let ask = |path, key| app.get(path).header("x-api-key", key).send();
    let first = ask("/in/inline", "a");
    let limits: Vec<_> = first.headers().get_all("ratelimit").iter().collect();
    assert_eq!(limits.len(), 2, "{limits:?}");
    assert_eq!(ask("/in/inline", "a").status(), 429);
    assert_eq!(ask("/", "b").status(), 200);
    assert_eq!(ask("/", "b").status(), 429);
}
