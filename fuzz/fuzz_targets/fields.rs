//! Accept and Content-Type: whatever they say, what is read of them lies within. Each line is a
//! field's value.
#![no_main]

use wharf_http::{Media, negotiate};

fn lies_in(part: &str, whole: &str) -> bool {
    part.is_empty() || whole.as_bytes().as_ptr_range().contains(&part.as_ptr())
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    for value in input.lines() {
        let media = Media::of(value);
        assert!(lies_in(media.main, value) && lies_in(media.sub, value));
        let charset = media.parameter("charset").unwrap_or_default();
        assert!(lies_in(charset, value));
    }
    let accept = || input.lines().map(str::as_bytes);
    let offers = ["text/html", "application/json"];
    let best = negotiate(accept, &offers);
    // What wins among two is the only one that could win, or better than nothing by itself.
    if let Some(best) = best {
        assert!(negotiate(accept, &offers[best..=best]).is_some());
    } else {
        assert!(offers.iter().all(|offer| negotiate(accept, &[offer]).is_none()));
    }
});
