//! Sixteen bytes, with SSE2, which every x86-64 machine has.
//!
//! SSE2 has no table look-up, so a class is spelt out in comparisons. They are signed, which suits:
//! bytes from 0x80 on are negative and below every range.

use super::{Block, filled_up};
use std::arch::x86_64::*;

/// Sixteen bytes.
#[derive(Clone, Copy)]
pub(crate) struct Half(__m128i);

impl Block for Half {
    const WIDTH: usize = 16;
    const SHIFT: u32 = 0;

    #[inline(always)]
    unsafe fn load(bytes: &[u8], from: usize) -> Half {
        // SAFETY: the caller promises that 16 bytes stand from `from` on.
        let bytes = unsafe { bytes.get_unchecked(from..from + 16) };
        // SAFETY: SSE2 is a part of x86-64.
        Half(unsafe { load(bytes.try_into().expect("16 bytes")) })
    }

    #[inline(always)]
    fn load_short(bytes: &[u8]) -> Half {
        // SAFETY: SSE2 is a part of x86-64.
        Half(unsafe { load(&filled_up(bytes)) })
    }

    #[inline(always)]
    fn not_token(self) -> u64 {
        // SAFETY: SSE2 is a part of x86-64.
        unsafe { not_token(self.0) }
    }

    #[inline(always)]
    fn not_value(self) -> u64 {
        // SAFETY: SSE2 is a part of x86-64.
        unsafe { not_value(self.0) }
    }

    #[inline(always)]
    fn not_target(self) -> u64 {
        // SAFETY: SSE2 is a part of x86-64.
        unsafe { not_target(self.0) }
    }

    #[inline(always)]
    fn not_host(self) -> u64 {
        // SAFETY: SSE2 is a part of x86-64.
        unsafe { not_host(self.0) }
    }

    #[inline(always)]
    fn not_digit(self) -> u64 {
        // SAFETY: SSE2 is a part of x86-64.
        unsafe { not_digit(self.0) }
    }

    #[inline(always)]
    fn question(self) -> u64 {
        // SAFETY: SSE2 is a part of x86-64.
        unsafe { question(self.0) }
    }
}

#[target_feature(enable = "sse2")]
#[inline]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are read, from any address.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
#[inline]
fn all(byte: u8) -> __m128i {
    _mm_set1_epi8(byte as i8)
}

#[target_feature(enable = "sse2")]
#[inline]
fn or(a: __m128i, b: __m128i) -> __m128i {
    _mm_or_si128(a, b)
}

/// One bit for each marked byte.
#[target_feature(enable = "sse2")]
#[inline]
fn mask(marks: __m128i) -> u64 {
    u64::from(_mm_movemask_epi8(marks) as u16)
}

/// One bit for each byte that is not marked.
#[target_feature(enable = "sse2")]
#[inline]
fn unmarked(marks: __m128i) -> u64 {
    mask(marks) ^ 0xffff
}

#[target_feature(enable = "sse2")]
#[inline]
fn is(bytes: __m128i, byte: u8) -> __m128i {
    _mm_cmpeq_epi8(bytes, all(byte))
}

/// Marks the bytes from `from` to `to`, both in 1 to 0x7e.
#[target_feature(enable = "sse2")]
#[inline]
fn within(bytes: __m128i, from: u8, to: u8) -> __m128i {
    let above = _mm_cmpgt_epi8(bytes, all(to));
    _mm_andnot_si128(above, _mm_cmpgt_epi8(bytes, all(from - 1)))
}

#[target_feature(enable = "sse2")]
#[inline]
fn alphanumeric(bytes: __m128i) -> __m128i {
    let folded = or(bytes, all(0x20));
    or(within(folded, b'a', b'z'), within(bytes, b'0', b'9'))
}

#[target_feature(enable = "sse2")]
#[inline]
fn not_token(bytes: __m128i) -> u64 {
    let a = or(alphanumeric(bytes), within(bytes, b'#', b'\''));
    let b = or(within(bytes, b'^', b'`'), within(bytes, b'-', b'.'));
    let c = or(within(bytes, b'*', b'+'), is(bytes, b'!'));
    let d = or(is(bytes, b'|'), is(bytes, b'~'));
    unmarked(or(or(a, b), or(c, d)))
}

#[target_feature(enable = "sse2")]
#[inline]
fn not_value(bytes: __m128i) -> u64 {
    // Unsigned: the lesser of a byte and 0x1f is the byte itself if that is a control.
    let low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, all(0x1f)), bytes);
    mask(or(_mm_andnot_si128(is(bytes, b'\t'), low), is(bytes, 0x7f)))
}

#[target_feature(enable = "sse2")]
#[inline]
fn not_target(bytes: __m128i) -> u64 {
    // The bytes of these two pairs differ in one bit, which is cleared.
    let quote_or_hash = is(_mm_and_si128(bytes, all(!1)), b'"');
    let angle = is(_mm_and_si128(bytes, all(!2)), b'<');
    unmarked(_mm_andnot_si128(or(quote_or_hash, angle), within(bytes, b'!', b'~')))
}

#[target_feature(enable = "sse2")]
#[inline]
fn not_host(bytes: __m128i) -> u64 {
    let a = or(alphanumeric(bytes), within(bytes, b'&', b'.'));
    let b = or(is(bytes, b'!'), is(bytes, b'$'));
    let c = or(is(bytes, b';'), is(bytes, b'='));
    let d = or(is(bytes, b'_'), is(bytes, b'~'));
    unmarked(or(or(a, b), or(c, d)))
}

#[target_feature(enable = "sse2")]
#[inline]
fn not_digit(bytes: __m128i) -> u64 {
    unmarked(within(bytes, b'0', b'9'))
}

#[target_feature(enable = "sse2")]
#[inline]
fn question(bytes: __m128i) -> u64 {
    mask(is(bytes, b'?'))
}
