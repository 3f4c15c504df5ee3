//! Conditions: a list of tags means the same on one line and on several, and a date or a tag that
//! was given out is known again.
#![no_main]

use wharf_http::{Condition, EntityTag, Validators, evaluate_conditions};

libfuzzer_sys::fuzz_target!(|input: (u32, Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (seconds, tag, first, second) = input;
    let tag = EntityTag::parse(&tag);
    let last_modified = Some(u64::from(seconds));
    let current = Validators { entity_tag: tag, last_modified };
    let date = wharf_http::Date::at(u64::from(seconds));
    let evaluate = |method: &[u8], fields: &[(&[u8], &[u8])]| {
        match evaluate_conditions(method, fields.iter().copied(), Some(&current), u64::MAX) {
            Condition::Proceed { range } => (200, range.is_some()),
            Condition::NotModified => (304, false),
            Condition::Failed => (412, false),
        }
    };
    for name in [b"if-match".as_slice(), b"if-none-match", b"if-range", b"if-modified-since"] {
        for method in [b"GET".as_slice(), b"PUT"] {
            evaluate(method, &[(name, &first), (b"range", b"bytes=0-0"), (name, &second)]);
        }
    }
    let joined = [first.as_slice(), b",", &second].concat();
    if EntityTag::parse(&first).is_some() {
        for name in [b"if-match".as_slice(), b"if-none-match"] {
            let apart = evaluate(b"GET", &[(name, &first), (name, &second)]);
            // A star is no member of a list.
            if second.trim_ascii() != b"*" {
                assert_eq!(apart, evaluate(b"GET", &[(name, &joined)]));
            }
        }
    }
    assert_eq!(evaluate(b"GET", &[(b"if-modified-since", date.as_bytes())]).0, 304);
    assert_eq!(evaluate(b"GET", &[(b"if-unmodified-since", date.as_bytes())]).0, 200);
    let dated = [(b"range".as_slice(), b"bytes=0-0".as_slice()), (b"if-range", date.as_bytes())];
    assert!(evaluate(b"GET", &dated).1);
});
