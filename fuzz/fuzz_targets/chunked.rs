//! A chunked body, whole and cut: it must come to what the oracle says.
#![no_main]
#![allow(dead_code, reason = "each target uses a part of the shared files")]

#[path = "../../crates/wharf-http/tests/messages/oracle.rs"]
mod oracle;
#[path = "../../crates/wharf-http/tests/messages/transcript.rs"]
mod transcript;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let seed = bytes.iter().fold(1, |sum: u64, &byte| sum.wrapping_mul(31) ^ u64::from(byte));
    let limits = wharf_http::ChunkedLimits::default();
    let expected = oracle::body(bytes, &limits);
    for ends in transcript::cuts(bytes.len(), seed).into_iter().take(4) {
        assert_eq!(transcript::body(bytes, &limits, &ends), expected);
    }
});
