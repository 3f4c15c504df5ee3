//! An answer of an unnamed type, which is taken for one that borrows from the request.

use wharf::{Error, IntoResponse, Request, Router, get};

fn greet(request: &Request) -> impl IntoResponse {
    format!("Hello, {}!\n", request.path())
}

fn find(request: &Request) -> Result<impl IntoResponse, Error> {
    Ok(request.param::<String>("name")?)
}

fn main() {
    let _ = Router::new().get("/greet", greet).route("/find", get(find));
}
