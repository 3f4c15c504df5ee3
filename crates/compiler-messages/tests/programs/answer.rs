//! An answer that is none.

use wharf::{Request, any};

struct Order;

fn order(_: &Request) -> Order {
    Order
}

fn main() {
    let _ = any(order);
}
