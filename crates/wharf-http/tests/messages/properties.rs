//! What holds for every message: the oracle's answer, whatever the cuts; and httparse's consent.

use crate::transcript::{self, Outcome};
use crate::{case, inputs, oracle};
use proptest::prelude::*;
use wharf_http::{ChunkedDecoder, HeadLimits, RequestHead, Version};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_head_is_what_the_oracle_says_however_it_is_cut(
        bytes in inputs::head(),
        limits in inputs::head_limits(),
        seed: u64,
    ) {
        let expected = oracle::head(&bytes, &limits);
        for ends in transcript::cuts(bytes.len(), seed).into_iter().take(6) {
            prop_assert_eq!(&transcript::head(&bytes, &limits, &ends), &expected, "{:?}", ends);
        }
    }

    #[test]
    fn a_body_is_what_the_oracle_says_however_it_is_cut(
        bytes in inputs::body(),
        limits in inputs::chunked_limits(),
        seed: u64,
    ) {
        let expected = oracle::body(&bytes, &limits);
        for ends in transcript::cuts(bytes.len(), seed).into_iter().take(6) {
            prop_assert_eq!(&transcript::body(&bytes, &limits, &ends), &expected, "{:?}", ends);
        }
    }

    #[test]
    fn a_recycled_head_remembers_nothing(
        first in inputs::head(),
        second in inputs::head(),
        limits in inputs::head_limits(),
    ) {
        let mut head = RequestHead::new();
        let _ = transcript::head_into(&mut head, &first, &HeadLimits::default(), &[first.len() / 2]);
        head.clear();
        let recycled = transcript::head_into(&mut head, &second, &limits, &[]);
        prop_assert_eq!(recycled, transcript::head(&second, &limits, &[]));
    }

    #[test]
    fn a_recycled_decoder_remembers_nothing(
        first in inputs::body(),
        second in inputs::body(),
        limits in inputs::chunked_limits(),
    ) {
        let mut decoder = ChunkedDecoder::new(limits.clone());
        let _ = transcript::body_into(&mut decoder, &first, &[first.len() / 2]);
        decoder.clear();
        let recycled = transcript::body_into(&mut decoder, &second, &[]);
        prop_assert_eq!(recycled, transcript::body(&second, &limits, &[]));
    }

    #[test]
    fn random_bytes_come_to_what_the_oracle_says(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let limits = HeadLimits::default();
        prop_assert_eq!(transcript::head(&bytes, &limits, &[]), oracle::head(&bytes, &limits));
    }

    #[test]
    fn httparse_accepts_what_we_accept(bytes in inputs::head()) {
        check_against_httparse(&bytes);
    }
}

#[test]
fn the_oracle_agrees_with_the_corpus() {
    for case in case::all() {
        match case.reads {
            case::Reads::Head => assert_eq!(
                transcript::head(&case.input, &case.head_limits, &[]),
                oracle::head(&case.input, &case.head_limits),
                "{}",
                case.name
            ),
            case::Reads::Chunked => assert_eq!(
                transcript::body(&case.input, &case.chunked_limits, &[]),
                oracle::body(&case.input, &case.chunked_limits),
                "{}",
                case.name
            ),
        }
    }
}

#[test]
fn httparse_accepts_what_the_corpus_accepts() {
    for case in case::all() {
        if case.reads == case::Reads::Head {
            check_against_httparse(&case.input);
        }
    }
}

/// We are the stricter: what is whole for us is whole for httparse, and is read alike.
fn check_against_httparse(bytes: &[u8]) {
    let limits = HeadLimits { head_bytes: 65_535, ..HeadLimits::default() };
    let Outcome::Whole(len, head) = transcript::head(bytes, &limits, &[]) else { return };
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(bytes);
    // It knows but two versions; the others we take for the higher.
    // Empty lines may come first.
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).expect("a request line");
    let line_len = bytes[start..].windows(2).position(|two| two == b"\r\n");
    let minor = bytes[start + line_len.expect("the request line ends") - 1];
    if minor > b'1' {
        assert_eq!(parsed, Err(httparse::Error::Version));
        return;
    }
    assert_eq!(parsed, Ok(httparse::Status::Complete(len)));
    assert_eq!(request.method.map(str::as_bytes), Some(head.method.as_slice()));
    assert_eq!(request.path.map(str::as_bytes), Some(head.target.as_slice()));
    assert_eq!(request.version, Some(u8::from(head.version == Version::Http11)));
    let theirs = request.headers.iter();
    let theirs = theirs.map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec()));
    assert_eq!(theirs.collect::<Vec<_>>(), head.fields);
}
