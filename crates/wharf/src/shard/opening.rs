//! How answers begin: status line, content type, date and length, in one piece.
//!
//! For the answers that are usual, 200 with a known content type, that piece is put together once a
//! second, or when the length is another one than the last, and copied from then on: one copy where
//! it would be five. What else an answer says is not known here.

use wharf_http::{Date, Version, content_length_and_end, status_line};

use crate::fields::Known;

/// What is put together beforehand: one for each known content type, and one for none.
const READY: usize = Known::COUNT + 1;
const OK: u16 = 200;

pub(super) struct Openings {
    date: Date,
    ready: [Ready; READY],
}

/// A head without further fields.
#[derive(Default)]
struct Ready {
    /// Empty until it is asked for in this second.
    head: Vec<u8>,
    /// Where the head's Content-Length begins.
    before_length: usize,
    /// The length that the head tells.
    length: u64,
}

impl Openings {
    pub(super) fn at(unix_time: u64) -> Openings {
        Openings { date: Date::at(unix_time), ready: Default::default() }
    }

    /// Another second has begun.
    pub(super) fn update(&mut self, unix_time: u64) {
        self.date.update(unix_time);
        self.ready.iter_mut().for_each(|ready| ready.head.clear());
    }

    /// Writes the whole head of a 200 whose only fields are these, Date, and Content-Length.
    #[inline(always)]
    pub(super) fn write_head(
        &mut self,
        block: &mut Vec<u8>,
        content_type: Option<Known>,
        length: u64,
    ) {
        let place = content_type.map_or(READY - 1, |known| known as usize);
        if self.ready[place].head.is_empty() || self.ready[place].length != length {
            self.put_together(place, content_type, length);
        }
        block.extend_from_slice(&self.ready[place].head);
    }

    #[cold]
    fn put_together(&mut self, place: usize, content_type: Option<Known>, length: u64) {
        let mut ready = std::mem::take(&mut self.ready[place]);
        if ready.head.is_empty() {
            self.write(&mut ready.head, OK, content_type, true);
            ready.before_length = ready.head.len();
        }
        ready.head.truncate(ready.before_length);
        content_length_and_end(&mut ready.head, length);
        ready.length = length;
        self.ready[place] = ready;
    }

    /// Writes the beginning of any answer, piece by piece.
    pub(super) fn write(
        &self,
        block: &mut Vec<u8>,
        status: u16,
        content_type: Option<Known>,
        with_date: bool,
    ) {
        status_line(block, Version::Http11, status);
        if let Some(known) = content_type {
            block.extend_from_slice(known.line());
        }
        if with_date {
            self.date.write_field(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Option<Known>; READY] = [
        Some(Known::Text),
        Some(Known::Html),
        Some(Known::Events),
        Some(Known::Json),
        Some(Known::Octets),
        None,
    ];

    #[test]
    fn what_is_ready_is_what_would_be_written_piece_by_piece() {
        let mut openings = Openings::at(0);
        for unix_time in [0, 784_111_777, 5, 784_111_777] {
            openings.update(unix_time);
            for length in [0, 13, 13, 12_345, 7] {
                for content_type in ALL {
                    let (mut ready, mut pieces) = (Vec::new(), Vec::new());
                    openings.write_head(&mut ready, content_type, length);
                    openings.write(&mut pieces, 200, content_type, true);
                    content_length_and_end(&mut pieces, length);
                    assert_eq!(ready, pieces);
                }
            }
        }
        let mut block = Vec::new();
        openings.write_head(&mut block, Some(Known::Json), 0);
        let expected = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                        date: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(block, expected.as_bytes());
    }
}
