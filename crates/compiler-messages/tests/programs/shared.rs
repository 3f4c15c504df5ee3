//! State that only one thread may have.

use std::rc::Rc;

use wharf::any;

fn main() {
    let greeting = Rc::new("hello".to_owned());
    let _ = any(move |_| greeting.to_string());
}
