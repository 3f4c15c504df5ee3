//! The small examples, each as a process of its own. The guestbook has tests of its own.

use crate::programs::Program;
use crate::support::Client;

const LOOPBACK: &str = "127.0.0.1:0";

/// The numbers of so many events from a stream that begins with the answer's head.
fn ticks(client: &mut Client, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        // Chunks' sizes and ends are lines of their own.
        if let Some(number) = client.line_of_text().strip_prefix("id: ") {
            numbers.push(number.parse().expect("a number"));
        }
    }
    numbers
}

#[test]
fn sse_clock_ticks_and_sends_what_was_missed() {
    let clock = Program::start("sse-clock", &[LOOPBACK]);
    let mut first = clock.client();
    first.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n");
    let seen = ticks(&mut first, 2);
    assert_eq!(seen[1], seen[0] + 1);
    drop(first);
    let mut again = clock.client();
    again.send(format!("GET /events HTTP/1.1\r\nhost: a\r\nlast-event-id: {}\r\n\r\n", seen[0]));
    assert_eq!(ticks(&mut again, 3), [seen[0] + 1, seen[0] + 2, seen[0] + 3]);

    let page = clock.get("/");
    assert!(page.text().contains(&format!("<li value=\"{}\">", seen[0])), "{}", page.text());
    assert!(page.text().contains("<noscript><meta http-equiv=\"refresh\""));
    assert_eq!(clock.get("/style.css").header("content-type"), Some("text/css"));
    assert_eq!(clock.get("/clock.js").header("content-type"), Some("text/javascript"));
}
