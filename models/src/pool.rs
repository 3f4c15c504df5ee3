//! The worker pool's parts that know no requests.

#[path = "../../crates/wharf/src/pool/crew.rs"]
pub(crate) mod crew;
#[path = "../../crates/wharf/src/pool/lanes.rs"]
pub(crate) mod lanes;
