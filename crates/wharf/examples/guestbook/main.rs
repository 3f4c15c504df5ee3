//! A guestbook: a page in the browser, a JSON API beside it, and an SQLite file behind both.
//!
//! ```text
//! cargo run --release --example guestbook -- --listen 127.0.0.1:8080 --data guestbook.db
//! ```
//!
//! `page` and `api` hold the handlers, `draft` what visitors send, `store` what is kept. The
//! handlers are plain functions that wait for the disk: Wharf runs them on its worker pool, so
//! that nobody else waits with them.

mod api;
mod draft;
mod options;
mod page;
mod paging;
mod store;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use wharf::{Router, Server};

use crate::options::Options;
use crate::store::Store;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guestbook: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let Some(options) = Options::from_command_line()? else {
        return Ok(io::stdout().write_all(options::HELP.as_bytes())?);
    };
    // Wharf says through which of the system's interfaces it serves, and logs handlers' failures.
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(colours).with_target(false).init();
    // The address first: a second guestbook on the same port ends before it touches the file.
    let server = Server::bind(options.listen.as_str())?;
    let store = Arc::new(Store::open(&options.data)?);
    let router = Router::new().nest("/api", api::routes(&store)).nest("/", page::routes(&store));
    let announce = |address| {
        // Whoever closed our output does not want to know.
        let _ = writeln!(io::stdout(), "listening on http://{address}");
    };
    // Until Ctrl-C or SIGTERM. What has been asked by then is still answered.
    Ok(server.on_start(announce).serve(router)?)
}
