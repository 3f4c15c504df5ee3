//! rouille: `target-rouille PORT`, with its own pool.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::thread;

use rouille::{Request, Response, Server};
use target_contract as contract;

/// Threads that run handlers, where the harness asks for no other number: as many as rouille's
/// documentation has them.
const THREADS: usize = 8;

fn main() {
    let server = match Server::new(contract::address(), route) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("cannot listen: {error}");
            std::process::exit(1);
        }
    };
    contract::ready();
    server.pool_size(contract::pool().unwrap_or(THREADS * contract::workers())).run();
}

fn route(request: &Request) -> Response {
    let path = request.url();
    match path.as_str() {
        "/plaintext" | "/pooled" => Response::text(contract::PLAINTEXT),
        "/json" => Response::from_data("application/json", contract::json()),
        "/body64k" => Response::from_data("application/octet-stream", &contract::BODY_64K[..]),
        "/file10m" => match File::open(contract::file()) {
            Ok(file) => Response::from_file("application/octet-stream", file),
            Err(_) => Response::empty_404(),
        },
        "/sleep" => {
            thread::sleep(contract::SLEEP);
            Response::text(contract::PLAINTEXT)
        }
        "/echo" => {
            let mut body = Vec::new();
            let read = request.data().and_then(|data| {
                data.take(contract::BODY_LIMIT as u64).read_to_end(&mut body).ok()
            });
            match read {
                Some(_) => Response::from_data("application/octet-stream", body),
                None => Response::empty_400(),
            }
        }
        path => match path.strip_prefix("/users/") {
            Some(id) => Response::text(id),
            None => Response::empty_404(),
        },
    }
}
