//! The cases: which endpoint is asked, how, and by how many connections.

/// An endpoint of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /plaintext`
    Plaintext,
    /// `GET /json`
    Json,
    /// `GET /users/{id}`
    Users,
    /// `POST /echo` with 1 KiB
    Echo,
    /// `POST /echo` with 1 MiB
    EchoLarge,
    /// `GET /body64k`
    Body64k,
    /// `GET /file10m`
    File10m,
    /// `GET /sleep`
    Sleep,
    /// `GET /pooled`
    Pooled,
}

/// A case.
#[derive(Debug)]
pub struct Case {
    /// The name in `--cases` and in the report.
    pub name: &'static str,
    /// One line for the report.
    pub about: &'static str,
    /// The endpoint that is asked, if any is; also the plaintext, for [`Load::Mix`].
    pub endpoint: Endpoint,
    /// How it is asked.
    pub load: Load,
    /// Whether it runs only when it is asked for.
    pub slow: bool,
}

/// How an endpoint is asked.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// wrk: each connection asks again as soon as it has its answers.
    Wrk {
        /// Connections.
        connections: u32,
        /// Requests that a connection sends at once.
        pipelined: u32,
        /// With the header fields of a real browser.
        browser: bool,
    },
    /// A connection for each request.
    Reconnect {
        /// Connections at a time.
        connections: usize,
    },
    /// Connections that ask for what sleeps, beside others that ask for the plaintext.
    Mix {
        /// Those that wait.
        sleepers: usize,
        /// Those that do not.
        plain: usize,
    },
    /// Requests at fixed moments, whatever the server does.
    OpenLoop {
        /// Connections.
        connections: usize,
    },
    /// Connections that have had one answer and stay.
    Idle,
    /// The same with more connections than a process may have descriptors, in one server, while
    /// others ask at a fixed rate.
    IdleMany {
        /// Idle connections that are tried.
        connections: usize,
    },
    /// wrk, while the system calls are counted.
    SystemCalls,
    /// A bounded number of requests under callgrind.
    Instructions,
    /// No server at all: parsers of request heads.
    Parsers,
    /// No server at all: builds from cold.
    Build,
}

const fn wrk(connections: u32) -> Load {
    Load::Wrk { connections, pipelined: 1, browser: false }
}

const fn case(name: &'static str, about: &'static str, endpoint: Endpoint, load: Load) -> Case {
    Case { name, about, endpoint, load, slow: false }
}

/// All cases in the order of the report.
pub const CASES: &[Case] = &[
    case("plaintext-64", "a short text, 64 connections", Endpoint::Plaintext, wrk(64)),
    case("plaintext-256", "the same, 256 connections", Endpoint::Plaintext, wrk(256)),
    case(
        "pipelined-16",
        "the same, 64 connections, 16 requests at once on each",
        Endpoint::Plaintext,
        Load::Wrk { connections: 64, pipelined: 16, browser: false },
    ),
    case("json", "a JSON document, 64 connections", Endpoint::Json, wrk(64)),
    case("parameter", "a path's parameter, 64 connections", Endpoint::Users, wrk(64)),
    case(
        "browser",
        "the short text, asked with the 16 header fields of a browser, 64 connections",
        Endpoint::Plaintext,
        Load::Wrk { connections: 64, pipelined: 1, browser: true },
    ),
    case("echo-1k", "a body of 1 KiB, sent back, 64 connections", Endpoint::Echo, wrk(64)),
    case("echo-1m", "a body of 1 MiB, sent back, 16 connections", Endpoint::EchoLarge, wrk(16)),
    case("body-64k", "a response of 64 KiB, 64 connections", Endpoint::Body64k, wrk(64)),
    case("file-10m", "a file of 10 MiB, 16 connections", Endpoint::File10m, wrk(16)),
    case(
        "reconnect",
        "a connection for each request, 64 at a time",
        Endpoint::Plaintext,
        Load::Reconnect { connections: 64 },
    ),
    case(
        "mix",
        "16 connections ask for the short text while 64 ask for what sleeps 5 ms; the figures are \
         the former's",
        Endpoint::Sleep,
        Load::Mix { sleepers: 64, plain: 16 },
    ),
    case(
        "pooled-64",
        "the short text from the pool for blocking handlers, 64 connections",
        Endpoint::Pooled,
        wrk(64),
    ),
    case("pooled-16", "the same, 16 connections", Endpoint::Pooled, wrk(16)),
    case(
        "latency",
        "the short text at a fixed rate, 64 connections, each latency from the moment at which \
         the request was due",
        Endpoint::Plaintext,
        Load::OpenLoop { connections: 64 },
    ),
    case(
        "idle",
        "connections that have had one answer and stay; memory of the process alone",
        Endpoint::Plaintext,
        Load::Idle,
    ),
    Case {
        slow: true,
        ..case(
            "idle-many",
            "100,000 idle connections and 8 workers, while 64 connections ask for the short text \
             at a fixed rate",
            Endpoint::Plaintext,
            Load::IdleMany { connections: 100_000 },
        )
    },
    case(
        "system-calls",
        "system calls a request, 64 busy connections",
        Endpoint::Plaintext,
        Load::SystemCalls,
    ),
    case(
        "instructions",
        "user-space instructions a request, 64 busy connections, under callgrind",
        Endpoint::Plaintext,
        Load::Instructions,
    ),
    case(
        "parsers",
        "parsers of request heads alone; the least of many batches, and instructions by callgrind",
        Endpoint::Plaintext,
        Load::Parsers,
    ),
    case(
        "build",
        "`cargo build` from cold on two cores, in the development profile, of Wharf (with its \
         default features and bare) and of hyper (with the least that serves, with all \
         that it has for servers, and as its guide begins); processor time of all processes",
        Endpoint::Plaintext,
        Load::Build,
    ),
];

/// What a browser sends, apart from Host: 16 fields with it.
pub const BROWSER: &[(&str, &str)] = &[
    ("Connection", "keep-alive"),
    ("Cache-Control", "max-age=0"),
    ("sec-ch-ua", r#""Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99""#),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", r#""Linux""#),
    ("Upgrade-Insecure-Requests", "1"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/142.0.0.0 Safari/537.36",
    ),
    (
        "Accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
         image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
    ),
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-User", "?1"),
    ("Sec-Fetch-Dest", "document"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    (
        "Cookie",
        "session=4f8c1e0b7a2d4c5e9b3a6d7f8e1c2b3a; theme=dark; consent=1; _ga=GA1.1.1234567890.1700000000",
    ),
];

impl Endpoint {
    /// The path, where a server's plaintext is at `plaintext`.
    pub fn path(self, plaintext: &'static str) -> &'static str {
        match self {
            Endpoint::Plaintext => plaintext,
            Endpoint::Json => "/json",
            Endpoint::Users => "/users/12345",
            Endpoint::Echo | Endpoint::EchoLarge => "/echo",
            Endpoint::Body64k => "/body64k",
            Endpoint::File10m => "/file10m",
            Endpoint::Sleep => "/sleep",
            Endpoint::Pooled => "/pooled",
        }
    }

    /// The body that a right answer has, to a request with [`request_body`](Endpoint::request_body).
    pub fn right_body(self) -> Vec<u8> {
        match self {
            Endpoint::Plaintext | Endpoint::Sleep | Endpoint::Pooled => b"Hello, World!".to_vec(),
            Endpoint::Json => br#"{"message":"Hello, World!"}"#.to_vec(),
            Endpoint::Users => b"12345".to_vec(),
            Endpoint::Echo | Endpoint::EchoLarge => self.request_body(),
            Endpoint::Body64k => vec![b'x'; 65_536],
            Endpoint::File10m => pattern(10 << 20),
        }
    }

    /// The body to ask with.
    pub fn request_body(self) -> Vec<u8> {
        let bytes = match self {
            Endpoint::Echo => 1 << 10,
            Endpoint::EchoLarge => 1 << 20,
            _ => 0,
        };
        pattern(bytes)
    }

    /// Whether moving bytes is what it costs, so that the cost of each is worth a figure.
    pub fn is_large(self) -> bool {
        matches!(self, Endpoint::EchoLarge | Endpoint::Body64k | Endpoint::File10m)
    }
}

/// Bytes of which a piece in the wrong place is noticed.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..=250).cycle().take(bytes).collect()
}
