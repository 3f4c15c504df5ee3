//! The bytes of every case, those of single messages too, through real proxies: what a proxy forwards has to be read as the proxy
//! meant it, or refused.
//!
//! A proxy writes into each request what it takes its method, its target and its length to be. A
//! request that Wharf reads otherwise, or that bears no such word because the proxy never knew of
//! it, was smuggled.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wharf::{Backend, Request, Router, Server, ServerHandle};

use crate::case::{self, Case, Step};

/// Longer than a proxy takes to start, so that a test which hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a proxy takes to give up on what is never going to be whole.
const GIVES_UP: Duration = Duration::from_secs(10);
const MARKER: &[u8] = b"GET /marker HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn nothing_is_smuggled_through_nginx() {
    through("nginx", |folder, to| {
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {folder}/pid;\n\
             error_log stderr crit; events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_header_timeout 2s; client_body_timeout 2s;\n\
             client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;\n\
             fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n\
             upstream wharf {{ server {to}; keepalive 4; }}\n\
             server {{ listen unix:{folder}/socket; location / {{\n\
             proxy_pass http://wharf; proxy_http_version 1.1; proxy_request_buffering off;\n\
             proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n\
             proxy_set_header X-Meant \"$request_method $request_uri\";\n\
             proxy_set_header X-Meant-Length $content_length; }} }} }}\n"
        );
        let mut command = Command::new("nginx");
        command.args(["-p", folder, "-e", "stderr", "-c", &format!("{folder}/config")]);
        (config, command)
    });
}

#[test]
fn nothing_is_smuggled_through_haproxy() {
    through("haproxy", |folder, to| {
        let config = format!(
            "global\n  maxconn 64\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 2s\n  timeout server 5s\n\
             \x20 timeout http-request 2s\n  option http-keep-alive\n  http-reuse always\n\
             frontend front\n  bind unix@{folder}/socket\n\
             \x20 http-request set-header X-Meant \"%[method] %[pathq]\"\n\
             \x20 http-request set-header X-Meant-Length \"%[req.hdr(content-length)]\"\n\
             \x20 default_backend wharf\n\
             backend wharf\n  server wharf {to}\n"
        );
        let mut command = Command::new("haproxy");
        command.args(["-db", "-q", "-f", &format!("{folder}/config")]);
        (config, command)
    });
}

/// A process that ends with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Wharf was asked, and where that is not what the proxy meant.
#[derive(Default)]
struct Seen {
    markers: usize,
    requests: usize,
    wrong: Vec<String>,
}

fn through(proxy: &str, configure: impl Fn(&str, &str) -> (String, Command)) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let server = behind(seen.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a plain name");
    let (config, mut command) = configure(path, &server.local_address().to_string());
    std::fs::write(folder.path().join("config"), config).expect("a file");
    let started = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let _proxy = match started {
        Ok(child) => Proxy(child),
        Err(error) if std::env::var_os("WHARF_REQUIRE_PROXIES").is_none() => {
            return println!("not run: {proxy}: {error}");
        }
        Err(error) => panic!("{proxy} has to be there: {error}"),
    };
    let socket = folder.path().join("socket");
    let until = Instant::now() + PATIENCE;
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < until, "{proxy} does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let exchanges = case::all(&tests).into_iter().map(|case| (bytes(&case), case.name));
    let messages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wharf-http/tests/cases");
    for (bytes, name) in exchanges.chain(sent_as_messages(&messages)) {
        let wrong_before = seen.lock().unwrap().wrong.len();
        exchange(&socket, &[&bytes, MARKER].concat());
        for wrong in &mut seen.lock().unwrap().wrong[wrong_before..] {
            *wrong = format!("{name}: {wrong}");
        }
    }
    let mut answer = Vec::new();
    let until = Instant::now() + PATIENCE;
    // On a machine that is busy even this may take the proxy too long.
    while !answer.starts_with(b"HTTP/1.1 200") {
        let last = String::from_utf8_lossy(&answer);
        assert!(Instant::now() < until, "{proxy} serves nobody any more: {last}");
        answer = exchange(&socket, MARKER);
    }
    let seen = seen.lock().unwrap();
    assert!(seen.wrong.is_empty(), "through {proxy}:\n{}", seen.wrong.join("\n"));
    println!("{proxy}: {} requests, {} markers among them", seen.requests, seen.markers);
    assert!(seen.requests > 100 && seen.markers > 50, "{proxy} forwarded too little to tell");
}

/// A server that compares what it reads with what the proxy says.
fn behind(seen: Arc<Mutex<Seen>>) -> ServerHandle {
    let router = Router::new().fallback(move |request| {
        let mut seen = seen.lock().unwrap();
        seen.requests += 1;
        seen.markers += usize::from(request.path() == "/marker");
        seen.wrong.extend(misread(request));
        "ok"
    });
    let server = Server::bind("127.0.0.1:0").expect("loopback is there");
    let server = server.backend(Backend::Readiness).shards(1);
    server.start(router).expect("the server starts")
}

fn misread(request: &Request) -> Option<String> {
    let meant: Vec<&[u8]> = request
        .headers()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-meant"))
        .map(|(_, value)| value)
        .collect();
    let mut read = format!("{} {}", request.method(), request.path());
    if !request.query_string().is_empty() {
        read.push('?');
        read.push_str(request.query_string());
    }
    let meant = match meant[..] {
        [meant] => String::from_utf8_lossy(meant),
        _ => return Some(format!("{read}: the proxy said {} words of it", meant.len())),
    };
    let length = request.header("x-meant-length").unwrap_or_default();
    let read_length = request.body().len();
    // It may have come with zeros before it.
    let is_as_long = length.is_empty() || length.parse() == Ok(read_length);
    if !is_alike(&meant, &read) || !is_as_long {
        return Some(format!("read {read:?} of {read_length}, meant {meant:?} of {length:?}"));
    }
    None
}

/// To a handler an empty query is no query, and a URI without a path asks for `/`.
fn is_alike(meant: &str, read: &str) -> bool {
    let (method, target) = meant.split_once(' ').unwrap_or((meant, ""));
    let is_without_path = !target.starts_with('/') && read == format!("{method} /{target}");
    meant == read || meant == format!("{read}?") || is_without_path
}

/// What the cases of `wharf-http` read, each as bytes and name; chunks behind a head.
fn sent_as_messages(folder: &Path) -> Vec<(Vec<u8>, String)> {
    const HEAD: &[u8] = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let files = case::entries(folder).into_iter().flat_map(|section| case::entries(&section));
    let sent = files.map(|file| {
        let text = std::fs::read_to_string(&file).expect("a case is UTF-8");
        let head = if text.contains("\nread chunked\n") { HEAD } else { b"" };
        let lines = text.lines().filter_map(|line| line.strip_prefix("> "));
        let bytes = lines.flat_map(case::unescape).collect::<Vec<_>>();
        ([head, &bytes].concat(), case::name(folder, &file))
    });
    sent.collect()
}

/// All that a case sends.
fn bytes(case: &Case) -> Vec<u8> {
    let sent = case.steps.iter().filter_map(|step| match step {
        Step::Send(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    sent.collect::<Vec<_>>().concat()
}

/// Sends, closes that side, and takes what comes until the proxy closes the other.
fn exchange(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).expect("the proxy listens");
    stream.set_read_timeout(Some(GIVES_UP)).expect("not zero");
    stream.set_write_timeout(Some(GIVES_UP)).expect("not zero");
    let mut reader = stream.try_clone().expect("a second handle");
    let reading = std::thread::spawn(move || {
        let mut received = Vec::new();
        // A reset ends it as well as a close does.
        let _ = reader.read_to_end(&mut received);
        received
    });
    // A proxy that has refused what came before takes no more.
    let _ = stream.write_all(bytes);
    // haproxy takes a half-closed client for one that has left, so the sending side stays open
    // until something came or the proxy gave up.
    let until = Instant::now() + Duration::from_secs(4);
    while !reading.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = stream.shutdown(Shutdown::Write);
    reading.join().expect("reading does not panic")
}
