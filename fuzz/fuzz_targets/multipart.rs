//! A form with files: its parts are the same however it was cut, and data never has a boundary.
//!
//! The first byte says how it is cut at random, the others are the form.
#![no_main]

use wharf_http::{MultipartRefusal, MultipartSplitter, MultipartStep, PartHead};

type Transcript = (Vec<(PartHead, Vec<u8>)>, Result<bool, MultipartRefusal>);

/// The parts, and whether the body came to its end.
fn split(body: &[u8], mut cut: impl FnMut() -> usize) -> Transcript {
    let content_type = "multipart/form-data; boundary=b";
    let mut splitter = MultipartSplitter::new(content_type, 128).expect("a boundary that is one");
    let (mut parts, mut used, mut shown) = (Vec::<(PartHead, Vec<u8>)>::new(), 0, 0);
    loop {
        match splitter.step(&body[used..shown]) {
            Err(refusal) => return (parts, Err(refusal)),
            Ok(MultipartStep::End) => return (parts, Ok(true)),
            Ok(MultipartStep::More) if shown == body.len() => return (parts, Ok(false)),
            Ok(MultipartStep::More) => {
                assert!(shown - used < splitter.window(), "a window is enough");
                shown = body.len().min(shown + cut());
            }
            Ok(MultipartStep::Head(head, count)) => {
                parts.push((head, Vec::new()));
                used += count;
            }
            Ok(MultipartStep::Data(count)) => {
                assert!(count > 0);
                let part = parts.last_mut().expect("data is a part's");
                part.1.extend_from_slice(&body[used..used + count]);
                used += count;
            }
            Ok(MultipartStep::Skip(count) | MultipartStep::PartEnd(count)) => used += count,
        }
        assert!(used <= shown);
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&first, body)) = input.split_first() else { return };
    let mut seed = u64::from(first);
    let whole = split(body, || body.len());
    let bytewise = split(body, || 1);
    let at_random = split(body, || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 60) as usize + 1
    });
    // What a part had before it turned out to be truncated or broken depends on the cuts.
    let settled = |(mut parts, end): Transcript| {
        if end != Ok(true) {
            parts.pop();
        }
        (parts, end)
    };
    let whole = settled(whole);
    assert!(whole.0.iter().all(|(_, data)| !data.windows(5).any(|window| window == b"\r\n--b")));
    assert_eq!(settled(bytewise), whole);
    assert_eq!(settled(at_random), whole);
});
