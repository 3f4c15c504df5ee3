//! A Range field, to a plain reading of it: all that is asked for is given out, and nothing else but
//! small gaps; what is given out lies inside and is disjoint.
//!
//! The first line is the length, the rest the value.
#![no_main]

use wharf_http::{MAX_RANGES, Selection, select_ranges};

/// Of ranges that lie this close one is made.
const GAP: u128 = 80;

/// First and behind the last byte that each member asks for. None: the field is to be ignored.
fn asked(value: &str, length: u128) -> Option<Vec<(u128, u128)>> {
    let (unit, list) = value.split_once('=')?;
    let members: Vec<&str> = list
        .split(',')
        .map(|it| it.trim_matches([' ', '\t']))
        .filter(|it| !it.is_empty())
        .collect();
    if !unit.eq_ignore_ascii_case("bytes") || members.is_empty() || members.len() > MAX_RANGES {
        return None;
    }
    let number = |text: &str| {
        let is_one = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_one.then(|| text.parse::<u128>().unwrap_or(u128::MAX).min(1 << 64))
    };
    members
        .into_iter()
        .map(|member| match member.split_once('-')? {
            ("", last) => Some((length.saturating_sub(number(last)?), length)),
            (first, "") => Some((number(first)?, length)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                // Beyond all lengths it does not matter which is greater.
                (first <= last || last >= u128::from(u64::MAX))
                    .then_some((first, length.min(last + 1)))
            }
        })
        .collect()
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (length, value) = input.split_once('\n').unwrap_or(("500", input));
    let length: u64 = length.parse().unwrap_or(500);
    let mut ranges = vec![1..2];
    let selection = select_ranges(value.as_bytes(), length, &mut ranges);
    assert_eq!(selection == Selection::Partial, !ranges.is_empty());
    assert!(ranges.iter().all(|range| range.start < range.end && range.end <= length));

    let Some(asked) = asked(value, u128::from(length)) else {
        return assert_eq!(selection, Selection::Whole, "{value:?} is no list of ranges");
    };
    let asked: Vec<_> = asked.into_iter().filter(|(start, end)| start < end).collect();
    assert_eq!(selection == Selection::Partial, !asked.is_empty(), "{value:?} of {length}");
    let holds = |start: u128, end: u128| {
        ranges.iter().any(|it| u128::from(it.start) <= start && end <= u128::from(it.end))
    };
    assert!(asked.iter().all(|&(start, end)| holds(start, end)), "{value:?}: {ranges:?}");
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|two| two[0].end < two[1].start), "{ranges:?}");
    let mut sorted = asked;
    sorted.sort_unstable();
    for range in ranges {
        let (mut at, end) = (u128::from(range.start), u128::from(range.end));
        assert!(sorted.iter().any(|&(start, _)| start == at), "{value:?}: {at} was not asked for");
        for &(start, end) in sorted.iter().filter(|it| it.0 < end) {
            if start <= at + GAP {
                at = at.max(end);
            }
        }
        assert_eq!(at, end, "{value:?}: more than was asked for");
    }
});
