//! A Range field: what is given out lies inside, is disjoint, and no longer than there is.
#![no_main]

use wharf_http::{MAX_RANGES, Selection, select_ranges};

libfuzzer_sys::fuzz_target!(|input: (u64, Vec<u8>)| {
    let (length, rest) = input;
    // Arbitrary bytes hardly ever begin right, and must be ignored then.
    for value in [rest.clone(), [b"bytes=", rest.as_slice()].concat()] {
        let mut ranges = vec![1..2];
        let selection = select_ranges(&value, length, &mut ranges);
        assert_eq!(selection == Selection::Partial, !ranges.is_empty());
        assert!(ranges.len() <= MAX_RANGES);
        assert!(ranges.iter().all(|range| range.start < range.end && range.end <= length));
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        let is_ascii_list = value.iter().all(|byte| b"bytesBYTES=0123456789-, \t".contains(byte));
        assert!(selection == Selection::Whole || is_ascii_list, "{value:?} is no list of ranges");
    }
});
