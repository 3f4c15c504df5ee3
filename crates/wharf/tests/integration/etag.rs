//! Answers that get a tag of their bytes.

use wharf::hooks::{Compress, Etag};
use wharf::test::App;
use wharf::{Response, Router, StatusCode, get, post};

fn long() -> String {
    "a line of a text\n".repeat(200)
}

fn router() -> Router {
    Router::new()
        .route("/inline", get(|request| format!("menu {}", request.query_string())).inline())
        .route("/pooled", get(|_| long()).pooled())
        .route("/", post(|_| "posted"))
        .get("/tagged", |_| Response::text("x").etag("own"))
        .get("/created", |_| (StatusCode::CREATED, "made"))
        .get("/empty", |_| "")
        .get("/private", |_| Response::text("x").header("cache-control", "no-store"))
        .get("/large", |_| "x".repeat(5_001))
        .get("/flows", |_| Response::text("").body_iter([Ok("x")]))
        .hook(Etag::new().max_bytes(5_000))
}

#[test]
fn who_has_an_answer_is_told_so() {
    let app = App::new(router());
    let first = app.get("/inline?1").send();
    let tag = first.header("etag").expect("it is tagged").to_owned();
    assert!(tag.starts_with('"') && tag.len() == 34, "{tag}");
    let again = app.get("/inline?1").header("if-none-match", &tag).send();
    assert_eq!(
        (again.status(), again.text(), again.header("etag")),
        (StatusCode::NOT_MODIFIED, "", Some(&*tag))
    );
    assert_eq!(app.head("/inline?1").send().header("etag"), Some(&*tag));
    let other = app.get("/inline?2").header("if-none-match", &tag).send();
    assert_eq!((other.status(), other.text()), (StatusCode::OK, "menu 2"));
    let part = app.get("/inline?1").header("range", "bytes=0-3").header("if-range", &tag).send();
    assert_eq!((part.status(), part.text()), (StatusCode::PARTIAL_CONTENT, "menu"));
}

#[test]
fn what_has_no_tag_of_its_own_use_gets_none() {
    let app = App::new(router());
    assert_eq!(app.get("/tagged").send().header("etag"), Some("\"own\""));
    assert_eq!(app.post("/").send().header("etag"), None);
    for path in ["/created", "/empty", "/private", "/large", "/flows", "/none"] {
        assert_eq!(app.get(path).send().header("etag"), None, "{path}");
    }
}

#[test]
fn weak_tags_are_no_ground_for_ranges() {
    let app = App::new(Router::new().get("/", |_| "menu").hook(Etag::new().weak()));
    let tag = app.get("/").send().header("etag").expect("it is tagged").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    assert_eq!(app.get("/").header("if-none-match", &tag).send().status(), 304);
    let whole = app.get("/").header("range", "bytes=0-1").header("if-range", &tag).send();
    assert_eq!((whole.status(), whole.text()), (StatusCode::OK, "menu"));
}

#[test]
fn tags_and_compression_go_together_in_either_order() {
    let inside = Router::new().hook(Compress::new()).nest("/", router());
    let outside =
        Router::new().nest("/", Router::new().get("/pooled", |_| long()).hook(Compress::new()));
    for (router, is_weak) in [(inside, true), (outside.hook(Etag::new()), false)] {
        let app = App::new(router);
        let ask = |tag: &str| {
            app.get("/pooled").header("accept-encoding", "gzip").header("if-none-match", tag).send()
        };
        let first = ask("\"other\"");
        assert_eq!(first.header("content-encoding"), Some("gzip"));
        let tag = first.header("etag").expect("it is tagged").to_owned();
        assert_eq!(tag.starts_with("W/"), is_weak, "{tag}");
        let again = ask(&tag);
        assert_eq!((again.status(), again.header("etag")), (StatusCode::NOT_MODIFIED, Some(&*tag)));
        assert_eq!(again.header("vary"), Some("accept-encoding"));
        let plain = app.get("/pooled").send();
        assert_eq!(plain.text(), long());
        assert_ne!(plain.header("etag"), Some(&*tag), "other bytes have another strong tag");
    }
}
