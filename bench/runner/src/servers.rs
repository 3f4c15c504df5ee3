//! The servers, and how each is started.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cases::Endpoint;

/// A server that is measured.
#[derive(Debug)]
pub struct Server {
    /// The name in `--only` and in the report.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// How it is started.
    pub start: Start,
    /// The endpoints that it has.
    pub endpoints: &'static [Endpoint],
    /// A path that stands in for `/plaintext`.
    pub plaintext: &'static str,
    /// The cases that it is there for; empty: all.
    pub cases: &'static [&'static str],
    /// Crates whose versions the report names, or none for programs of the system.
    pub crates: &'static [&'static str],
}

/// What a server is, which decides what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It parses nothing: no server can be faster by much.
    Limit,
    /// What this is about.
    Wharf,
    /// Handlers are futures or coroutines.
    Async,
    /// Handlers block.
    Blocking,
    /// A program of the system's packages.
    Program,
}

/// How a server is started.
#[derive(Debug)]
pub enum Start {
    /// A package of this workspace, with more variables in its environment.
    Target(&'static str, &'static [(&'static str, &'static str)]),
    /// nginx with a configuration that is written for it.
    Nginx,
    /// h2o with a configuration that is written for it.
    H2o,
}

use Endpoint::{Body64k, Echo, EchoLarge, File10m, Json, Plaintext, Pooled, Sleep, Users};

const ALL: &[Endpoint] =
    &[Plaintext, Json, Users, Echo, EchoLarge, Body64k, File10m, Sleep, Pooled];
/// Those of a server that has no way of its own to send a file.
const NO_FILE: &[Endpoint] = &[Plaintext, Json, Users, Echo, EchoLarge, Body64k, Sleep, Pooled];

const fn target(
    name: &'static str,
    kind: Kind,
    package: &'static str,
    crates: &'static [&'static str],
) -> Server {
    Server {
        name,
        kind,
        start: Start::Target(package, &[]),
        endpoints: ALL,
        plaintext: "/plaintext",
        cases: &[],
        crates,
    }
}

/// All servers, in the order in which they are measured.
pub const SERVERS: &[Server] = &[
    Server {
        endpoints: &[Plaintext],
        ..target("raw-uring", Kind::Limit, "target-raw-uring", &["io-uring"])
    },
    Server {
        endpoints: &[Plaintext],
        ..target("raw-epoll", Kind::Limit, "target-raw-epoll", &["libc"])
    },
    target("wharf", Kind::Wharf, "target-wharf", &["wharf"]),
    Server {
        endpoints: &[Plaintext, Sleep],
        plaintext: "/adaptive",
        ..target("wharf-adaptive", Kind::Wharf, "target-wharf", &["wharf"])
    },
    Server {
        start: Start::Target("target-wharf", &[("SLEEP", "pooled")]),
        endpoints: &[Plaintext, Sleep],
        plaintext: "/adaptive",
        cases: &["mix"],
        ..target("wharf-told", Kind::Wharf, "target-wharf", &["wharf"])
    },
    Server {
        start: Start::Target("target-wharf", &[("WHARF_BACKEND", "readiness")]),
        ..target("wharf-readiness", Kind::Wharf, "target-wharf", &["wharf"])
    },
    Server {
        endpoints: NO_FILE,
        ..target("hyper", Kind::Async, "target-hyper", &["hyper", "tokio"])
    },
    target("axum", Kind::Async, "target-axum", &["axum", "tower-http", "hyper", "tokio"]),
    target("actix-web", Kind::Async, "target-actix", &["actix-web", "actix-files"]),
    target("ntex", Kind::Async, "target-ntex", &["ntex", "ntex-files"]),
    target("ntex-uring", Kind::Async, "target-ntex-uring", &["ntex", "ntex-files"]),
    // It has no pool for blocking work: its coroutines are to be blocked by its own means alone.
    Server {
        endpoints: &[Plaintext, Json, Users, Echo, EchoLarge, Body64k, Sleep],
        ..target("may_minihttp", Kind::Async, "target-may", &["may_minihttp", "may"])
    },
    Server {
        endpoints: NO_FILE,
        ..target("xitca-web", Kind::Async, "target-xitca", &["xitca-web"])
    },
    Server {
        endpoints: NO_FILE,
        ..target("compio-axum", Kind::Async, "target-compio", &["compio", "cyper-axum", "axum"])
    },
    Server {
        endpoints: NO_FILE,
        ..target("monoio-http", Kind::Async, "target-monoio", &["monoio", "monoio-http"])
    },
    target("astra", Kind::Blocking, "target-astra", &["astra"]),
    target("tiny_http", Kind::Blocking, "target-tiny-http", &["tiny_http"]),
    target("rouille", Kind::Blocking, "target-rouille", &["rouille"]),
    Server {
        start: Start::Nginx,
        endpoints: &[Plaintext, Json, Users, Body64k, File10m],
        ..target("nginx", Kind::Program, "", &[])
    },
    Server {
        start: Start::H2o,
        endpoints: &[Plaintext, Json, Body64k, File10m],
        ..target("h2o", Kind::Program, "", &[])
    },
];

impl Server {
    /// The package to build, if it is built here.
    pub fn package(&self) -> Option<&'static str> {
        match self.start {
            Start::Target(package, _) => Some(package),
            Start::Nginx | Start::H2o => None,
        }
    }

    /// The command that serves on `port`. `binaries` has what was built; `scratch` is a folder for
    /// a configuration.
    pub fn command(&self, port: u16, binaries: &Path, scratch: &Path) -> io::Result<Vec<String>> {
        Ok(match self.start {
            Start::Target(package, _) => {
                vec![binaries.join(package).display().to_string(), port.to_string()]
            }
            Start::Nginx => {
                let path = nginx_configuration(port, scratch)?;
                let prefix = scratch.display().to_string();
                let path = path.display().to_string();
                ["nginx", "-p", &prefix, "-c", &path].map(str::to_owned).to_vec()
            }
            Start::H2o => {
                let path = h2o_configuration(port, scratch)?.display().to_string();
                ["h2o", "-m", "worker", "-c", &path].map(str::to_owned).to_vec()
            }
        })
    }

    /// Variables of the server's environment.
    pub fn variables(&self) -> &'static [(&'static str, &'static str)] {
        match self.start {
            Start::Target(_, variables) => variables,
            Start::Nginx | Start::H2o => &[],
        }
    }

    /// Whether the program that serves is there.
    pub fn is_installed(&self, binaries: &Path) -> bool {
        match self.start {
            Start::Target(package, _) => binaries.join(package).is_file(),
            Start::Nginx => answers(Command::new("nginx").arg("-v")),
            Start::H2o => answers(Command::new("h2o").arg("-v")),
        }
    }

    /// The version, as the program itself says it.
    pub fn program_version(&self) -> Option<String> {
        let mut command = match self.start {
            Start::Target(..) => return None,
            Start::Nginx => Command::new("nginx"),
            Start::H2o => Command::new("h2o"),
        };
        let output = command.arg("-v").output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
    }
}

/// Whether a program can be run.
pub fn answers(command: &mut Command) -> bool {
    command.output().is_ok()
}

/// The file of 10 MiB in the scratch folder.
pub const LARGE_FILE: &str = "file10m";

/// Writes the files that servers send.
pub fn write_files(scratch: &Path) -> io::Result<()> {
    fs::write(scratch.join(LARGE_FILE), File10m.right_body())?;
    fs::write(scratch.join("plaintext"), "Hello, World!")?;
    fs::write(scratch.join("json"), r#"{"message":"Hello, World!"}"#)?;
    fs::write(scratch.join("body64k"), [b'x'; 65_536])
}

/// One process, as its documentation has it for such answers: from memory where it can, else from
/// an open file.
fn nginx_configuration(port: u16, scratch: &Path) -> io::Result<PathBuf> {
    let root = scratch.display();
    let text = format!(
        r#"daemon off;
pid {root}/nginx.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; multi_accept on; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    open_file_cache max=100;
    etag off;
    default_type application/octet-stream;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096 reuseport;
        root {root};
        location = /plaintext {{
            default_type "text/plain; charset=utf-8";
            return 200 "Hello, World!";
        }}
        location = /json {{
            default_type application/json;
            return 200 '{{"message":"Hello, World!"}}';
        }}
        location ~ ^/users/(?<id>[^/]+)$ {{
            default_type "text/plain; charset=utf-8";
            return 200 $id;
        }}
    }}
}}
"#
    );
    let path = scratch.join("nginx.conf");
    fs::write(&path, text)?;
    Ok(path)
}

/// One thread, files held open by its own cache.
fn h2o_configuration(port: u16, scratch: &Path) -> io::Result<PathBuf> {
    let root = scratch.display();
    let text = format!(
        r#"num-threads: 1
max-connections: 19000
http1-request-timeout: 600
tcp-fastopen: 0
file.etag: OFF
file.send-compressed: OFF
server-name: h2o
listen:
  host: 127.0.0.1
  port: {port}
hosts:
  default:
    paths:
      /plaintext:
        file.file: {root}/plaintext
        file.mime.setdefaulttype: "text/plain; charset=utf-8"
      /json:
        file.file: {root}/json
        file.mime.setdefaulttype: application/json
      /body64k:
        file.file: {root}/body64k
        file.mime.setdefaulttype: application/octet-stream
      /file10m:
        file.file: {root}/file10m
        file.mime.setdefaulttype: application/octet-stream
"#
    );
    let path = scratch.join("h2o.conf");
    fs::write(&path, text)?;
    Ok(path)
}
