//! A server inside a program that has a life of its own: it counts, and can be asked for its count
//! over HTTP whenever its operator wants that.
//!
//! ```text
//! cargo run --release --example embedded       # then type: stop, start, count, quit
//! ```
//!
//! What the program does and what the server shows meet in an `Arc`. A server is a value: it is
//! started where it is made, and is gone when it is shut down.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use wharf::{Router, Server, ServerHandle};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let count = Arc::new(AtomicU64::new(0));
    let work = count.clone();
    thread::spawn(move || {
        loop {
            work.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(100));
        }
    });

    let mut server = Some(start(address.parse()?, &count)?);
    // The port that it got, should the address have asked for any: it comes back on the same one.
    let address = server.as_ref().map_or(address.parse()?, ServerHandle::local_address);
    println!("listening on http://{address}");
    for line in io::stdin().lines() {
        match (line?.trim(), server.is_some()) {
            ("start", false) => server = Some(start(address, &count)?),
            ("stop", true) => stop(server.take()),
            ("start" | "stop", _) => println!("it is so already"),
            ("count", _) => println!("{}", count.load(Ordering::Relaxed)),
            ("quit", _) => break,
            _ => println!("type start, stop, count or quit"),
        }
    }
    stop(server);
    Ok(())
}

fn start(address: SocketAddr, count: &Arc<AtomicU64>) -> Result<ServerHandle, wharf::Error> {
    let count = count.clone();
    let router =
        Router::new().get("/count", move |_| format!("{}\n", count.load(Ordering::Relaxed)));
    // One thread is plenty for a window into a program.
    Server::bind(address)?.shards(1).start(router)
}

/// Lets those who have asked get their answers.
fn stop(server: Option<ServerHandle>) {
    if let Some(server) = server {
        let drained = server.shutdown(Duration::from_secs(2));
        println!(
            "stopped: {} connections ended by themselves, {} were cut",
            drained.drained, drained.cut
        );
    }
}
