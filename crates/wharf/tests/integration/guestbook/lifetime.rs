//! Starting, being killed, ending well, and what is left on the disk.

use std::fs;
#[cfg(unix)]
use std::net::TcpStream;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
#[cfg(unix)]
use std::process::Command;
use std::thread;

use rusqlite::Connection;
use serde_json::json;

use super::{Directory, Guestbook, JSON, request, run};
use crate::support::eventually;

/// Writers that post until the process is killed under them: whatever was answered is kept.
#[test]
fn what_was_answered_survives_a_kill() {
    let directory = Directory::new();
    let data = directory.file("entries.db");
    let mut answered = Vec::new();
    for round in 0..3 {
        let guestbook = Guestbook::open(&data);
        let address = guestbook.address;
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                thread::spawn(move || post_until_cut(address, &format!("{round}-{writer}")))
            })
            .collect();
        let enough = answered.len() + 40;
        eventually("entries are written", || guestbook.messages().len() > enough);
        guestbook.kill();
        answered.extend(writers.into_iter().flat_map(|writer| writer.join().expect("it ends")));
        let kept = Guestbook::open(&data).messages();
        for message in &answered {
            assert!(kept.contains(message), "{message} is lost");
        }
    }
    assert!(answered.len() > 90);
}

/// The messages that were answered with 201.
fn post_until_cut(address: SocketAddr, writer: &str) -> Vec<String> {
    // Wine may keep open what a process had accepted that is killed.
    let patience = std::time::Duration::from_secs(20);
    let config = ureq::Agent::config_builder().timeout_global(Some(patience));
    let agent = config.build().new_agent();
    let url = format!("http://{address}/api/entries");
    let post = |message: &String| {
        let body = json!({"name": "Ada", "message": message}).to_string();
        agent.post(&url).content_type("application/json").send(body)
    };
    let messages = (0..).map(|number| format!("{writer}-{number}"));
    messages
        .take_while(|message| post(message).is_ok_and(|answer| answer.status() == 201))
        .collect()
}

#[test]
fn a_form_and_a_deletion_survive_a_kill_that_follows_at_once() {
    let directory = Directory::new();
    let data = directory.file("entries.db");
    let guestbook = Guestbook::open(&data);
    assert_eq!(guestbook.post_form(&[("name", "Ada"), ("message", "one")]).status, 303);
    guestbook.kill();
    let guestbook = Guestbook::open(&data);
    assert_eq!(guestbook.messages(), ["one"]);
    assert_eq!(guestbook.post_form(&[("name", "Ada"), ("message", "two")]).status, 303);
    assert_eq!(guestbook.send("DELETE", "/api/entries/1", "", "").status, 204);
    guestbook.kill();
    assert_eq!(Guestbook::open(&data).messages(), ["two"]);
}

#[test]
fn readers_do_not_wait_for_a_writer() {
    let directory = Directory::new();
    let data = directory.file("entries.db");
    let guestbook = Guestbook::open(&data);
    let other = Connection::open(&data).expect("it is SQLite's");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    let mut client = guestbook.client();
    client.send(request("POST", "/api/entries", JSON, br#"{"name":"Ada","message":"later"}"#));
    assert_eq!(guestbook.get("/").status, 200);
    assert!(guestbook.messages().is_empty());
    other.execute_batch("ROLLBACK").expect("it was begun");
    assert_eq!(client.answer().status, 201);
}

#[cfg(unix)]
#[test]
fn a_full_disk_refuses_entries_and_loses_none() {
    let directory = Directory::new();
    let data = directory.file("entries.db");
    let guestbook = Guestbook::open_on_a_small_disk(&data, 128 * 1024);
    let mut kept = Vec::new();
    let refused = (0..1_000).find_map(|number| {
        let message = format!("{number}-{}", "x".repeat(100));
        let body = json!({"name": "Ada", "message": message}).to_string();
        let status = guestbook.send("POST", "/api/entries", JSON, body).status;
        if status == 201 {
            kept.push(message);
        }
        (status != 201).then_some(status)
    });
    assert!(refused.is_some_and(|status| status >= 500), "{refused:?}");
    assert!(!kept.is_empty());
    let assert_kept = |guestbook: &Guestbook| {
        let messages = guestbook.messages();
        assert!(kept.iter().all(|message| messages.contains(message)), "{messages:?}");
    };
    assert_eq!(guestbook.get("/").status, 200, "readers are served");
    assert_kept(&guestbook);
    guestbook.kill();
    let guestbook = Guestbook::open(&data);
    assert_kept(&guestbook);
    assert_eq!(guestbook.post_form(&[("name", "Ada"), ("message", "room again")]).status, 303);
}

#[cfg(unix)]
#[test]
fn a_process_that_is_stopped_goes_on_where_it_was() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let signal = |name: &str| {
        let process = guestbook.process.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &process]).status();
        assert!(sent.expect("there is kill").success());
    };
    let mut half = guestbook.client();
    half.send("GET / HTTP/1.1\r\nho");
    let mut idle = guestbook.client();
    assert_eq!(idle.get("/").status, 200);
    for _ in 0..3 {
        signal("STOP");
        // The kernel accepts it in the server's place.
        let mut new = guestbook.client();
        new.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        idle.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        thread::sleep(std::time::Duration::from_millis(100));
        signal("CONT");
        assert_eq!(new.answer().status, 200);
        assert_eq!(idle.answer().status, 200);
    }
    assert_eq!(half.send("st: a\r\n\r\n").answer().status, 200);
}

#[cfg(unix)]
#[test]
fn signals_drain_and_end_well() {
    for signal in ["TERM", "INT"] {
        let directory = Directory::new();
        let data = directory.file("entries.db");
        let mut guestbook = Guestbook::open(&data);
        let mut idle = guestbook.client();
        assert_eq!(idle.get("/").status, 200);
        // A request whose handler waits for this lock.
        let other = Connection::open(&data).expect("it is SQLite's");
        other.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
        let mut busy = guestbook.client();
        let body = br#"{"name":"Ada","message":"kept"}"#;
        let whole =
            request("POST", "/api/entries", &format!("{JSON}expect: 100-continue\r\n"), body);
        let (head, body) = whole.split_at(whole.len() - body.len());
        assert_eq!(busy.send(head).answer().status, 100);
        busy.send(body);

        let pid = guestbook.process.id().to_string();
        let killed = std::process::Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(killed.expect("every Unix has it").success());
        let refuses = || TcpStream::connect(guestbook.address).is_err();
        eventually("nobody listens", refuses);
        // Soon, as the handler waits for the lock no longer than some seconds.
        other.execute_batch("ROLLBACK").expect("it was begun");
        assert_eq!(busy.answer().status, 201, "what was asked is answered");
        idle.assert_closed();
        let mut status = None;
        eventually("it ends", || {
            status = guestbook.process.try_wait().expect("it is a child");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0), "SIG{signal}");
        drop(other);
        assert_eq!(Guestbook::open(&data).messages(), ["kept"]);
    }
}

#[test]
fn what_cannot_be_started_is_told_in_one_line() {
    let directory = Directory::new();
    let path = |name| directory.file(name).to_str().expect("the test's own names").to_owned();
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let taken = taken.local_addr().expect("it is bound").to_string();
    let free = "127.0.0.1:0";

    fs::write(path("text.db"), "not a database, although long enough to be taken for one").unwrap();
    make_database(&path("damaged.db"));
    damage(&path("damaged.db"));
    make_database(&path("short.db"));
    let file = fs::OpenOptions::new().write(true).open(path("short.db")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let other = Connection::open(path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)").unwrap();
    drop(other);
    let missing = directory.file("missing").join("a.db").to_str().unwrap().to_owned();
    let directory_path = directory.0.path().to_str().unwrap().to_owned();

    let cases: &[(&[&str], &str)] = &[
        (&["--listen", &taken, "--data", &path("a.db")], "cannot listen on"),
        (&["--listen", "here", "--data", &path("a.db")], "\"here\" is not an address"),
        (&["--listen", free, "--data", &missing], "cannot keep entries in"),
        (&["--listen", free, "--data", &directory_path], "it is a directory"),
        (&["--listen", free, "--data", &path("text.db")], "it is not an SQLite database"),
        (&["--listen", free, "--data", &path("damaged.db")], "the database is damaged"),
        (&["--listen", free, "--data", &path("short.db")], "the database is damaged"),
        (&["--listen", free, "--data", &path("other.db")], "it is another program's database"),
        (&["--port", "80"], "'--port'"),
        (&["--listen"], "--listen"),
        (&["entries.db"], "entries.db"),
    ];
    for (arguments, part) in cases {
        fails_with(arguments, part);
    }
    assert!(!directory.file("a.db").exists(), "who has no address makes no file");
    // Refused before anything was changed.
    let other = Connection::open(path("other.db")).unwrap();
    let mode: String = other.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
}

#[test]
fn a_file_that_cannot_be_written_is_told_at_the_start() {
    let directory = Directory::new();
    let data = directory.file("entries.db");
    make_database(data.to_str().expect("the test's own name"));
    let mut permissions = fs::metadata(&data).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&data, permissions.clone()).unwrap();
    if fs::OpenOptions::new().append(true).open(&data).is_ok() {
        println!("not run: root may write what is read-only");
    } else {
        fails_with(&["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()], "cannot keep");
    }
    // Windows deletes no read-only file.
    #[cfg(windows)]
    #[allow(clippy::permissions_set_readonly_false)]
    {
        permissions.set_readonly(false);
        fs::set_permissions(&data, permissions).unwrap();
    }
}

#[test]
fn help_is_asked_for_and_given() {
    let output = run(&["--help"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let help = String::from_utf8(output.stdout).expect("it is text");
    assert!(help.contains("--listen ADDR") && help.contains("--data FILE"), "{help}");
}

fn fails_with(arguments: &[&str], part: &str) {
    let output = run(arguments);
    let told = String::from_utf8(output.stderr).expect("it is text");
    assert!(output.status.code().is_some_and(|code| code != 0), "{arguments:?}: {told}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert!(told.starts_with("guestbook: ") && told.contains(part), "{arguments:?}: {told}");
    assert!(told.lines().count() == 1 && told.ends_with('\n'), "{arguments:?}: {told}");
}

/// A guestbook's database of some pages, all in the one file.
fn make_database(path: &str) {
    let guestbook = Guestbook::open(Path::new(path));
    for _ in 0..10 {
        let answer = guestbook.post_form(&[("name", "Ada"), ("message", &"x".repeat(2_000))]);
        assert_eq!(answer.status, 303);
    }
    guestbook.kill();
    let database = Connection::open(path).expect("it is SQLite's");
    database.execute_batch("PRAGMA journal_mode = DELETE").expect("nobody else has it");
}

/// Overwrites a page in the middle.
fn damage(path: &str) {
    let mut bytes = fs::read(path).expect("it was made");
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xaa);
    fs::write(path, bytes).expect("it is the test's own");
}
