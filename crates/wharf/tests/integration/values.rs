//! Values read from requests, and problems told, as they are on the wire.

use serde::Deserialize;
use wharf::{
    Backend, Error, Html, Json, Problem, Request, Response, Router, StatusCode, get, post,
};

use crate::support::{Answer, Client, on_every_backend, serve};

on_every_backend!(
    bodies_and_queries_are_values,
    problems_are_json_or_text_as_the_client_prefers,
    wharfs_own_refusals_are_text_unless_json_is_preferred,
    hooks_may_restyle_what_is_refused,
    forms_with_files_are_read_whole_or_while_they_come,
);

#[derive(Deserialize)]
struct Order<'r> {
    article: &'r str,
    count: u8,
}

fn order(request: &Request) -> Result<Json<String>, Error> {
    let Order { article, count } = match request.method().as_str() {
        "GET" => request.query()?,
        _ if request.path() == "/form" => request.form()?,
        _ => request.json()?,
    };
    Ok(Json(format!("{count} {article}")))
}

fn bodies_and_queries_are_values(backend: Backend) {
    let router = Router::new()
        .route("/json", post(order).inline())
        .post("/form", order)
        .route("/query", get(order).inline());
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/query?article=nut&count=3").text(), "\"3 nut\"");
    assert_eq!(client.get("/query?article=nut&count=300").status, 400);
    let mut post = |path: &str, media: &str, body: &str| {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {media}\r\n");
        client.send(format!("{head}content-length: {length}\r\n\r\n{body}")).answer()
    };
    let form = "application/x-www-form-urlencoded";
    assert_eq!(post("/form", form, "article=nut&count=3").text(), "\"3 nut\"");
    assert_eq!(post("/form", form, "article=nut").status, 422);
    let json = "application/json";
    let answer = post("/json", json, r#"{"article":"nut","count":3}"#);
    assert_eq!((answer.text(), answer.header("content-type")), ("\"3 nut\"", Some(json)));
    assert_eq!(post("/json", "text/plain", "{}").status, 415);
    assert_eq!(post("/json", json, "{").status, 400);
    let answer = post("/json", json, r#"{"article":"nut","count":"three"}"#);
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&problem["status"], &problem["field"]), (&422.into(), &"count".into()));
    assert!(!answer.text().contains("three"));
}

fn asking_for(client: &mut Client, path: &str, accept: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\n\r\n")).answer()
}

const BROWSERS: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn problems_are_json_or_text_as_the_client_prefers(backend: Backend) {
    let sold_out = |_: &Request| -> Result<(), Problem> {
        Err(Problem::new(StatusCode::CONFLICT).with_detail("Sold out."))
    };
    let router = Router::new().get("/pooled", sold_out).route("/inline", get(sold_out).inline());
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in ["/pooled", "/inline"] {
        for accept in ["*/*", "application/json", "image/png", "text/plain;q=0.1, */*"] {
            let answer = asking_for(&mut client, path, accept);
            assert_eq!(answer.status, 409);
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.header("vary"), Some("accept"));
            assert_eq!(
                answer.text(),
                r#"{"title":"Conflict","status":409,"detail":"Sold out."}"#,
                "{accept}"
            );
        }
        for accept in [BROWSERS, "text/plain"] {
            let answer = asking_for(&mut client, path, accept);
            assert_eq!((answer.status, answer.text()), (409, "Sold out.\n"), "{accept}");
        }
    }
}

fn wharfs_own_refusals_are_text_unless_json_is_preferred(backend: Backend) {
    let router = Router::new().post("/", |_| "").get("/panic", |_| -> String { panic!("oh") });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for accept in [BROWSERS, "*/*", "image/png"] {
        assert_eq!(asking_for(&mut client, "/none", accept).text(), "Not Found\n");
    }
    let answer = asking_for(&mut client, "/none", "application/json, */*;q=0.1");
    assert_eq!(answer.text(), r#"{"title":"Not Found","status":404}"#);
    let answer = asking_for(&mut client, "/", "application/problem+json");
    assert_eq!(answer.text(), r#"{"title":"Method Not Allowed","status":405}"#);
    assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
    let answer = asking_for(&mut client, "/panic", "application/json");
    assert_eq!(answer.text(), r#"{"title":"Internal Server Error","status":500}"#);
    let head = "POST / HTTP/1.1\r\nhost: a\r\naccept: application/json\r\n";
    let answer = client.send(format!("{head}content-length: 99999999999\r\n\r\n")).answer();
    assert_eq!(answer.status, 413);
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("longer"));
}

fn hooks_may_restyle_what_is_refused(backend: Backend) {
    let page = |_: Option<&Request>, response: Response| match response.problem() {
        Some(problem) => {
            let status = response.status();
            response.reworded((status, Html(format!("<h1>{problem}</h1>"))))
        }
        None => response,
    };
    let router = Router::new()
        .get("/sold-out", |_| Problem::new(StatusCode::CONFLICT).with_detail("Sold out."))
        .get("/own", |_| (StatusCode::CONFLICT, "a handler's own words"))
        .on_error(page);
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for (path, text) in [
        ("/none", "<h1>Not Found</h1>"),
        ("/sold-out", "<h1>Conflict: Sold out.</h1>"),
        ("/own", "a handler's own words"),
    ] {
        assert_eq!(asking_for(&mut client, path, "application/json").text(), text);
    }
    let answer = client.send("PUT /own HTTP/1.1\r\nhost: a\r\n\r\n").answer();
    assert_eq!(answer.text(), "<h1>Method Not Allowed</h1>");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"), "what is no word stays");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let answer = client.send("GET / HTTP/1.1\r\n\r\n").answer();
    assert!(answer.text().starts_with("<h1>Bad Request: "), "{}", answer.text());
}

fn forms_with_files_are_read_whole_or_while_they_come(backend: Backend) {
    let upload = |request: &Request| -> Result<String, Error> {
        let mut form = request.multipart()?;
        let mut seen = String::new();
        while let Some(part) = form.next_part()? {
            seen += part.name();
            seen += &match part.file_name().map(str::to_owned) {
                Some(file) => format!("={file}:{} ", part.copy_to(&mut std::io::sink())?),
                None => format!("={} ", part.text()?),
            };
        }
        Ok(seen)
    };
    let as_json = |request: &Request| request.json::<u8>().map(|_| "");
    let router = Router::new()
        .post("/whole", upload)
        .route("/streamed", post(upload).streaming())
        .route("/asks-wrongly", post(as_json).streaming());
    let server = serve(backend, router);
    let file = "x".repeat(300_000);
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nA file\r\n\
         --b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\n\
         Content-Type: text/plain\r\n\r\n{file}\r\n--b--\r\n"
    );
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=b\r\n\
             content-length: {length}\r\n\r\n"
        )
    };
    for path in ["/whole", "/streamed"] {
        let mut client = Client::connect(&server);
        let answer = client.send(head(path, body.len())).send(&body).answer();
        assert_eq!((answer.status, answer.text()), (200, "title=A file f=x.txt:300000 "), "{path}");
        // The connection is fit for more.
        let cut = &body[..200];
        let answer = client.send(head(path, cut.len())).send(cut).answer();
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        let mut client = Client::connect(&server);
        let chunked = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=b\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        assert_eq!(client.send(chunked).answer().status, 200, "{path}");
    }
    let head = "POST /asks-wrongly HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let answer =
        Client::connect(&server).send(format!("{head}content-length: 2\r\n\r\n7")).answer();
    assert_eq!(answer.status, 500, "half of it is still to come");
}
