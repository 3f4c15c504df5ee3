//! What a send sends.

use std::io::IoSlice;

use bytes::Bytes;

/// The bytes of one send: a block that the sender writes, followed by shared parts that are sent
/// as they are.
///
/// A gather is boxed once and recycled: after its completion, [`clear`](Gather::clear) keeps the
/// block's capacity.
///
/// ```
/// use wharf_port::Gather;
///
/// let mut gather = Gather::default();
/// gather.block_mut().extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
/// gather.push(bytes::Bytes::from_static(b"hello"));
/// gather.advance(19 + 2);
/// assert_eq!(gather.remaining(), 3);
/// ```
#[derive(Debug, Default)]
pub struct Gather {
    block: Vec<u8>,
    parts: Vec<Bytes>,
    /// Bytes already sent. Invariant: `sent <= block.len() + sum of parts`.
    sent: usize,
    /// `sum of parts`, so that `remaining` is O(1).
    parts_len: usize,
}

impl Gather {
    /// The block that is sent first, to be written before submission.
    #[inline]
    pub fn block_mut(&mut self) -> &mut Vec<u8> {
        &mut self.block
    }

    /// Bytes written to the block so far.
    #[inline]
    pub fn block_len(&self) -> usize {
        self.block.len()
    }

    /// Appends a part, to be sent after the block and the parts before it.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.parts_len += part.len();
            self.parts.push(part);
        }
    }

    /// Whether any part follows the block.
    #[inline]
    pub fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Bytes not yet sent.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.block.len() + self.parts_len - self.sent
    }

    /// Notes that `count` more bytes were sent. The caller does this with each completion's count
    /// and submits the gather again while bytes [remain](Gather::remaining).
    ///
    /// # Panics
    /// If more is said to be sent than there was.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "sent more than was submitted");
        self.sent += count;
    }

    /// Empties the gather for its next use, keeping the block's capacity.
    #[inline]
    pub fn clear(&mut self) {
        self.block.clear();
        if self.has_parts() {
            self.parts.clear();
            self.parts_len = 0;
        }
        self.sent = 0;
    }

    /// What remains, if it is one contiguous run.
    #[inline(always)]
    pub fn contiguous(&self) -> Option<&[u8]> {
        if self.parts.is_empty() {
            return Some(&self.block[self.sent..]);
        }
        (self.sent >= self.block.len() && self.parts.len() == 1)
            .then(|| &self.parts[0][self.sent - self.block.len()..])
    }

    /// What remains, as slices in order.
    pub fn slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        let mut skip = self.sent;
        std::iter::once(&self.block[..]).chain(self.parts.iter().map(|part| &part[..])).filter_map(
            move |piece| {
                let cut = skip.min(piece.len());
                skip -= cut;
                (cut < piece.len()).then(|| IoSlice::new(&piece[cut..]))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_start_where_sending_stopped() {
        let mut gather = Gather::default();
        gather.block_mut().extend_from_slice(b"head");
        gather.push(Bytes::from_static(b"one"));
        gather.push(Bytes::new());
        gather.push(Bytes::from_static(b"two"));
        let whole = b"headonetwo";
        for sent in 0..=whole.len() {
            let rest: Vec<u8> = gather.slices().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(rest, whole[sent..]);
            assert_eq!(gather.remaining(), rest.len());
            if sent < whole.len() {
                gather.advance(1);
            }
        }
    }

    #[test]
    #[should_panic(expected = "sent more")]
    fn advancing_past_the_end_is_a_bug() {
        Gather::default().advance(1);
    }
}
