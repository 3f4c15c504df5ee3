//! Connections: keep-alive, pipelining, half-close, disappearing peers, panics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wharf::{Backend, CloseReason, Request, Router, get};

use crate::support::{Client, eventually, on_every_backend, serve};

on_every_backend! {
    pipelined_requests_are_answered_in_order,
    a_flood_of_pipelined_requests_loses_none,
    a_slow_handler_holds_up_only_its_own_connection,
    a_peer_that_closed_its_side_gets_its_answers,
    a_peer_that_vanishes_harms_nobody,
    a_panic_is_one_requests_own,
    a_slow_reader_gets_every_byte,
    many_connections_are_served_at_once,
    two_shards_serve_one_address,
    ipv6_is_served_and_ipv4_beside_it,
}

fn number(request: &Request) -> String {
    request.param("n").expect("the route has it")
}

fn mixed() -> Router {
    Router::new().route("/inline/{n}", get(number).inline()).get("/pooled/{n}", number)
}

fn pipelined_requests_are_answered_in_order(backend: Backend) {
    let server = serve(backend, mixed());
    let mut client = Client::connect(&server);
    let modes = ["inline", "pooled", "inline", "inline", "pooled", "none"];
    let bytes: String = (0..60)
        .map(|n| format!("GET /{}/{n} HTTP/1.1\r\nhost: a\r\n\r\n", modes[n % modes.len()]))
        .collect();
    client.send(bytes);
    for n in 0..60 {
        let answer = client.answer();
        match modes[n % modes.len()] {
            "none" => assert_eq!(answer.status, 404),
            _ => assert_eq!((answer.status, answer.text()), (200, &*n.to_string())),
        }
    }
}

fn a_flood_of_pipelined_requests_loses_none(backend: Backend) {
    const COUNT: usize = 20_000;
    let server = serve(backend, mixed());
    let mut client = Client::connect(&server);
    std::thread::scope(|scope| {
        let mut stream = client.stream().try_clone().expect("a second handle");
        scope.spawn(move || {
            let bytes: String = (0..COUNT)
                .map(|n| format!("GET /inline/{n} HTTP/1.1\r\nhost: a\r\n\r\n"))
                .collect();
            std::io::Write::write_all(&mut stream, bytes.as_bytes()).expect("all is taken");
        });
        // Nothing is read for a while, so that both directions fill up.
        std::thread::sleep(Duration::from_millis(200));
        for n in 0..COUNT {
            assert_eq!(client.answer().text(), n.to_string());
        }
    });
}

fn a_slow_handler_holds_up_only_its_own_connection(backend: Backend) {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let router = Router::new()
        .get("/slow", move |_| {
            gate.lock().unwrap().recv().expect("the test releases it");
            "slow"
        })
        .get("/pooled", |_| "fast")
        .route("/inline", get(|_| "fast").inline());
    let server = serve(backend, router);
    let mut slow = Client::connect(&server);
    slow.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\nGET /inline HTTP/1.1\r\nhost: a\r\n\r\n");
    for _ in 0..20 {
        let mut fast = Client::connect(&server);
        assert_eq!(fast.get("/pooled").text(), "fast");
        assert_eq!(fast.get("/inline").text(), "fast");
    }
    release.send(()).unwrap();
    assert_eq!(slow.answer().text(), "slow");
    assert_eq!(slow.answer().text(), "fast");
}

fn a_peer_that_closed_its_side_gets_its_answers(backend: Backend) {
    let server = serve(backend, mixed());
    for mode in ["inline", "pooled"] {
        let mut client = Client::connect(&server);
        client.send(format!(
            "GET /{mode}/1 HTTP/1.1\r\nhost: a\r\n\r\nGET /{mode}/2 HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        client.finish_sending();
        assert_eq!(client.answer().text(), "1");
        assert_eq!(client.answer().text(), "2");
        client.assert_closed();
    }
    let mut client = Client::connect(&server);
    client.send("GET /inline/1 HTTP/1.1\r\nho").finish_sending().assert_closed();
    assert_eq!(server.statistics().closed(CloseReason::Truncated), 1);
}

fn a_peer_that_vanishes_harms_nobody(backend: Backend) {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let router = mixed().get("/gated", move |_| {
        gate.lock().unwrap().recv().expect("the test releases it");
        count.fetch_add(1, Ordering::SeqCst);
        "too late"
    });
    let server = serve(backend, router);
    for bytes in ["", "GET /inl", "GET /gated HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut client = Client::connect(&server);
        client.send(bytes);
        let socket = socket2::SockRef::from(client.stream());
        socket.set_linger(Some(Duration::ZERO)).expect("a socket option");
        if bytes.contains("gated") {
            // The handler has begun, so this connection ends while its request is with a worker.
            eventually("a worker starts", || server.statistics().workers == 1);
        }
    }
    eventually("the connections are gone", || server.statistics().connections == 0);
    release.send(()).unwrap();
    eventually("the handler runs to its end", || served.load(Ordering::SeqCst) == 1);
    assert_eq!(Client::connect(&server).get("/pooled/5").text(), "5");
}

fn a_panic_is_one_requests_own(backend: Backend) {
    let router = mixed()
        .route("/panic/inline", get(|_| -> &'static str { panic!("on purpose") }).inline())
        .get("/panic/pooled", |_| -> &'static str { panic!("on purpose") });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in ["/panic/inline", "/panic/pooled"] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text()), (500, "Internal Server Error\n"));
    }
    assert_eq!(client.get("/inline/1").text(), "1", "the connection goes on");
    assert_eq!(client.get("/pooled/1").text(), "1", "the worker goes on");
    assert_eq!(server.statistics().panics, 2);
}

fn a_slow_reader_gets_every_byte(backend: Backend) {
    const LEN: usize = 8 << 20;
    let body = bytes::Bytes::from((0..LEN).map(|i| (i % 253) as u8).collect::<Vec<u8>>());
    let expected = body.clone();
    let server = serve(backend, Router::new().get("/", move |_| body.clone()));
    let mut client = Client::connect(&server);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..2 {
        assert!(client.answer().body == expected, "the body came changed");
    }
}

fn many_connections_are_served_at_once(backend: Backend) {
    let server = serve(backend, mixed());
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(&server)).collect();
    for round in 0..5 {
        for client in &mut clients {
            let mode = if round % 2 == 0 { "inline" } else { "pooled" };
            client.send(format!("GET /{mode}/{round} HTTP/1.1\r\nhost: a\r\n\r\n"));
        }
        for client in &mut clients {
            assert_eq!(client.answer().text(), round.to_string());
        }
    }
    assert_eq!(server.statistics().connections, 200);
    drop(clients);
    eventually("the connections are gone", || server.statistics().connections == 0);
    assert_eq!(server.statistics().closed(CloseReason::PeerClosed), 200);
}

fn two_shards_serve_one_address(backend: Backend) {
    let threads = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let seen = threads.clone();
    let handler = move |_: &Request| {
        let name = std::thread::current().name().unwrap_or("").to_owned();
        seen.lock().unwrap().insert(name);
        "ok"
    };
    let router = Router::new().route("/", get(handler).inline());
    let server = wharf::Server::bind("127.0.0.1:0").unwrap().backend(backend).shards(2);
    let server = server.start(router).unwrap();
    let clients: Vec<Client> = (0..64).map(|_| Client::connect(&server)).collect();
    for mut client in clients {
        assert_eq!(client.get("/").text(), "ok");
    }
    let threads = threads.lock().unwrap();
    assert_eq!(threads.iter().collect::<Vec<_>>(), ["wharf-shard-0", "wharf-shard-1"]);
}

fn ipv6_is_served_and_ipv4_beside_it(backend: Backend) {
    let server = match wharf::Server::bind("[::]:0") {
        Ok(server) => server.backend(backend).shards(2),
        Err(error) => return println!("not run: this machine has no IPv6: {error}"),
    };
    let router = Router::new().get("/", |request| request.peer().ip().to_canonical().to_string());
    let server = server.start(router).unwrap();
    let port = server.local_address().port();
    for address in ["::1", "127.0.0.1"] {
        let ip: std::net::IpAddr = address.parse().unwrap();
        let mut client = Client::connect_to((ip, port).into());
        assert_eq!(client.get("/").text(), address);
    }
}
