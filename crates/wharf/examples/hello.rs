//! The smallest server: a greeting, with a name in the path.
//!
//! ```text
//! cargo run --release --example hello          # or with an address: 127.0.0.1:8080
//! curl http://127.0.0.1:8080/hello/Ada
//! ```

use wharf::{Error, Request, Router, Server};

fn hello(request: &Request) -> Result<String, Error> {
    Ok(format!("Hello, {}!\n", request.param::<&str>("name")?))
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let router = Router::new().get("/", |_| "Hello, world!\n").get("/hello/{name}", hello);
    Server::bind(address.as_str())?
        .on_start(|address| println!("listening on http://{address}"))
        .serve(router)
}
