//! A small reverse proxy, with a client that blocks. Bodies flow through it in both directions, so
//! that an upload or a download of any size takes a few blocks of memory.
//!
//! ```text
//! cargo run --release --example proxy -- 127.0.0.1:8081 http://127.0.0.1:8080
//! ```
//!
//! An upload holds a worker while it lasts, since that reads from one side and writes to the other.
//! A download does not: Wharf asks for its next piece when the client has room. Upgrades are not
//! passed on.

use std::time::Duration;

use ureq::{Agent, Body, SendBody};
use wharf::{
    BodyError, Error, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Router,
};
use wharf::{Server, StatusCode, Version, any, header};

/// Fields that speak of one connection alone (RFC 9110 section 7.6.1).
const OF_ONE_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(upstream)) = (arguments.next(), arguments.next()) else {
        return Err(
            "usage: proxy LISTEN UPSTREAM, as in 127.0.0.1:8081 http://127.0.0.1:8080".into()
        );
    };
    let agent = Agent::config_builder()
        // What the upstream says is the client's business, redirects and errors too.
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .allow_non_standard_methods(true)
        .user_agent("")
        .accept("")
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .build()
        .new_agent();
    let upstream = upstream.trim_end_matches('/').to_owned();
    let forward = any(move |request: &Request| forward(&agent, &upstream, request));
    let router = Router::new().fallback_route(forward.streaming().body_limit(usize::MAX));
    let server = Server::bind(listen.as_str())?;
    Ok(server.on_start(|address| println!("listening on http://{address}")).serve(router)?)
}

fn forward(agent: &Agent, upstream: &str, request: &Request) -> Result<Response, Error> {
    let query = request.query_string();
    let mark = if query.is_empty() { "" } else { "?" };
    let mut onward = ureq::http::Request::builder()
        .method(request.method())
        .uri(format!("{upstream}{}{mark}{query}", request.path()));
    if let Some(headers) = onward.headers_mut() {
        *headers = onward_fields(request);
    }
    let onward = onward.body(body(request)).map_err(Error::internal)?;
    let answer = agent.run(onward).map_err(bad_gateway)?;
    Ok(backward(request, answer))
}

/// The fields that go on: all but those of this hop, and who the client is.
fn onward_fields(request: &Request) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in request.headers() {
        // Wharf's parser has let them pass, so they are a field's name and value.
        let Ok(name) = HeaderName::try_from(name) else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        fields.append(name, value);
    }
    remove_hop(&mut fields);
    // Whether to say 100 is decided here: by reading the body.
    fields.remove(header::EXPECT);
    let before = fields.get(FORWARDED_FOR).and_then(|value| value.to_str().ok());
    let peer = request.peer().ip().to_string();
    let all = before.map_or(peer.clone(), |before| format!("{before}, {peer}"));
    if let Ok(value) = HeaderValue::try_from(all) {
        fields.insert(FORWARDED_FOR, value);
    }
    let via = if request.version() == Version::HTTP_10 { "1.0 wharf" } else { "1.1 wharf" };
    fields.append(header::VIA, HeaderValue::from_static(via));
    fields
}

/// Takes out what speaks of one hop, and what Connection names as such.
fn remove_hop(fields: &mut HeaderMap) {
    let named: Vec<String> = fields
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_owned()))
        .collect();
    for name in named {
        fields.remove(name.as_str());
    }
    for name in OF_ONE_HOP {
        fields.remove(name);
    }
}

/// The request's body as it comes.
fn body(request: &Request) -> SendBody<'static> {
    let has_body = request.header(header::TRANSFER_ENCODING).is_some()
        || request.header(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    match has_body {
        true => SendBody::from_owned_reader(request.reader()),
        false => SendBody::none(),
    }
}

/// The upstream's answer, with its body as it comes.
fn backward(request: &Request, answer: ureq::http::Response<Body>) -> Response {
    let (parts, body) = answer.into_parts();
    let mut fields = parts.headers;
    remove_hop(&mut fields);
    let length = fields.remove(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let mut response = Response::new(parts.status);
    for (name, value) in &fields {
        response = response.header(name, value);
    }
    let has_none = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match length {
        _ if has_none => response,
        Some(0) if *request.method() != Method::HEAD => response,
        Some(length) => response.body_reader(body.into_reader()).content_length(length),
        None => response.body_reader(body.into_reader()),
    }
}

/// What went wrong between here and the upstream; its address is not the client's to know.
fn bad_gateway(error: ureq::Error) -> Error {
    eprintln!("proxy: {error}");
    match error {
        // The client's own side failed: its body came too slowly, or not to its end.
        ureq::Error::Io(error) if error.get_ref().is_some_and(|it| it.is::<BodyError>()) => {
            Error::from(error)
        }
        ureq::Error::Timeout(_) => {
            Error::request(StatusCode::GATEWAY_TIMEOUT, "the server behind this one is too slow")
        }
        _ => Error::request(StatusCode::BAD_GATEWAY, "the server behind this one does not answer"),
    }
}
