//! Eight bytes in an ordinary register, for every machine.
//!
//! Each test keeps to the low seven bits of a byte and adds at most 0x80 to them, so nothing is
//! carried from one byte into the next and every lane of a mask is exact.

use super::Block;

const ONES: u64 = 0x0101_0101_0101_0101;
const LOW: u64 = 0x7f * ONES;
const HIGH: u64 = 0x80 * ONES;

/// Eight bytes, the first in the lowest place.
#[derive(Clone, Copy)]
pub(crate) struct Word(u64);

impl Word {
    /// Marks the bytes whose low seven bits are at least `n`, which is 1 to 128.
    #[inline(always)]
    fn low_at_least(self, n: u8) -> u64 {
        ((self.0 & LOW) + u64::from(0x80 - n) * ONES) & HIGH
    }

    /// Marks the bytes whose low seven bits are `from` to `to`.
    #[inline(always)]
    fn low_in(self, from: u8, to: u8) -> u64 {
        self.low_at_least(from) & !self.low_at_least(to + 1)
    }

    /// Marks the bytes whose low seven bits are `byte`.
    #[inline(always)]
    fn low_is(self, byte: u8) -> u64 {
        !(((self.0 & LOW) ^ (u64::from(byte) * ONES)) + LOW) & HIGH
    }

    /// Marks the letters, once their case is folded, by their low seven bits.
    #[inline(always)]
    fn low_is_alphanumeric(self) -> u64 {
        Word(self.0 | (0x20 * ONES)).low_in(b'a', b'z') | self.low_in(b'0', b'9')
    }

    /// Marks the bytes from 0x80 on.
    #[inline(always)]
    fn high(self) -> u64 {
        self.0 & HIGH
    }
}

impl Block for Word {
    const WIDTH: usize = 8;
    const SHIFT: u32 = 3;

    #[inline(always)]
    unsafe fn load(bytes: &[u8], from: usize) -> Word {
        // SAFETY: the caller promises that eight bytes stand from `from` on.
        let eight = unsafe { bytes.get_unchecked(from..from + 8) };
        Word(u64::from_le_bytes(eight.try_into().expect("eight bytes")))
    }

    #[inline(always)]
    fn load_short(bytes: &[u8]) -> Word {
        let places = bytes.iter().enumerate();
        Word(places.fold(0, |word, (at, &byte)| word | u64::from(byte) << (8 * at)))
    }

    #[inline(always)]
    fn not_token(self) -> u64 {
        let token = self.low_is_alphanumeric()
            | self.low_in(b'#', b'\'')
            | self.low_in(b'^', b'`')
            | self.low_is(b'!')
            | self.low_is(b'*')
            | self.low_is(b'+')
            | self.low_in(b'-', b'.')
            | self.low_is(b'|')
            | self.low_is(b'~');
        (token & !self.high()) ^ HIGH
    }

    #[inline(always)]
    fn not_value(self) -> u64 {
        let control = (!self.low_at_least(b' ') & !self.low_is(b'\t')) | self.low_is(0x7f);
        control & !self.high() & HIGH
    }

    #[inline(always)]
    fn not_target(self) -> u64 {
        let target = self.low_in(b'!', b'~')
            & !self.low_in(b'"', b'#')
            & !self.low_is(b'<')
            & !self.low_is(b'>');
        (target & !self.high()) ^ HIGH
    }

    #[inline(always)]
    fn not_host(self) -> u64 {
        let host = self.low_is_alphanumeric()
            | self.low_in(b'&', b'.')
            | self.low_is(b'!')
            | self.low_is(b'$')
            | self.low_is(b';')
            | self.low_is(b'=')
            | self.low_is(b'_')
            | self.low_is(b'~');
        (host & !self.high()) ^ HIGH
    }

    #[inline(always)]
    fn not_digit(self) -> u64 {
        (self.low_in(b'0', b'9') & !self.high()) ^ HIGH
    }

    #[inline(always)]
    fn question(self) -> u64 {
        self.low_is(b'?') & !self.high()
    }
}
