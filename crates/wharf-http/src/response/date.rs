//! The Date field (RFC 9110 section 6.6.1), formatted once a second and copied from then on.
//!
//! The time is an argument: this crate has no clock.

use httpdate::HttpDate;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

const NAME: &[u8; 6] = b"date: ";
const DATE_BYTES: usize = 29;
/// The last second of the year 9999: an IMF-fixdate has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

/// A Date field, ready to be written.
///
/// ```
/// use wharf_http::Date;
///
/// let mut date = Date::at(784_111_777);
/// assert_eq!(date.as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
/// date.update(784_111_778);
/// let mut out = Vec::new();
/// date.write_field(&mut out);
/// assert_eq!(out, b"date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
/// ```
#[derive(Clone, Debug)]
pub struct Date {
    unix_seconds: u64,
    /// The whole field line, so that writing it is one copy of a length known when compiling.
    line: [u8; NAME.len() + DATE_BYTES + 2],
}

impl Date {
    /// The date so many seconds after the start of 1970, leap seconds not counted. Times beyond
    /// the year 9999 are taken for its last second.
    #[must_use]
    pub fn at(unix_seconds: u64) -> Date {
        let mut date = Date { unix_seconds, line: *b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" };
        date.format();
        date
    }

    /// Changes the date, at the cost of one comparison if the second is the same.
    #[inline]
    pub fn update(&mut self, unix_seconds: u64) {
        if unix_seconds != self.unix_seconds {
            self.unix_seconds = unix_seconds;
            self.format();
        }
    }

    /// The date alone, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; DATE_BYTES] {
        let (_, date) = self.line.split_first_chunk::<{ NAME.len() }>().expect("room for the name");
        date.first_chunk().expect("room for the date")
    }

    /// Writes the field line with its name and CRLF.
    #[inline]
    pub fn write_field(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.line);
    }

    #[cold]
    fn format(&mut self) {
        let since = Duration::from_secs(self.unix_seconds.min(LAST_SECOND));
        let date = HttpDate::from(SystemTime::UNIX_EPOCH + since);
        let mut place = &mut self.line[NAME.len()..NAME.len() + DATE_BYTES];
        write!(place, "{date}").expect("an IMF-fixdate has 29 bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_from_the_first_second_to_the_last() {
        for (unix_seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_102_444_800, "Fri, 01 Jan 2100 00:00:00 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(Date::at(unix_seconds).as_bytes(), text.as_bytes());
            let mut date = Date::at(1);
            date.update(unix_seconds);
            assert_eq!(date.as_bytes(), text.as_bytes());
        }
    }
}
