//! Dates: each has one spelling in the form that is sent, and what is read in another form is the
//! same time in that one.
//!
//! The first line is the present time in seconds, the rest the date.
#![no_main]

use wharf_http::{Date, http_date_seconds};

const YEAR_SECONDS: u64 = 31_556_952;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (now, text) = input.split_once('\n').unwrap_or(("1800000000", input));
    // Of a field's value it is no part.
    let text = text.trim();
    let now = u64::from(now.parse::<u32>().unwrap_or(1_800_000_000));
    // What is given out is read as it was meant, whatever the time is.
    assert_eq!(http_date_seconds(Date::at(now).as_bytes(), 0), Some(now));
    let Some(seconds) = http_date_seconds(text.as_bytes(), now) else { return };
    let sent = Date::at(seconds);
    let sent = std::str::from_utf8(sent.as_bytes()).expect("a date is ASCII");
    assert_eq!(http_date_seconds(sent.as_bytes(), now), Some(seconds), "{text:?}");
    // "Sun, 06 Nov 1994 08:49:37 GMT"
    let [day_name, day, month, year, time, _] = sent.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{sent:?}")
    };
    let day_name = day_name.trim_end_matches(',');
    let asctime = format!("{day_name} {month} {:>2} {time} {year}", day.trim_start_matches('0'));
    let asctime_of_zeros = format!("{day_name} {month} {day} {time} {year}");
    if [sent, &asctime, &asctime_of_zeros].contains(&text) {
        return;
    }
    // "Sunday, 06-Nov-94 08:49:37 GMT"
    let rest = format!("day, {day}-{month}-{} {time} GMT", &year[2..]);
    let name = text.strip_suffix(&*rest).unwrap_or_else(|| panic!("{text:?} is no {sent}"));
    let names = ["Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun"];
    assert!(names.contains(&name) && name.starts_with(day_name), "{text:?} is no {sent}");
    assert!(seconds <= now + 50 * YEAR_SECONDS, "{text:?} lies too far ahead of {now}");
    assert!(seconds + 101 * YEAR_SECONDS > now, "{text:?} lies too far behind {now}");
});
