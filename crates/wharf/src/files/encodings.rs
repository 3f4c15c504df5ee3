//! Which encodings of a file a client takes, and by what extensions they are known.

use http::header::{self, HeaderValue};
use wharf_http::coding_weight;

use crate::Request;

/// A content coding, and the extension of files that are in it.
pub(super) struct Encoding {
    pub(super) name: HeaderValue,
    pub(super) extension: &'static str,
}

/// Best first, as far as the client does not care.
const ENCODINGS: [(&str, &str); 3] = [("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz")];

/// The encodings that the client takes, those first that it likes best (RFC 9110 section 12.5.3).
/// Empty if it would rather have the file as it is.
pub(super) fn accepted(request: &Request) -> impl Iterator<Item = Encoding> {
    let accept = || request.header_all(header::ACCEPT_ENCODING);
    let weight = |name: &str| coding_weight(accept(), name);
    let plain = weight("identity").unwrap_or(0);
    let mut liked: Vec<_> = ENCODINGS
        .into_iter()
        .filter_map(|(name, extension)| Some((weight(name)?, name, extension)))
        .filter(|&(weight, ..)| weight > 0 && weight >= plain)
        .collect();
    // Stable: our own order decides between equals.
    liked.sort_by_key(|&(weight, ..)| std::cmp::Reverse(weight));
    liked
        .into_iter()
        .map(|(_, name, extension)| Encoding { name: HeaderValue::from_static(name), extension })
}
