//! Bodies that flow, in both directions.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use wharf::{
    Backend, BodyError, BodySender, CloseReason, Error, Event, EventSender, HeaderName,
    HeaderValue, Limits, Request, Response, Router, StatusCode, get, post,
};

use crate::support::{Client, PATIENCE, eventually, is_wine, on_every_backend, serve, serve_with};

on_every_backend! {
    bodies_are_read_iterated_and_written,
    a_known_length_is_announced_and_held,
    trailers_follow,
    old_clients_see_the_end_by_the_close,
    failures_cut_the_answer_off,
    slow_clients_hold_no_thread,
    a_channel_is_bounded_and_tells_when_the_client_goes,
    a_silent_channel_learns_that_its_client_closed,
    events_are_sent_and_end_when_the_server_drains,
    events_end_when_the_client_closes,
    an_upload_is_read_as_it_comes,
    a_reader_that_waits_stops_the_client,
    errors_of_a_body_are_told_apart,
    unread_bodies_are_skipped_or_end_the_connection,
    a_client_that_expects_100_gets_it_when_the_body_is_read,
    a_body_goes_back_while_it_comes,
    connections_are_taken_over,
    a_taken_over_connection_may_end_in_one_direction_first,
    handlers_see_that_their_client_has_gone,
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn ok() -> Response {
    Response::new(StatusCode::OK)
}

fn bodies_are_read_iterated_and_written(backend: Backend) {
    let large = pattern(3_000_000);
    let (read, written) = (large.clone(), large.clone());
    let router = Router::new()
        .get("/read", move |_| ok().body_reader(io::Cursor::new(read.clone())))
        .route("/inline", get(|_| ok().body_reader(&b"small"[..])).inline())
        .get("/iter", |_| ok().body_iter((0..1000).map(|n| Ok(format!("{n}\n")))))
        .get("/write", move |_| {
            let bytes = written.clone();
            ok().body_writer(move |body| bytes.chunks(7777).try_for_each(|it| body.write_all(it)))
        })
        .get("/nothing", |_| ok().body_reader(io::empty()));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        for path in ["/read", "/write"] {
            let answer = client.get(path);
            assert_eq!(answer.header("content-length"), None);
            assert!(answer.body == large, "{path}: {} bytes", answer.body.len());
            assert_eq!(client.line(), "");
        }
        assert_eq!(client.get("/inline").text(), "small");
        assert_eq!(client.line(), "");
        let lines: String = (0..1000).map(|n| format!("{n}\n")).collect();
        assert_eq!(client.get("/iter").text(), lines);
        assert_eq!(client.line(), "");
        assert_eq!(client.get("/nothing").text(), "");
        assert_eq!(client.line(), "");
    }
    client.send("HEAD /read HTTP/1.1\r\nhost: a\r\n\r\nGET /inline HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer_to_head().header("transfer-encoding"), Some("chunked"));
    assert_eq!(client.answer().text(), "small");
}

fn a_known_length_is_announced_and_held(backend: Backend) {
    let of = |length| move |_: &Request| ok().body_reader(&b"12345"[..]).content_length(length);
    let router = Router::new().get("/right", of(5)).get("/short", of(4)).get("/long", of(6));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        let answer = client.get("/right");
        assert_eq!(answer.header("content-length"), Some("5"));
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.text(), "12345");
    }
    for path in ["/short", "/long"] {
        let mut client = Client::connect(&server);
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let all = String::from_utf8(client.rest()).expect("ASCII");
        let announced = if path == "/short" { 4 } else { 6 };
        let body = all.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(body.len() < announced, "{path} is whole: {all}");
    }
    eventually("both are counted", || server.statistics().closed(CloseReason::AnswerAborted) == 2);
}

fn trailers_follow(backend: Backend) {
    let name = HeaderName::from_static("x-checksum");
    let (name2, name3) = (name.clone(), name.clone());
    let router = Router::new()
        .get("/read", move |_| {
            let name = name.clone();
            // A length behind the body is left out.
            let length = (wharf::header::CONTENT_LENGTH, HeaderValue::from_static("1"));
            let make = move || [(name, HeaderValue::from_static("7")), length];
            ok().body_reader(&b"abc"[..]).trailers(make)
        })
        .get("/write", move |_| {
            let name = name2.clone();
            ok().body_writer(move |body| {
                body.trailer(name, HeaderValue::from_static("7"));
                body.write_all(b"abc")
            })
        })
        .get("/push", move |_| {
            let (sender, response) = Response::channel();
            sender.send("abc").expect("there is room");
            sender.finish_with([(name3.clone(), HeaderValue::from_static("7"))]);
            response
        });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in ["/read", "/write", "/push"] {
        assert_eq!(client.get(path).text(), "abc", "{path}");
        assert_eq!(client.line(), "x-checksum: 7");
        assert_eq!(client.line(), "");
    }
}

fn old_clients_see_the_end_by_the_close(backend: Backend) {
    let server = serve(backend, Router::new().get("/", |_| ok().body_reader(&b"abc"[..])));
    let mut client = Client::connect(&server);
    client.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let all = String::from_utf8(client.rest()).expect("ASCII");
    assert!(all.contains("connection: close\r\n") && all.ends_with("\r\n\r\nabc"), "{all}");
    assert!(!all.contains("transfer-encoding") && !all.contains("content-length"), "{all}");
}

fn failures_cut_the_answer_off(backend: Backend) {
    struct Panics;
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("a reader's own fault")
        }
    }
    let fails = || io::Error::other("the disk is gone");
    let router = Router::new()
        .get("/iter", move |_| ok().body_iter([Ok("abc"), Err(fails())]))
        .get("/write", move |_| {
            ok().body_writer(move |body| {
                body.write_all(b"abc")?;
                body.flush()?;
                Err(fails())
            })
        })
        .get("/panic", |_| ok().body_reader(Panics))
        .get("/panic/write", |_| ok().body_writer(|_| panic!("a writer's own fault")))
        .get("/abort", |_| {
            let (sender, response) = Response::channel();
            sender.abort();
            response
        });
    let server = serve(backend, router);
    for (version, end) in [("1.1", "0\r\n\r\n"), ("1.0", "")] {
        for path in ["/iter", "/write", "/panic", "/panic/write", "/abort"] {
            let mut client = Client::connect(&server);
            client.send(format!("GET {path} HTTP/{version}\r\nhost: a\r\n\r\n"));
            if version == "1.0" {
                // Without chunks only a reset tells it from a whole body.
                client.assert_reset();
            } else {
                let all = String::from_utf8(client.rest()).expect("ASCII");
                assert!(!all.ends_with(end), "{path} looks whole: {all}");
            }
        }
    }
    // A panic is counted behind what it cuts off.
    eventually("all are counted", || {
        let now = server.statistics();
        (now.panics, now.closed(CloseReason::AnswerAborted)) == (4, 10)
    });
}

/// There is one worker. It is free although clients have stopped reading in the midst of answers
/// that never end.
fn slow_clients_hold_no_thread(backend: Backend) {
    let limits = Limits { workers: 1, ..Limits::default() };
    let router =
        Router::new().get("/endless", |_| ok().body_reader(io::repeat(b'x'))).get("/", |_| "here");
    let server = serve_with(backend, limits, router);
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Client::connect(&server);
            client.send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n");
            client.bytes(100_000);
            client
        })
        .collect();
    let mut client = Client::connect(&server);
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "here");
    }
    drop(stuck);
}

fn a_channel_is_bounded_and_tells_when_the_client_goes(backend: Backend) {
    let (hand_out, handed_out) = mpsc::channel::<BodySender>();
    let hand_out = Mutex::new(hand_out);
    let router = Router::new().get("/", move |_| {
        let (sender, response) = Response::channel();
        hand_out.lock().expect("no panic").send(sender).expect("the test listens");
        response
    });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let sender = handed_out.recv().expect("the handler runs");
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    sender.on_close(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    sender.send("hello").expect("the client is there");
    let clone = sender.clone();
    drop(sender);
    let head = client.bytes("HTTP/1.1 200 OK\r\n".len());
    assert_eq!(head, b"HTTP/1.1 200 OK\r\n");
    // A client that does not read fills the socket and then the queue.
    let piece = vec![b'x'; 16 * 1024];
    eventually("the queue is full", || {
        clone.try_send(piece.clone()) == Err(wharf::SendError::Full)
    });
    assert!(!clone.is_closed());
    drop(client);
    // There may be room for some more, and then it waits and is told.
    eventually("it is told", || clone.send(piece.clone()) == Err(wharf::SendError::Closed));
    assert!(clone.is_closed());
    eventually("it is called", || told.load(Ordering::SeqCst) == 1);
}

fn events_are_sent_and_end_when_the_server_drains(backend: Backend) {
    let (hand_out, handed_out) = mpsc::channel::<(Option<String>, EventSender)>();
    let hand_out = Mutex::new(hand_out);
    let router = Router::new().get("/", move |request: &Request| {
        let (events, response) = Response::events();
        let last = request.last_event_id().map(str::to_owned);
        hand_out.lock().expect("no panic").send((last, events)).expect("the test listens");
        response
    });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    client.send("GET / HTTP/1.1\r\nhost: a\r\nlast-event-id: 41\r\n\r\n");
    let (last, events) = handed_out.recv().expect("the handler runs");
    assert_eq!(last.as_deref(), Some("41"));
    events.send(&Event::new("hi").id(42)).expect("the client is there");
    let drained = std::thread::spawn(move || server.shutdown(PATIENCE));
    let answer = client.answer();
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.text(), "id: 42\ndata: hi\n\n");
    assert_eq!(client.line(), "");
    drop(client);
    assert_eq!(drained.join().expect("no panic").cut, 0);
    assert!(events.is_closed());
}

/// Nothing is sent that could tell that the client has gone.
fn events_end_when_the_client_closes(backend: Backend) {
    let (tell, told) = mpsc::channel::<()>();
    let tell = Mutex::new(tell);
    let kept = Mutex::new(Vec::new());
    let router = Router::new().get("/", move |_| {
        let (events, response) = Response::events();
        let tell = tell.lock().expect("no panic").clone();
        events.on_close(move || _ = tell.send(()));
        kept.lock().expect("no panic").push(events);
        response
    });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.bytes("HTTP/1.1 200 OK\r\n".len());
    drop(client);
    told.recv_timeout(PATIENCE).expect("the client has gone");
    eventually("it is counted", || server.statistics().closed(CloseReason::PeerClosed) == 1);
    eventually("nothing is left", || server.statistics().connections == 0);
}

/// Nothing is sent that would show it: the program is told as soon as the client closes its side,
/// but what was sent before reaches a client that still reads.
fn a_silent_channel_learns_that_its_client_closed(backend: Backend) {
    let (hand_out, handed_out) = mpsc::channel::<BodySender>();
    let hand_out = Mutex::new(hand_out);
    let router = Router::new().get("/", move |_| {
        let (sender, response) = Response::channel();
        sender.send("first").expect("there is room");
        hand_out.lock().expect("no panic").send(sender).expect("the test listens");
        response
    });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").finish_sending();
    let sender = handed_out.recv().expect("the handler runs");
    eventually("it is told", || sender.is_closed());
    let all = String::from_utf8(client.rest()).expect("ASCII");
    assert!(all.ends_with("5\r\nfirst\r\n"), "all but the end came: {all}");
    eventually("nothing is left", || server.statistics().connections == 0);
}

/// What came: how many bytes, and their sum.
fn digest(request: &Request) -> Result<String, Error> {
    let (mut reader, mut count, mut sum) = (request.reader(), 0, 0u64);
    let mut buffer = vec![0; 10_000];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            read => {
                count += read;
                sum += buffer[..read].iter().map(|&byte| u64::from(byte)).sum::<u64>();
            }
        }
    }
    let trailers = reader.trailers().len();
    Ok(format!("{count} {sum} {trailers}"))
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn an_upload_is_read_as_it_comes(backend: Backend) {
    let router = Router::new()
        .route("/up", post(digest).streaming().body_limit(1 << 30))
        .post("/whole", digest);
    let server = serve(backend, router);
    let body = pattern(4_000_000);
    let sum: u64 = body.iter().map(|&byte| u64::from(byte)).sum();
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        client.send(format!(
            "POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        assert_eq!(client.answer().text(), format!("4000000 {sum} 0"));
        client.send("POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(chunked(&body, 30_011)).send("0\r\nx-a: 1\r\nx-b: 2\r\n\r\n");
        assert_eq!(client.answer().text(), format!("4000000 {sum} 2"));
        client.send("POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(chunked(&body[..5000], 3)).send("0\r\n\r\n");
        let sum: u64 = body[..5000].iter().map(|&byte| u64::from(byte)).sum();
        assert_eq!(client.answer().text(), format!("5000 {sum} 0"));
        for path in ["/up", "/whole"] {
            client.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"));
            assert_eq!(client.answer().text(), "3 294 0", "{path}");
            client.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
            assert_eq!(client.answer().text(), "0 0 0", "{path}");
        }
    }
}

fn a_reader_that_waits_stops_the_client(backend: Backend) {
    const ALL: usize = 32 << 20;
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let handler = move |request: &Request| -> Result<String, Error> {
        wait.lock().expect("no panic").recv().expect("the test says so");
        digest(request)
    };
    let router = Router::new().route("/", post(handler).streaming().body_limit(ALL));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {ALL}\r\n\r\n"));
    let mut stream = client.stream().try_clone().expect("a descriptor");
    stream.set_nonblocking(true).expect("a socket option");
    let (mut sent, piece, mut stalls) = (0, vec![1; 1 << 20], 0);
    // What the kernel takes for itself is bounded too, and far less than all.
    while stalls < 50 {
        match stream.write(&piece) {
            Ok(count) => (sent, stalls) = (sent + count, 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stalls += 1;
                std::thread::sleep(Duration::from_millis(4));
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < ALL / 2, "nothing holds the client back");
    }
    go.send(()).expect("the handler waits");
    stream.set_nonblocking(false).expect("a socket option");
    while sent < ALL {
        let count = stream.write(&piece[..piece.len().min(ALL - sent)]).expect("it goes on");
        sent += count;
    }
    assert_eq!(client.answer().text(), format!("{ALL} {ALL} 0"));
}

fn errors_of_a_body_are_told_apart(backend: Backend) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let started = Arc::new(AtomicUsize::new(0));
    let (saw, count) = (seen.clone(), started.clone());
    let handler = move |request: &Request| -> Result<String, Error> {
        count.fetch_add(1, Ordering::SeqCst);
        digest(request).inspect_err(|error| {
            let body = std::error::Error::source(error).and_then(|it| it.downcast_ref());
            saw.lock().expect("no panic").push(body.copied());
        })
    };
    let handler = Arc::new(handler);
    let router = || {
        let handler = handler.clone();
        let post = post(move |request: &Request| handler(request));
        Router::new().route("/", post.streaming().body_limit(1000))
    };
    let server = serve(backend, router());
    let impatient = Limits { body_grace: Duration::from_millis(50), ..Limits::default() };
    let impatient = serve_with(backend, impatient, router());
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let last = |error| {
        eventually("the handler sees it", || seen.lock().expect("no panic").last() == Some(&error));
        seen.lock().expect("no panic").clear();
    };

    let mut client = Client::connect(&server);
    client.send(head).send(chunked(&[1; 2000], 600));
    assert_eq!(client.answer().status, 413);
    client.assert_closed();
    last(Some(BodyError::TooLarge));

    let mut client = Client::connect(&server);
    client.send(head).send("3e9\r\n");
    assert_eq!(client.answer().status, 413, "before the chunk has come");
    last(Some(BodyError::TooLarge));

    let mut client = Client::connect(&server);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n");
    assert_eq!(client.answer().status, 413, "before the handler is asked");

    let mut client = Client::connect(&server);
    client.send(head).send("3\r\nabc\r\nno\r\n");
    assert_eq!(client.answer().status, 400);
    client.assert_closed();
    last(Some(BodyError::Malformed));

    let mut client = Client::connect(&impatient);
    client.send(head).send("3\r\nabc\r\n");
    assert_eq!(client.answer().status, 408);
    client.assert_closed();
    last(Some(BodyError::Timeout));

    let mut client = Client::connect(&server);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc").finish_sending();
    assert_eq!(client.answer().status, 400);
    client.assert_closed();
    last(Some(BodyError::Truncated));

    let mut client = Client::connect(&server);
    let before = started.load(Ordering::SeqCst);
    client.send(head).send("3\r\nabc\r\n");
    eventually("the handler runs", || started.load(Ordering::SeqCst) > before);
    client.reset();
    eventually("the handler sees it", || {
        let last = seen.lock().expect("no panic").last().copied().flatten();
        last == Some(BodyError::Cancelled) || (is_wine() && last == Some(BodyError::Truncated))
    });
}

fn unread_bodies_are_skipped_or_end_the_connection(backend: Backend) {
    let ignore = |_: &Request| "ignored";
    let router = Router::new().route("/", post(ignore).streaming().body_limit(1 << 30));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 40000\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.text(), answer.header("connection")), ("ignored", None));
        client.send([b'x'; 40_000]);
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(client.answer().text(), "ignored");
        client.send(chunked(&[1; 20_000], 999)).send("0\r\n\r\n");
    }
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.text(), answer.header("connection")), ("ignored", Some("close")));
    client.send(vec![b'x'; 4_000_000]).assert_closed();
    // What has no known end is read up to a bound.
    let mut client = Client::connect(&server);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(client.answer().text(), "ignored");
    client.send(chunked(&[1; 400_000], 10_000)).assert_closed();
}

fn a_client_that_expects_100_gets_it_when_the_body_is_read(backend: Backend) {
    let router = Router::new()
        .route("/read", post(digest).streaming())
        .route("/ignore", post(|_: &Request| "ignored").streaming());
    let server = serve(backend, router);
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        )
    };
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        client.send(head("/read"));
        assert_eq!((client.line().as_str(), client.line().as_str()), ("HTTP/1.1 100 Continue", ""));
        client.send("abc");
        assert_eq!(client.answer().text(), "3 294 0");
    }
    client.send(head("/ignore"));
    let answer = client.answer();
    assert_eq!((answer.text(), answer.header("connection")), ("ignored", Some("close")));
    client.assert_closed();
}

fn a_body_goes_back_while_it_comes(backend: Backend) {
    let echo = |request: &Request| ok().body_reader(request.reader());
    let router = Router::new().route("/", post(echo).streaming().body_limit(1 << 30));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send("5\r\nhello\r\n");
        while client.line() != "" {}
        assert_eq!((client.line().as_str(), client.line().as_str()), ("5", "hello"));
        client.send("3\r\nyou\r\n");
        assert_eq!((client.line().as_str(), client.line().as_str()), ("3", "you"));
        client.send("0\r\n\r\n");
        assert_eq!((client.line().as_str(), client.line().as_str()), ("0", ""));
    }
    let body = pattern(5_000_000);
    let mut stream = client.stream().try_clone().expect("a descriptor");
    let upload = body.clone();
    let sending = std::thread::spawn(move || {
        let length = upload.len();
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&upload))
    });
    let answer = client.answer();
    sending.join().expect("no panic").expect("all is taken");
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
}

fn connections_are_taken_over(backend: Backend) {
    let shout = |mut stream: wharf::Upgraded| {
        let mut buffer = [0; 1000];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count].to_ascii_uppercase()).is_err() {
                break;
            }
        }
    };
    let router = Router::new()
        .get("/", move |_| Response::upgrade("shout", shout))
        .route("/inline", get(move |_| Response::upgrade("shout", shout)).inline())
        .connect(move |request: &Request| match request.host() {
            Some("shout:1") => Ok(Response::tunnel(shout)),
            _ => Err(StatusCode::FORBIDDEN),
        });
    let server = serve(backend, router);
    for path in ["/", "/inline"] {
        let mut client = Client::connect(&server);
        client.send(format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nupgrade: other, Shout\r\nconnection: upgrade\r\n\r\nearly"
        ));
        let answer = client.answer_to_head();
        assert_eq!((answer.status, answer.header("upgrade")), (101, Some("shout")));
        assert_eq!(answer.header("connection"), Some("upgrade"));
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(client.bytes(5), b"EARLY");
        let text = pattern(300_000).to_ascii_lowercase();
        for piece in text.chunks(50_000) {
            client.send(piece);
            assert!(client.bytes(piece.len()) == piece.to_ascii_uppercase());
        }
        client.stream().shutdown(Shutdown::Write).expect("connected");
        client.assert_closed();

        let mut client = Client::connect(&server);
        let answer = client.get(path);
        assert_eq!((answer.status, answer.header("upgrade")), (426, Some("shout")));
        assert_eq!(client.get(path).status, 426, "the connection is kept");
    }
    let mut client = Client::connect(&server);
    client.send("CONNECT other:1 HTTP/1.1\r\nhost: other:1\r\n\r\n");
    assert_eq!(client.answer().status, 403);
    client.send("CONNECT shout:1 HTTP/1.1\r\nhost: shout:1\r\n\r\nearly");
    let answer = client.answer_to_head();
    assert_eq!((answer.status, answer.header("content-length")), (200, None));
    assert_eq!(client.bytes(5), b"EARLY");
    client.finish_sending().assert_closed();
}

fn a_taken_over_connection_may_end_in_one_direction_first(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let router = Router::new().connect(move |_: &Request| {
        let tell = tell.lock().expect("no panic").clone();
        Response::tunnel(move |stream| {
            let (mut reader, mut writer) = stream.split();
            writer.write_all(b"bye").expect("the client is there");
            drop(writer);
            let mut all = String::new();
            let read = reader.read_to_string(&mut all);
            tell.send((read.is_ok(), all)).expect("the test listens");
        })
    });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    client.send("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
    assert_eq!(client.answer_to_head().status, 200);
    assert_eq!(client.rest(), b"bye");
    for _ in 0..3 {
        client.send("more ");
    }
    client.finish_sending();
    assert_eq!(told.recv().expect("it ends"), (true, "more more more ".to_owned()));
    eventually("nothing is left", || server.statistics().connections == 0);
}

fn handlers_see_that_their_client_has_gone(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let handler = move |request: &Request| {
        let tell = tell.lock().expect("no panic").clone();
        assert!(!request.is_cancelled());
        let by_call = tell.clone();
        request.on_cancel(move || by_call.send("told").expect("the test listens"));
        tell.send("started").expect("the test listens");
        eventually("the client goes", || request.is_cancelled());
        tell.send("seen").expect("the test listens");
    };
    let server = serve(backend, Router::new().get("/", handler));
    for reset in [true, false] {
        let mut client = Client::connect(&server);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(told.recv(), Ok("started"));
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        let mut events = [told.recv().expect("one"), told.recv().expect("two")];
        events.sort_unstable();
        assert_eq!(events, ["seen", "told"]);
    }
    eventually("nothing is left", || server.statistics().connections == 0);
    assert_eq!(server.statistics().panics, 0);
}
