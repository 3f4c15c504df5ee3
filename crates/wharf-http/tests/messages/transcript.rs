//! What comes of a message, however it is fed: owned and comparable.

use wharf_http::{
    ChunkedDecoder, ChunkedLimits, Framing, HeadLimits, Refusal, RequestHead, Span, TargetForm,
    Version,
};

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome<Whole> {
    /// It is good so far, and not whole.
    More,
    /// It is refused.
    Refused(Refusal),
    /// It is whole, and so many bytes long.
    Whole(usize, Whole),
}

/// All that a whole head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) form: TargetForm,
    pub(crate) path: Vec<u8>,
    pub(crate) query: Option<Vec<u8>>,
    pub(crate) authority: Option<Vec<u8>>,
    pub(crate) version: Version,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) host: Option<Vec<u8>>,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) upgrade: bool,
}

impl Head {
    fn of(head: &RequestHead, bytes: &[u8]) -> Head {
        let owned = |span: Span| span.of(bytes).to_vec();
        Head {
            method: owned(head.method()),
            target: owned(head.target()),
            form: head.form(),
            path: owned(head.path()),
            query: head.query().map(owned),
            authority: head.authority().map(owned),
            version: head.version(),
            fields: head.fields().iter().map(|f| (owned(f.name), owned(f.value))).collect(),
            host: head.host().map(owned),
            framing: head.framing(),
            keep_alive: head.keep_alive(),
            expects_continue: head.expects_continue(),
            upgrade: head.upgrade(),
        }
    }
}

/// Feeds a head so that each call sees the bytes up to the next of the ends, which must ascend,
/// and at last all bytes.
pub(crate) fn head(bytes: &[u8], limits: &HeadLimits, ends: &[usize]) -> Outcome<Head> {
    let mut head = RequestHead::new();
    head_into(&mut head, bytes, limits, ends)
}

/// The same with a head that has been used before.
pub(crate) fn head_into(
    head: &mut RequestHead,
    bytes: &[u8],
    limits: &HeadLimits,
    ends: &[usize],
) -> Outcome<Head> {
    for &end in ends.iter().chain([&bytes.len()]) {
        match head.parse(&bytes[..end], limits) {
            Err(refusal) => return Outcome::Refused(refusal),
            Ok(Some(len)) => {
                assert!(len <= end, "a head ends within what was fed");
                return Outcome::Whole(len, Head::of(head, &bytes[..end]));
            }
            Ok(None) => {}
        }
    }
    Outcome::More
}

/// All that a chunked body yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Feeds a chunked body in pieces with these ends. Of a body that is not whole, what data it
/// yielded is kept beside the outcome.
pub(crate) fn body(
    bytes: &[u8],
    limits: &ChunkedLimits,
    ends: &[usize],
) -> (Outcome<Body>, Vec<u8>) {
    body_into(&mut ChunkedDecoder::new(limits.clone()), bytes, ends)
}

/// The same with a decoder that has been used before.
pub(crate) fn body_into(
    decoder: &mut ChunkedDecoder,
    bytes: &[u8],
    ends: &[usize],
) -> (Outcome<Body>, Vec<u8>) {
    let (mut data, mut at) = (Vec::new(), 0);
    for &end in ends.iter().chain([&bytes.len()]) {
        while at < end && !decoder.is_done() {
            let piece = &bytes[at..end];
            let step = match decoder.decode(piece) {
                Ok(step) => step,
                Err(refusal) => return (Outcome::Refused(refusal), data),
            };
            assert!(step.consumed > 0 && step.consumed <= piece.len());
            assert!(step.data.is_empty() || step.data.end == step.consumed);
            assert_eq!(step.done, decoder.is_done());
            data.extend_from_slice(&piece[step.data]);
            at += step.consumed;
        }
    }
    if !decoder.is_done() {
        return (Outcome::More, data);
    }
    assert_eq!(decoder.decode(b"more").map(|step| step.consumed), Ok(0));
    let kept = decoder.trailer_bytes();
    let owned = |span: Span| span.of(kept).to_vec();
    let trailers = decoder.trailers().iter().map(|f| (owned(f.name), owned(f.value))).collect();
    (Outcome::Whole(at, Body { data: data.clone(), trailers }), data)
}

/// Ends of pieces: none but the last, every byte, and some at random, the same in every run.
pub(crate) fn cuts(len: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut ways = vec![Vec::new(), (0..len).collect()];
    let mut random = seed | 1;
    for _ in 0..20 {
        let mut ends = Vec::new();
        let mut at = 0;
        loop {
            // Xorshift: good enough to choose cuts, and needs no crate.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let step = if random & 0x100 == 0 { 3 } else { len / 4 + 1 };
            at += 1 + (random >> 32) as usize % step;
            if at >= len {
                break;
            }
            ends.push(at);
        }
        ways.push(ends);
    }
    ways
}
