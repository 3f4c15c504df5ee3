//! Conditional requests: whether one is to be carried out, given what there is at present (RFC 9110
//! section 13).
//!
//! A pure function of the method, the fields and the validators. Where those come from, and what is
//! answered, it does not know.

use std::time::UNIX_EPOCH;

use crate::entity_tag::{EntityTag, tags};
use crate::fields::trim;

/// What tells one state of a representation from another (RFC 9110 section 8.8).
#[derive(Clone, Copy, Debug, Default)]
pub struct Validators<'a> {
    /// The value of ETag. None: it has none.
    pub entity_tag: Option<EntityTag<'a>>,
    /// The value of Last-Modified, in seconds since the start of 1970. None: it has none.
    pub last_modified: Option<u64>,
}

/// What becomes of a conditional request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// It is carried out.
    Proceed {
        /// The value of Range, if it applies: the method is GET, the field is there once, and
        /// If-Range, if there is one, holds.
        range: Option<&'a [u8]>,
    },
    /// The client has what there is: `304 Not Modified`.
    NotModified,
    /// The client wants it only on a condition that does not hold: `412 Precondition Failed`.
    Failed,
}

/// Evaluates If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since and If-Range in the
/// order of RFC 9110 section 13.2.2.
///
/// `fields` are all fields of the request, names in any case. `current` is the state of what the
/// method applies to; None if there is none (only `*` looks at that). `now` is the time in seconds
/// since the start of 1970, by which a date is known to be too young to tell two states apart. The
/// conditions count only where the answer without them would be a success (section 13.2.1): that is
/// the caller's to see to.
///
/// Entity tags that cannot be read match nothing, and dates that cannot be read, or are there
/// twice, make no condition. A date in the future is compared like any other.
///
/// ```
/// use wharf_http::{Condition, EntityTag, Validators, evaluate_conditions};
///
/// let current = Validators { entity_tag: EntityTag::parse(b"\"v7\""), last_modified: None };
/// let asked = |field: (&'static [u8], &'static [u8])| {
///     evaluate_conditions(b"GET", [field].into_iter(), Some(&current), 0)
/// };
/// assert_eq!(asked((b"if-none-match", b"\"v7\"")), Condition::NotModified);
/// assert_eq!(asked((b"if-match", b"\"v8\"")), Condition::Failed);
/// assert_eq!(asked((b"range", b"bytes=0-9")), Condition::Proceed { range: Some(b"bytes=0-9") });
/// ```
#[must_use]
pub fn evaluate_conditions<'a>(
    method: &[u8],
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    current: Option<&Validators>,
    now: u64,
) -> Condition<'a> {
    let nothing = Validators::default();
    let Validators { entity_tag, last_modified } = *current.unwrap_or(&nothing);
    let exists = current.is_some();
    let (mut matched, mut none_matched) = (Matches::default(), Matches::default());
    let (mut modified, mut unmodified) = (Once::Absent, Once::Absent);
    let (mut range, mut if_range) = (Once::Absent, Once::Absent);
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(b"if-match") {
            matched.add(value, exists, entity_tag, |one, other| one.matches_strongly(other));
        } else if name.eq_ignore_ascii_case(b"if-none-match") {
            none_matched.add(value, exists, entity_tag, |one, other| one.matches_weakly(other));
        } else if name.eq_ignore_ascii_case(b"if-modified-since") {
            modified.add(value);
        } else if name.eq_ignore_ascii_case(b"if-unmodified-since") {
            unmodified.add(value);
        } else if name.eq_ignore_ascii_case(b"range") {
            range.add(value);
        } else if name.eq_ignore_ascii_case(b"if-range") {
            if_range.add(value);
        }
    }
    let is_get = method == b"GET";
    let reads = is_get || method == b"HEAD";
    let is_newer_than = |date: Once| Some(last_modified? > http_date_seconds(date.alone()?, now)?);

    // Steps 1 and 2: If-Unmodified-Since counts only without If-Match.
    let fails = if matched.there {
        !matched.any
    } else {
        // Where the date is unknown the condition is ignored (section 13.1.4).
        is_newer_than(unmodified) == Some(true)
    };
    if fails {
        return Condition::Failed;
    }
    // Steps 3 and 4: If-Modified-Since counts only without If-None-Match, and to read.
    if none_matched.there {
        if none_matched.any {
            return if reads { Condition::NotModified } else { Condition::Failed };
        }
    } else if reads && is_newer_than(modified) == Some(false) {
        return Condition::NotModified;
    }
    // Step 5. Range has a meaning for GET alone (section 14.2).
    let applies = is_get
        && match if_range {
            Once::Absent => true,
            Once::Several => false,
            Once::There(value) => same_state(value, entity_tag, last_modified, now),
        };
    Condition::Proceed { range: range.alone().filter(|_| applies) }
}

/// Whether the value of If-Range names the present state (RFC 9110 section 13.1.5): by a strong
/// comparison of tags, or by the very date, if that is a strong validator.
fn same_state(
    value: &[u8],
    current: Option<EntityTag>,
    last_modified: Option<u64>,
    now: u64,
) -> bool {
    if let Some(tag) = EntityTag::parse(value) {
        return current.is_some_and(|current| current.matches_strongly(&tag));
    }
    let (Some(date), Some(last_modified)) = (http_date_seconds(value, now), last_modified) else {
        return false;
    };
    // A second that has not passed yet may still bring another state of the same date (section
    // 8.8.2.2).
    date == last_modified && date < now
}

/// Reads an HTTP date, in any of the three forms of RFC 9110 section 5.6.7, as seconds since the
/// start of 1970. None: it is none, or before that. `now`, in the same seconds, tells which century
/// a year of two digits belongs to.
///
/// ```
/// use wharf_http::http_date_seconds;
///
/// let now = 1_800_000_000;
/// assert_eq!(http_date_seconds(b"Sun, 06 Nov 1994 08:49:37 GMT", now), Some(784_111_777));
/// assert_eq!(http_date_seconds(b"Sunday, 06-Nov-94 08:49:37 GMT", now), Some(784_111_777));
/// assert_eq!(http_date_seconds(b"yesterday", now), None);
/// ```
#[must_use]
pub fn http_date_seconds(value: &[u8], now: u64) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let seconds = |text: &str| {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
    };
    let Some((day_name, rest)) = text.split_once("day, ") else { return seconds(text) };
    // `Sunday, 06-Nov-94 08:49:37 GMT`: a time that would lie more than 50 years ahead is past.
    const DAYS: [&str; 7] = ["Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun"];
    const YEAR_SECONDS: u64 = 31_556_952;
    let day_name = DAYS.iter().find(|name| **name == day_name)?.get(..3)?;
    let (day, rest) = rest.split_once('-')?;
    let (month, rest) = rest.split_once('-')?;
    let (year, time) = rest.split_at_checked(2)?;
    // `parse` takes a plus, too.
    let digits = year.parse::<u64>().ok().filter(|_| !year.starts_with('+'))?;
    let in_year = |year: u64| seconds(&format!("{day_name}, {day} {month} {year}{time}"));
    let (latest, latest_year) =
        (now.saturating_add(50 * YEAR_SECONDS), 1970 + now / YEAR_SECONDS + 50);
    let year = latest_year - (latest_year % 100 + 100 - digits) % 100;
    match in_year(year) {
        Some(at) if at <= latest => Some(at),
        _ if year == latest_year => in_year(year - 100),
        _ => None,
    }
}

/// A list of tags, over however many lines it goes.
#[derive(Default)]
struct Matches {
    there: bool,
    any: bool,
}

impl Matches {
    fn add(
        &mut self,
        value: &[u8],
        exists: bool,
        current: Option<EntityTag>,
        is_same: impl Fn(&EntityTag, &EntityTag) -> bool,
    ) {
        self.there = true;
        // `*` stands for whatever there is, with or without a tag.
        self.any |= match (trim(value), current) {
            (b"*", _) => exists,
            (list, Some(current)) => tags(list).any(|tag| is_same(&tag, &current)),
            (_, None) => false,
        };
    }
}

/// A field that is no list: repeated, it says nothing.
#[derive(Clone, Copy)]
enum Once<'a> {
    Absent,
    There(&'a [u8]),
    Several,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Once::Absent => Once::There(trim(value)),
            _ => Once::Several,
        };
    }

    fn alone(self) -> Option<&'a [u8]> {
        match self {
            Once::There(value) => Some(value),
            Once::Absent | Once::Several => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const THEN_SECONDS: u64 = 784_111_777;
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const FUTURE: &str = "Fri, 31 Dec 9999 23:59:59 GMT";

    /// Evaluates lines such as `if-match: "a"`, one a row, for a representation with this tag and
    /// the date `THEN`.
    fn evaluate(method: &str, tag: &str, lines: &str) -> &'static str {
        let current = Validators {
            entity_tag: EntityTag::parse(tag.as_bytes()),
            last_modified: Some(THEN_SECONDS),
        };
        evaluate_at(method, Some(&current), lines, 1_800_000_000)
    }

    fn evaluate_at(
        method: &str,
        current: Option<&Validators>,
        lines: &str,
        now: u64,
    ) -> &'static str {
        let fields = lines.lines().map(|line| {
            let (name, value) = line.split_once(": ").expect("a field");
            (name.as_bytes(), value.as_bytes())
        });
        match evaluate_conditions(method.as_bytes(), fields, current, now) {
            Condition::Proceed { range: None } => "whole",
            Condition::Proceed { range: Some(_) } => "range",
            Condition::NotModified => "304",
            Condition::Failed => "412",
        }
    }

    #[test]
    fn if_match_compares_strongly() {
        // RFC 9110 section 13.1.1.
        for (tag, lines, expected) in [
            ("\"a\"", "if-match: \"a\"", "whole"),
            ("\"a\"", "If-MATCH: \"x\", \"a\"", "whole"),
            ("\"a\"", "if-match: \"x\"\nif-match: \"a\"", "whole"),
            ("\"a\"", "if-match: \"b\"", "412"),
            ("\"a\"", "if-match: W/\"a\"", "412"),
            ("W/\"a\"", "if-match: W/\"a\"", "412"),
            ("W/\"a\"", "if-match: \"a\"", "412"),
            ("none", "if-match: \"a\"", "412"),
            ("none", "if-match: *", "whole"),
            ("\"a\"", "if-match:  * ", "whole"),
            ("\"a\"", "if-match: a", "412"),
            ("\"a\"", "if-match: ", "412"),
        ] {
            for method in ["GET", "HEAD", "PUT"] {
                assert_eq!(evaluate(method, tag, lines), expected, "{method} {tag} {lines}");
            }
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        // RFC 9110 section 13.1.2.
        for (tag, lines, reads, writes) in [
            ("\"a\"", "if-none-match: \"a\"", "304", "412"),
            ("W/\"a\"", "if-none-match: \"a\"", "304", "412"),
            ("\"a\"", "if-none-match: W/\"a\"", "304", "412"),
            ("\"a\"", "if-none-match: \"b\", W/\"c\",\"a\"", "304", "412"),
            ("\"a\"", "if-none-match: \"b\"\nif-none-match: \"a\"", "304", "412"),
            ("\"a,b\"", "if-none-match: \"a\", \"b\"", "whole", "whole"),
            ("\"a,b\"", "if-none-match: \"x\",\"a,b\"", "304", "412"),
            ("\"a\"", "if-none-match: *", "304", "412"),
            ("none", "if-none-match: *", "304", "412"),
            ("none", "if-none-match: \"a\"", "whole", "whole"),
            ("\"a\"", "if-none-match: a", "whole", "whole"),
            ("\"a\"", "if-none-match: \"a", "whole", "whole"),
        ] {
            assert_eq!(evaluate("GET", tag, lines), reads, "{tag} {lines}");
            assert_eq!(evaluate("HEAD", tag, lines), reads, "{tag} {lines}");
            assert_eq!(evaluate("PUT", tag, lines), writes, "{tag} {lines}");
        }
    }

    #[test]
    fn a_star_asks_whether_there_is_anything() {
        let nothing = |lines| evaluate_at("PUT", None, lines, 0);
        assert_eq!(nothing("if-match: *"), "412", "change it, but do not make it");
        assert_eq!(nothing("if-none-match: *"), "whole", "make it, but do not change it");
        assert_eq!(nothing("if-none-match: \"a\""), "whole");
        assert_eq!(nothing("if-match: \"a\""), "412");
        assert_eq!(nothing(&format!("if-unmodified-since: {THEN}")), "whole");
    }

    #[test]
    fn dates_are_compared_in_whole_seconds() {
        // RFC 9110 sections 13.1.3 and 13.1.4.
        for (date, modified, unmodified) in [
            (BEFORE, "whole", "412"),
            (THEN, "304", "whole"),
            (AFTER, "304", "whole"),
            (FUTURE, "304", "whole"),
            ("Sunday, 06-Nov-94 08:49:37 GMT", "304", "whole"),
            ("Sun Nov  6 08:49:37 1994", "304", "whole"),
            // What is no date makes no condition.
            ("", "whole", "whole"),
            ("0", "whole", "whole"),
            ("784111776", "whole", "whole"),
            ("Sun, 06 Nov 1994 08:49:36", "whole", "whole"),
            ("Sun, 06 Nov 1994 25:49:36 GMT", "whole", "whole"),
            ("Thu, 01 Jan 1900 00:00:00 GMT", "whole", "whole"),
        ] {
            let lines = format!("if-modified-since: {date}");
            assert_eq!(evaluate("GET", "\"a\"", &lines), modified, "{lines}");
            assert_eq!(evaluate("HEAD", "\"a\"", &lines), modified, "{lines}");
            assert_eq!(evaluate("POST", "\"a\"", &lines), "whole", "it is about reading");
            let lines = format!("if-unmodified-since: {date}");
            for method in ["GET", "DELETE"] {
                assert_eq!(evaluate(method, "\"a\"", &lines), unmodified, "{lines}");
            }
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
        let seconds = |text: &str| http_date_seconds(text.as_bytes(), 1_800_000_000); // 2027
        let of = |text: &str| Some(seconds(text).expect("a date"));
        let alike = [
            ("Friday, 15-Jan-27 08:00:00 GMT", "Fri, 15 Jan 2027 08:00:00 GMT"),
            ("Tuesday, 14-Jan-76 08:00:00 GMT", "Tue, 14 Jan 2076 08:00:00 GMT"),
            ("Sunday, 16-Jan-77 08:00:00 GMT", "Sun, 16 Jan 1977 08:00:00 GMT"),
            ("Friday, 31-Dec-99 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"),
            ("Saturday, 01-Jan-00 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT"),
        ];
        for (short, long) in alike {
            assert_eq!(seconds(short), of(long), "{short}");
        }
        // At the turn of a century the next one is near.
        let at_its_end = 4_102_444_799; // 2099
        let next = http_date_seconds(b"Thursday, 02-Jan-10 00:00:00 GMT", at_its_end);
        assert_eq!(next, of("Thu, 02 Jan 2110 00:00:00 GMT"));
        // The day of the week does not choose the century.
        assert_eq!(seconds("Friday, 06-Nov-70 08:49:37 GMT"), None);
        for wrong in [
            "Sonday, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Thursday, 20-Jan-+0 00:00:00 GMT",
            "day, ",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn repeated_and_missing_dates_make_no_condition() {
        let twice = format!("if-modified-since: {THEN}\nif-modified-since: {THEN}");
        assert_eq!(evaluate("GET", "\"a\"", &twice), "whole");
        let twice = format!("if-unmodified-since: {BEFORE}\nif-unmodified-since: {BEFORE}");
        assert_eq!(evaluate("GET", "\"a\"", &twice), "whole");
        let undated = Validators { entity_tag: None, last_modified: None };
        for name in ["if-modified-since", "if-unmodified-since"] {
            let lines = format!("{name}: {BEFORE}");
            assert_eq!(evaluate_at("GET", Some(&undated), &lines, 0), "whole", "{name}");
        }
    }

    #[test]
    fn tags_come_before_dates_and_matching_before_not_matching() {
        // RFC 9110 section 13.2.2.
        for (lines, expected) in [
            (format!("if-match: \"a\"\nif-unmodified-since: {BEFORE}"), "whole"),
            (format!("if-match: \"b\"\nif-unmodified-since: {AFTER}"), "412"),
            (format!("if-none-match: \"b\"\nif-modified-since: {AFTER}"), "whole"),
            (format!("if-none-match: \"a\"\nif-modified-since: {BEFORE}"), "304"),
            ("if-match: \"b\"\nif-none-match: \"a\"".to_owned(), "412"),
            ("if-match: \"a\"\nif-none-match: \"a\"".to_owned(), "304"),
            (format!("if-unmodified-since: {BEFORE}\nif-none-match: \"a\""), "412"),
            (format!("if-match: \"a\"\nif-modified-since: {AFTER}"), "304"),
            ("if-none-match: \"a\"\nrange: bytes=0-0".to_owned(), "304"),
            ("if-match: \"b\"\nrange: bytes=0-0\nif-range: \"a\"".to_owned(), "412"),
            ("if-match: \"a\"\nrange: bytes=0-0\nif-range: \"b\"".to_owned(), "whole"),
        ] {
            assert_eq!(evaluate("GET", "\"a\"", &lines), expected, "{lines}");
        }
    }

    #[test]
    fn a_range_applies_to_the_state_that_if_range_names() {
        // RFC 9110 sections 13.1.5 and 14.2.
        for (tag, if_range, expected) in [
            ("\"a\"", "\"a\"", "range"),
            ("\"a\"", "\"b\"", "whole"),
            ("\"a\"", "W/\"a\"", "whole"),
            ("W/\"a\"", "W/\"a\"", "whole"),
            ("none", "\"a\"", "whole"),
            ("\"a\"", "\"a\", \"b\"", "whole"),
            ("\"a\"", "*", "whole"),
            ("\"a\"", "", "whole"),
            ("\"a\"", THEN, "range"),
            ("\"a\"", BEFORE, "whole"),
            ("\"a\"", AFTER, "whole"),
            ("\"a\"", FUTURE, "whole"),
        ] {
            let lines = format!("range: bytes=0-0\nif-range: {if_range}");
            assert_eq!(evaluate("GET", tag, &lines), expected, "{tag} {if_range}");
            assert_eq!(evaluate("HEAD", tag, &lines), "whole");
        }
        assert_eq!(evaluate("GET", "\"a\"", "range: bytes=0-0"), "range");
        assert_eq!(evaluate("POST", "\"a\"", "range: bytes=0-0"), "whole");
        assert_eq!(evaluate("GET", "\"a\"", "range: bytes=0-0\nrange: bytes=1-1"), "whole");
        assert_eq!(evaluate("GET", "\"a\"", "if-range: \"a\""), "whole");
        let twice = "range: bytes=0-0\nif-range: \"a\"\nif-range: \"a\"";
        assert_eq!(evaluate("GET", "\"a\"", twice), "whole");
    }

    #[test]
    fn the_date_of_the_present_second_is_a_weak_validator() {
        // RFC 9110 section 8.8.2.2.
        let current = Validators { entity_tag: None, last_modified: Some(THEN_SECONDS) };
        let lines = format!("range: bytes=0-0\nif-range: {THEN}");
        let at = |now| evaluate_at("GET", Some(&current), &lines, now);
        assert_eq!(at(THEN_SECONDS), "whole");
        assert_eq!(at(THEN_SECONDS + 1), "range");
    }
}
