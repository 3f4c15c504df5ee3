//! Handlers that do not take a request, as those of other libraries.

use wharf::any;

fn nothing() -> &'static str {
    "hello"
}

fn extracted(name: String) -> String {
    name
}

fn main() {
    let _ = (any(nothing), any(extracted));
}
