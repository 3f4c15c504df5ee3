//! An error of the program's own that does not say what the client is told.

use wharf::{Error, Request, any};

#[derive(Debug)]
struct SoldOut;

impl std::error::Error for SoldOut {}

impl std::fmt::Display for SoldOut {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("sold out")
    }
}

fn reserve() -> Result<(), SoldOut> {
    Err(SoldOut)
}

fn with_question_mark(_: &Request) -> Result<(), Error> {
    Ok(reserve()?)
}

fn returned(_: &Request) -> Result<(), SoldOut> {
    reserve()
}

fn main() {
    let _ = (any(with_question_mark), any(returned));
}
