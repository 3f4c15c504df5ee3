//! Handlers that are functions of the program's state.

use std::sync::Arc;

use crate::Request;

/// A handler made of a function that takes what the program shares, and then the request.
///
/// It holds a clone of the `Arc`. A closure would do the same, at greater length:
/// `move |request| handler(&state, request)`.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use wharf::{Error, Request, Router, with};
///
/// #[derive(Default)]
/// struct Shop {
///     orders: Mutex<Vec<String>>,
/// }
///
/// fn order(shop: &Shop, request: &Request) -> Result<String, Error> {
///     let mut orders = shop.orders.lock().expect("no holder panics");
///     orders.push(request.text()?.to_owned());
///     Ok(format!("order {}\n", orders.len()))
/// }
///
/// fn routes(shop: &Arc<Shop>) -> Router {
///     Router::new()
///         .post("/orders", with(shop, order))
///         .get("/orders", with(shop, |shop, _| shop.orders.lock().unwrap().join("\n")))
/// }
/// # routes(&Arc::new(Shop::default()));
/// ```
pub fn with<S, F, R>(
    state: &Arc<S>,
    handler: F,
) -> impl Fn(&Request) -> R + Send + Sync + 'static + use<S, F, R>
where
    S: ?Sized + Send + Sync + 'static,
    F: Fn(&S, &Request) -> R + Send + Sync + 'static, // `impl Trait` needs `+ use<>`
{
    let state = state.clone();
    move |request| handler(&state, request)
}
