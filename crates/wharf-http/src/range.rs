//! Byte ranges: which parts of a representation a client asks for (RFC 9110 section 14).
//!
//! Whether the field applies at all is [`evaluate_conditions`](crate::evaluate_conditions)' to say.

use std::io::Write as _;
use std::ops::Range;

use crate::fields::members;

/// What a Range field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it: the field is malformed, of another unit, or asks for too many parts; it is
    /// ignored (RFC 9110 section 14.2).
    Whole,
    /// The ranges that were given out: at least one.
    Partial,
    /// Nothing that there is: `416 Range Not Satisfiable`.
    Unsatisfiable,
}

/// Ranges in one field beyond which it is ignored.
pub const MAX_RANGES: usize = 64;
/// Ranges that lie this close are made one: a part of its own takes about as many bytes to send.
const MAX_GAP_BYTES: u64 = 80;

/// Reads the value of a Range field that is asked of `length` bytes. The ranges replace what is in
/// `ranges`, in the order in which they were asked for.
///
/// A short field could ask for a long representation many times over, or for so many small parts
/// that their heads outweigh them (RFC 9110 section 17.15). So ranges that overlap, touch, or lie
/// within 80 bytes of each other are made one (section 15.3.7.2 allows it), and a field with more
/// than [`MAX_RANGES`] is ignored. What is given out is disjoint, and never more than `length`.
///
/// ```
/// use wharf_http::{Selection, select_ranges};
///
/// let mut ranges = Vec::new();
/// assert_eq!(select_ranges(b"bytes=0-9, -500", 10_000, &mut ranges), Selection::Partial);
/// assert_eq!(ranges, [0..10, 9_500..10_000]);
/// assert_eq!(select_ranges(b"bytes=10000-", 10_000, &mut ranges), Selection::Unsatisfiable);
/// assert_eq!(select_ranges(b"lines=1-2", 10_000, &mut ranges), Selection::Whole);
/// ```
#[must_use]
pub fn select_ranges(value: &[u8], length: u64, ranges: &mut Vec<Range<u64>>) -> Selection {
    ranges.clear();
    let selection = read(value, length, ranges);
    if selection != Some(Selection::Partial) {
        ranges.clear();
    }
    selection.unwrap_or(Selection::Whole)
}

/// None: the field is to be ignored.
fn read(value: &[u8], length: u64, ranges: &mut Vec<Range<u64>>) -> Option<Selection> {
    let equals = value.iter().position(|&byte| byte == b'=')?;
    // Names of units have no case (RFC 9110 section 14.1).
    if !value[..equals].eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut count = 0;
    let mut is_empty_suffix = false;
    for spec in members(&value[equals + 1..]) {
        count += 1;
        if count > MAX_RANGES {
            return None;
        }
        match resolve(spec, length)? {
            Some(range) if range.is_empty() => is_empty_suffix = true,
            Some(range) => join(ranges, range),
            None => {}
        }
    }
    match count {
        0 => None,
        _ if !ranges.is_empty() => Some(Selection::Partial),
        // The last bytes of nothing are satisfiable, but no Content-Range can say so.
        _ if is_empty_suffix => None,
        _ => Some(Selection::Unsatisfiable),
    }
}

/// What one member asks for (RFC 9110 section 14.1.1). `None`: it is malformed, and the field with
/// it. `Some(None)`: there is nothing of it.
#[allow(clippy::option_option, reason = "the two are answered differently")]
fn resolve(spec: &[u8], length: u64) -> Option<Option<Range<u64>>> {
    let dash = spec.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        let suffix = number(last)?;
        return Some((suffix > 0).then(|| length.saturating_sub(suffix)..length));
    }
    let first = number(first)?;
    let end = match last {
        [] => length,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(length)
        }
    };
    Some((first < length).then_some(first..end))
}

/// Digits and nothing else. What is beyond 2^64 is beyond any length, so how far does not matter.
fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let add =
        |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    all.then(|| digits.iter().fold(0, add))
}

/// Adds a range, made one with all that it overlaps or comes close to.
fn join(ranges: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    let mut place = ranges.len();
    loop {
        let is_close = |other: &Range<u64>| {
            other.start <= range.end.saturating_add(MAX_GAP_BYTES)
                && range.start <= other.end.saturating_add(MAX_GAP_BYTES)
        };
        let Some(at) = ranges.iter().position(is_close) else { break };
        // Grown, it may have come close to others.
        let other = ranges.remove(at);
        range = range.start.min(other.start)..range.end.max(other.end);
        place = place.min(at);
    }
    ranges.insert(place.min(ranges.len()), range);
}

/// Writes the value of Content-Range for a part of `length` bytes (RFC 9110 section 14.4).
///
/// ```
/// let mut value = Vec::new();
/// wharf_http::content_range(&mut value, &(0..10), 10_000);
/// assert_eq!(value, b"bytes 0-9/10000");
/// ```
///
/// # Panics
/// If the range is empty, which no Content-Range can say.
pub fn content_range(out: &mut Vec<u8>, range: &Range<u64>, length: u64) {
    assert!(range.start < range.end, "an empty range has no last byte");
    let last = range.end - 1;
    write!(out, "bytes {}-{last}/{length}", range.start).expect("a vector takes all");
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;

    fn select(value: &str, length: u64) -> (Selection, Vec<Range<u64>>) {
        let mut ranges = vec![7..8];
        let selection = select_ranges(value.as_bytes(), length, &mut ranges);
        (selection, ranges)
    }

    fn partial(value: &str, length: u64) -> Vec<Range<u64>> {
        let (selection, ranges) = select(value, length);
        assert_eq!(selection, Selection::Partial, "{value}");
        ranges
    }

    #[test]
    fn single_ranges() {
        // The examples of RFC 9110 section 14.1.2, and their edges.
        for (value, expected) in [
            ("bytes=0-499", 0..500),
            ("bytes=500-999", 500..1000),
            ("bytes=-500", 9500..10_000),
            ("bytes=9500-", 9500..10_000),
            ("bytes=0-0", 0..1),
            ("bytes=0-", 0..10_000),
            ("bytes=-10000", 0..10_000),
            ("bytes=-10001", 0..10_000),
            ("bytes=9999-", 9999..10_000),
            ("bytes=9999-9999", 9999..10_000),
            ("bytes=9999-20000", 9999..10_000),
            ("bytes=0-18446744073709551615", 0..10_000),
            ("bytes=0-99999999999999999999999", 0..10_000),
            ("bytes=-99999999999999999999999", 0..10_000),
            ("bytes=007-008", 7..9),
            ("BYTES=0-0", 0..1),
            ("bytes= 0-0", 0..1),
            ("bytes=,0-0 ,", 0..1),
        ] {
            assert_eq!(partial(value, 10_000), [expected], "{value}");
        }
        assert_eq!(partial("bytes=0-", u64::MAX), [0..u64::MAX]);
    }

    #[test]
    fn several_ranges_keep_their_order() {
        assert_eq!(partial("bytes=0-0,-1", 10_000), [0..1, 9999..10_000]);
        assert_eq!(partial("bytes=500-600,0-9", 10_000), [500..601, 0..10]);
        let asked = "bytes= 9000- , 0-9 ,\t4500-4999";
        assert_eq!(partial(asked, 10_000), [9000..10_000, 0..10, 4500..5000]);
        assert_eq!(partial("bytes=0-9,20000-", 10_000), [0..10], "the rest counts");
    }

    #[test]
    fn what_overlaps_or_lies_close_is_made_one() {
        // RFC 9110 sections 14.2 and 15.3.7.2.
        for (value, expected) in [
            ("bytes=500-600,601-999", vec![500..1000]),
            ("bytes=500-700,601-999", vec![500..1000]),
            ("bytes=0-9,90-99", vec![0..100]),
            ("bytes=90-99,0-9", vec![0..100]),
            ("bytes=0-9,91-99", vec![0..10, 91..100]),
            ("bytes=91-99,0-9", vec![91..100, 0..10]),
            ("bytes=5000-5009,0-9,4990-5020", vec![4990..5021, 0..10]),
            ("bytes=0-9,200-209,400-409,5-405", vec![0..410]),
            ("bytes=0-,0-,0-,-1", vec![0..10_000]),
        ] {
            assert_eq!(partial(value, 10_000), expected, "{value}");
        }
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=1-0",
            "bytes=0-1-2",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=0 -1",
            "bytes=0- 1",
            "bytes=0-1;q=1",
            "bytes=0-9,9-1",
            "bytes=0-9,x",
            "bytes =0-9",
            "bytes:0-9",
            " bytes=0-9",
            "bits=0-9",
            "none=0-9",
            "bytes=0x0-9",
            "bytes=0-1, bytes=2-3",
        ] {
            assert_eq!(select(value, 10_000), (Selection::Whole, vec![]), "{value:?}");
        }
    }

    #[test]
    fn what_lies_outside_is_unsatisfiable() {
        // RFC 9110 section 14.1.2.
        for value in [
            "bytes=10000-",
            "bytes=10000-10001",
            "bytes=-0",
            "bytes=99999999999999999999-",
            "bytes=20000-,-0",
        ] {
            assert_eq!(select(value, 10_000), (Selection::Unsatisfiable, vec![]), "{value}");
        }
        assert_eq!(select("bytes=0-", 0).0, Selection::Unsatisfiable);
        assert_eq!(select("bytes=-1", 0), (Selection::Whole, vec![]), "satisfied by nothing");
    }

    #[test]
    fn many_ranges_are_ignored() {
        let ask = |count: u64| {
            let specs: Vec<String> = (0..count).map(|i| format!("{0}-{0}", i * 1000)).collect();
            select(&format!("bytes={}", specs.join(",")), 1_000_000)
        };
        assert_eq!(ask(MAX_RANGES as u64).1.len(), MAX_RANGES);
        assert_eq!(ask(MAX_RANGES as u64 + 1), (Selection::Whole, vec![]));
    }

    #[test]
    fn an_attack_gets_no_more_than_there_is() {
        // CVE-2011-3192: the same bytes again and again.
        let specs: Vec<String> = (0..MAX_RANGES).map(|i| format!("{i}-")).collect();
        assert_eq!(partial(&format!("bytes={}", specs.join(",")), 5_000), [0..5_000]);
    }

    /// What was asked for, by trying every byte.
    fn asked(value: &str, length: u64) -> Vec<bool> {
        (0..length)
            .map(|at| {
                value["bytes=".len()..].split(',').any(|spec| {
                    let (first, last) = spec.split_once('-').expect("a range");
                    match (first.parse::<u64>(), last.parse::<u64>()) {
                        (Ok(first), Ok(last)) => (first..=last).contains(&at),
                        (Ok(first), Err(_)) => at >= first,
                        (Err(_), Ok(suffix)) => at >= length.saturating_sub(suffix),
                        _ => panic!("{spec}"),
                    }
                })
            })
            .collect()
    }

    proptest::proptest! {
        #[test]
        fn what_is_given_covers_what_was_asked_once(
            specs in proptest::collection::vec((0u64..600, 0u64..120, 0u8..4), 1..20),
            length in 1u64..500,
        ) {
            let specs: Vec<String> = specs
                .iter()
                .map(|(first, more, kind)| match kind {
                    0 => format!("{first}-"),
                    1 => format!("-{first}"),
                    _ => format!("{first}-{}", first + more),
                })
                .collect();
            let value = format!("bytes={}", specs.join(","));
            let (selection, ranges) = select(&value, length);
            let wanted = asked(&value, length);
            proptest::prop_assert_eq!(
                selection == Selection::Partial,
                wanted.iter().any(|wanted| *wanted)
            );
            let mut given = vec![0; length as usize];
            for range in &ranges {
                proptest::prop_assert!(range.start < range.end && range.end <= length);
                (range.start..range.end).for_each(|at| given[at as usize] += 1);
            }
            for (at, wanted) in wanted.iter().enumerate() {
                proptest::prop_assert!(given[at] <= 1, "byte {} twice", at);
                proptest::prop_assert!(!wanted || given[at] == 1, "byte {} is missing", at);
            }
        }
    }
}
