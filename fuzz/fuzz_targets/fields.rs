//! Cookie, Accept and Content-Type: whatever they say, what is read of them lies within.
#![no_main]

use wharf_http::{Media, cookies, negotiate};

fn lies_in(part: &str, whole: &str) -> bool {
    part.is_empty() || whole.as_bytes().as_ptr_range().contains(&part.as_ptr())
}

libfuzzer_sys::fuzz_target!(|values: Vec<&str>| {
    for value in &values {
        for (name, content) in cookies(value) {
            assert!(lies_in(name, value) && lies_in(content, value));
            assert!(!name.contains([';', '=']) && !content.contains(';'));
        }
        let media = Media::of(value);
        assert!(lies_in(media.main, value) && lies_in(media.sub, value));
        let charset = media.parameter("charset").unwrap_or_default();
        assert!(lies_in(charset, value));
    }
    let accept = || values.iter().map(|value| value.as_bytes());
    let offers = ["text/html", "application/json"];
    let best = negotiate(accept, &offers);
    // What wins among two is the only one that could win, or better than nothing by itself.
    if let Some(best) = best {
        assert!(negotiate(accept, &offers[best..=best]).is_some());
    } else {
        assert!(offers.iter().all(|offer| negotiate(accept, &[offer]).is_none()));
    }
});
