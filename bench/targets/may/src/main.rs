//! may_minihttp: `target-may PORT`. It reads only Content-Length, and never refuses a request.
#![forbid(unsafe_code)]

use std::io::{self, Read};

use may_minihttp::{HttpServer, HttpService, Request, Response};
use target_contract as contract;

#[derive(Clone)]
struct Target;

impl HttpService for Target {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        match request.path() {
            "/plaintext" => plaintext(response),
            "/json" => {
                response.header("Content-Type: application/json").body_vec(contract::json());
            }
            "/body64k" => {
                response.header("Content-Type: application/octet-stream");
                response.body_mut().extend_from_slice(&contract::BODY_64K);
            }
            "/sleep" => {
                may::coroutine::sleep(contract::SLEEP);
                plaintext(response);
            }
            "/echo" => {
                response.header("Content-Type: application/octet-stream");
                let mut body = Vec::new();
                request.body().take(contract::BODY_LIMIT as u64).read_to_end(&mut body)?;
                response.body_vec(body);
            }
            path => match path.strip_prefix("/users/") {
                Some(id) => {
                    response.header("Content-Type: text/plain; charset=utf-8");
                    response.body_mut().extend_from_slice(id.as_bytes());
                }
                None => {
                    response.status_code(404, "Not Found");
                }
            },
        }
        Ok(())
    }
}

fn plaintext(response: &mut Response) {
    response.header("Content-Type: text/plain; charset=utf-8").body(contract::PLAINTEXT);
}

fn main() -> io::Result<()> {
    may::config().set_workers(contract::workers()).set_stack_size(0x1000);
    let server = HttpServer(Target).start(contract::address())?;
    contract::ready();
    server.join().map_err(|_| io::Error::other("the server's coroutine panicked"))
}
