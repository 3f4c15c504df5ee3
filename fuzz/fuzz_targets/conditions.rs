//! Conditions: a list of tags means the same on one line and on several, and a date or a tag that
//! was given out is known again.
//!
//! Lines: the seconds of the present state, its tag, and two values of fields.
#![no_main]

use wharf_http::{Condition, EntityTag, Validators, evaluate_conditions};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(4, |&byte| byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (seconds, tag, first, second) = (line(), line(), line(), line());
    let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse::<u32>().ok());
    let seconds = u64::from(seconds.unwrap_or(784_111_777));
    let tag = EntityTag::parse(tag);
    let current = Validators { entity_tag: tag, last_modified: Some(seconds) };
    let date = wharf_http::Date::at(seconds);
    let evaluate = |method: &[u8], fields: &[(&[u8], &[u8])]| match evaluate_conditions(
        method,
        fields.iter().copied(),
        Some(&current),
        5_000_000_000,
    ) {
        Condition::Proceed { range } => (200, range.is_some()),
        Condition::NotModified => (304, false),
        Condition::Failed => (412, false),
    };
    for name in [b"if-match".as_slice(), b"if-none-match", b"if-range", b"if-modified-since"] {
        for method in [b"GET".as_slice(), b"PUT"] {
            evaluate(method, &[(name, first), (b"range", b"bytes=0-0"), (name, second)]);
        }
    }
    if EntityTag::parse(first).is_some() {
        let joined = [first, b",", second].concat();
        for name in [b"if-match".as_slice(), b"if-none-match"] {
            let apart = evaluate(b"GET", &[(name, first), (name, second)]);
            // A star is no member of a list.
            if second.trim_ascii() != b"*" {
                assert_eq!(apart, evaluate(b"GET", &[(name, &joined)]));
            }
        }
    }
    // Its own tag is found wherever it stands in a list.
    let text = std::str::from_utf8(input).unwrap_or_default().splitn(4, '\n').nth(1);
    if let (Some(_), Some(text)) = (tag, text) {
        let list = format!("\"x\", {text} , W/\"y\"");
        assert_eq!(evaluate(b"GET", &[(b"if-none-match", list.as_bytes())]).0, 304);
        let matches = if text.starts_with("W/") { 412 } else { 200 };
        assert_eq!(evaluate(b"PUT", &[(b"if-match", list.as_bytes())]).0, matches);
    }
    assert_eq!(evaluate(b"GET", &[(b"if-modified-since", date.as_bytes())]).0, 304);
    assert_eq!(evaluate(b"GET", &[(b"if-unmodified-since", date.as_bytes())]).0, 200);
    let dated = [(b"range".as_slice(), b"bytes=0-0".as_slice()), (b"if-range", date.as_bytes())];
    assert!(evaluate(b"GET", &dated).1);
});
