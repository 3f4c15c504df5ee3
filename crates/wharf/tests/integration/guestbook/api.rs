//! The JSON API.

use serde_json::json;

use super::{Directory, FORM, Guestbook, JSON, json};

#[test]
fn an_entry_is_made_shown_listed_and_deleted() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let made =
        guestbook.post_json(r#"{"name":" Ada ","message":"\u003cb\u003e\r\n\t\ud83c\udf0a"}"#);
    assert_eq!((made.status, made.header("location")), (201, Some("/api/entries/1")));
    assert_eq!(made.header("content-type"), Some("application/json"));
    let entry = json(&made);
    assert_eq!(entry["id"], 1);
    assert_eq!(entry["name"], "Ada");
    assert_eq!(entry["message"], "<b>\n\t🌊");
    let written_at = entry["written_at"].as_str().expect("a text");
    assert!(written_at.len() == 20 && written_at.ends_with('Z'), "{written_at}");

    assert_eq!(json(&guestbook.get("/api/entries/1")), entry);
    assert_eq!(json(&guestbook.get("/api/entries")), json!({"entries": [entry], "next": null}));
    assert_eq!(guestbook.send("DELETE", "/api/entries/1", "", "").status, 204);
    assert_eq!(guestbook.send("DELETE", "/api/entries/1", "", "").status, 404);
    assert_eq!(guestbook.get("/api/entries/1").status, 404);
    let next = json(&guestbook.post_json(r#"{"name":"Ada","message":"again"}"#));
    assert_eq!(next["id"], 2, "an id is not given twice");
}

#[test]
fn lists_have_bounds_and_lead_on() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let mut client = guestbook.client();
    for number in 1..=7 {
        let body = json!({"name": "Ada", "message": number.to_string()}).to_string();
        let request = super::request("POST", "/api/entries", JSON, body.as_bytes());
        assert_eq!(client.send(request).answer().status, 201);
    }
    let (mut next, mut seen) = (Some("/api/entries?limit=3".to_owned()), Vec::new());
    while let Some(path) = next {
        let list = json(&client.get(&path));
        let ids = list["entries"].as_array().expect("a list").iter().map(|entry| &entry["id"]);
        seen.push(ids.map(|id| id.as_i64().expect("a number")).collect::<Vec<_>>());
        next = list["next"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, [vec![7, 6, 5], vec![4, 3, 2], vec![1]]);
    let list = json(&client.get("/api/entries?before=3&limit=100"));
    assert_eq!(list["entries"].as_array().map(Vec::len), Some(2));
}

#[test]
fn what_is_wrong_is_told_in_a_problem_document() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let entry = |name: &str, message: &str| json!({"name": name, "message": message}).to_string();
    let post = |fields, body: String, status| ("POST", "/api/entries", fields, body, status);
    let get = |path, status| ("GET", path, "", String::new(), status);
    let cases = [
        post(JSON, String::new(), 400),
        post(JSON, "{".into(), 400),
        post(JSON, "{\"name\":\"Ada\",\"message\":\"\u{1}\"}".into(), 400),
        post("", entry("Ada", "x"), 415),
        post(FORM, entry("Ada", "x"), 415),
        post("content-type: application/jsonp\r\n", entry("Ada", "x"), 415),
        post(JSON, entry("Ada", &"x".repeat(64 * 1024)), 413),
        post(JSON, "[]".into(), 422),
        post(JSON, r#"["Ada","x"]"#.into(), 422),
        post(JSON, r#"{"name":"Ada"}"#.into(), 422),
        post(JSON, r#"{"name":1,"message":"x"}"#.into(), 422),
        post(JSON, entry(" \n", "x"), 422),
        post(JSON, entry("Ada", ""), 422),
        post(JSON, entry(&"ü".repeat(81), "x"), 422),
        post(JSON, entry("Ada", &"ü".repeat(2_001)), 422),
        post(JSON, entry("A\nda", "x"), 422),
        post(JSON, entry("Ada", "\u{0}"), 422),
        post(JSON, entry("Ada", "\u{9b}"), 422),
        get("/api/entries?limit=0", 400),
        get("/api/entries?limit=101", 400),
        get("/api/entries?limit=-1", 400),
        get("/api/entries?before=x", 400),
        get("/api/entries/x", 400),
        get("/api/entries/99999999999999999999", 400),
        get("/api/entries/7", 404),
        get("/api/none", 404),
        ("DELETE", "/api/entries/x", "", String::new(), 400),
    ];
    for (method, path, fields, body, status) in cases {
        let answer = guestbook.send(method, path, fields, &body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let problem = json(&answer);
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }
    assert!(guestbook.messages().is_empty());
}

#[test]
fn faults_are_told_field_by_field_and_the_longest_entry_is_kept() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let problem = json(&guestbook.post_json(r#"{"name":"","message":"\u0007"}"#));
    let fields: Vec<_> = problem["errors"].as_array().expect("a list").iter().collect();
    assert_eq!(fields[0]["field"], "name");
    assert_eq!(fields[1]["field"], "message");
    assert!(fields.len() == 2 && fields.iter().all(|fault| fault["detail"].is_string()));

    // Every character in twelve bytes, the most that JSON can make of one.
    let (name, message) = ("🌊".repeat(80), "🌊".repeat(2_000));
    let body = json!({"name": name, "message": message}).to_string();
    let made = guestbook.post_json(body.replace('🌊', "\\ud83c\\udf0a"));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(json(&made)["message"], message);
    let parameter = "content-type: Application/JSON ; charset=utf-8\r\n";
    assert_eq!(guestbook.send("POST", "/api/entries", parameter, &body).status, 201);
}

#[test]
fn methods_that_a_path_lacks_are_answered_with_those_it_has() {
    let directory = Directory::new();
    let guestbook = Guestbook::open(&directory.file("entries.db"));
    let answer = guestbook.send("PUT", "/api/entries", JSON, "{}");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST, HEAD, OPTIONS")));
    // A browser that asks for another site's page is not told that it may.
    let answer = guestbook.send("OPTIONS", "/api/entries", "origin: http://b\r\n", "");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}
