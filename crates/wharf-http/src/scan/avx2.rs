//! Thirty-two bytes with AVX2, or sixteen where there are no more.
//!
//! The functions below are compiled for AVX2 and so can be inlined only into a function that is
//! too. The parent module has the one such function, and everything between it and these is
//! `inline(always)`.

use super::nibbles::{CONTROL, HIGH_BIT, HOST, Nibbles, TARGET, TOKEN};
use super::{Block, filled_up};
use std::arch::x86_64::*;

/// Thirty-two bytes. Made only in code that [`dispatch`](super::dispatch) enters after it has seen
/// that the machine has AVX2; so that one exists is proof of AVX2.
#[derive(Clone, Copy)]
pub(crate) struct Wide(__m256i);

impl Block for Wide {
    const WIDTH: usize = 32;
    const SHIFT: u32 = 0;

    #[inline(always)]
    unsafe fn load(bytes: &[u8], from: usize) -> Wide {
        // SAFETY: the caller promises that 32 bytes stand from `from` on.
        let bytes = unsafe { bytes.get_unchecked(from..from + 32) };
        // SAFETY: only code that runs with AVX2 makes or has a `Wide`; see there.
        Wide(unsafe { load(bytes.try_into().expect("32 bytes")) })
    }

    #[inline(always)]
    fn load_short(bytes: &[u8]) -> Wide {
        // SAFETY: only code that runs with AVX2 makes or has a `Wide`; see there.
        Wide(unsafe { load(&filled_up(bytes)) })
    }

    #[inline(always)]
    fn not_token(self) -> u64 {
        // SAFETY: only code that runs with AVX2 makes or has a `Wide`; see there.
        unsafe { not_token(self.0) }
    }

    #[inline(always)]
    fn not_value(self) -> u64 {
        // SAFETY: only code that runs with AVX2 makes or has a `Wide`; see there.
        unsafe { not_value(self.0) }
    }

    #[inline(always)]
    fn not_target(self) -> u64 {
        // SAFETY: only code that runs with AVX2 makes or has a `Wide`; see there.
        unsafe { not_target(self.0) }
    }

    #[inline(always)]
    fn not_host(self) -> u64 {
        // SAFETY: only code that runs with AVX2 makes or has a `Wide`; see there.
        unsafe { not_host(self.0) }
    }

    #[inline(always)]
    fn not_digit(self) -> u64 {
        // SAFETY: only code that runs with AVX2 makes or has a `Wide`; see there.
        unsafe { not_digit(self.0) }
    }

    #[inline(always)]
    fn question(self) -> u64 {
        // SAFETY: only code that runs with AVX2 makes or has a `Wide`; see there.
        unsafe { question(self.0) }
    }
}

/// Sixteen bytes in the lower half of the register, for messages that do not fill it: table look-ups
/// are shorter than the comparisons that SSE2 has to make.
#[derive(Clone, Copy)]
pub(crate) struct Half(Wide);

/// The mask bits of the lower half.
const LOWER: u64 = 0xffff;

impl Block for Half {
    const WIDTH: usize = 16;
    const SHIFT: u32 = 0;

    #[inline(always)]
    unsafe fn load(bytes: &[u8], from: usize) -> Half {
        // SAFETY: the caller promises that 16 bytes stand from `from` on.
        let bytes = unsafe { bytes.get_unchecked(from..from + 16) };
        // SAFETY: only code that runs with AVX2 makes or has a `Half`, as a `Wide`; see there.
        Half(Wide(unsafe { load_half(bytes.try_into().expect("16 bytes")) }))
    }

    #[inline(always)]
    fn load_short(bytes: &[u8]) -> Half {
        // SAFETY: only code that runs with AVX2 makes or has a `Half`, as a `Wide`; see there.
        Half(Wide(unsafe { load_half(&filled_up(bytes)) }))
    }

    #[inline(always)]
    fn not_token(self) -> u64 {
        self.0.not_token() & LOWER
    }

    #[inline(always)]
    fn not_value(self) -> u64 {
        self.0.not_value() & LOWER
    }

    #[inline(always)]
    fn not_target(self) -> u64 {
        self.0.not_target() & LOWER
    }

    #[inline(always)]
    fn not_host(self) -> u64 {
        self.0.not_host() & LOWER
    }

    #[inline(always)]
    fn not_digit(self) -> u64 {
        self.0.not_digit() & LOWER
    }

    #[inline(always)]
    fn question(self) -> u64 {
        self.0.question() & LOWER
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are read, from any address.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_half(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes are read, from any address.
    _mm256_zextsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// A table, once in each half of a register: the look-up works on halves.
#[target_feature(enable = "avx2")]
#[inline]
fn twice(table: &'static Nibbles) -> __m256i {
    // SAFETY: the 16 bytes of the table are read, from any address.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
#[inline]
fn mask(marks: __m256i) -> u64 {
    u64::from(_mm256_movemask_epi8(marks) as u32)
}

/// Marks the bytes that are not in a class below 0x80.
#[target_feature(enable = "avx2")]
#[inline]
fn not_in(class: &'static Nibbles, bytes: __m256i) -> u64 {
    // The look-up goes by a byte's low four bits and yields 0 for bytes from 0x80 on.
    let by_low = _mm256_shuffle_epi8(twice(class), bytes);
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(0xf));
    let bit = _mm256_shuffle_epi8(twice(&HIGH_BIT), high);
    mask(_mm256_cmpeq_epi8(_mm256_and_si256(by_low, bit), _mm256_setzero_si256()))
}

#[target_feature(enable = "avx2")]
#[inline]
fn not_token(bytes: __m256i) -> u64 {
    not_in(&TOKEN, bytes)
}

#[target_feature(enable = "avx2")]
#[inline]
fn not_value(bytes: __m256i) -> u64 {
    not_in(&CONTROL, bytes) ^ u64::from(u32::MAX)
}

#[target_feature(enable = "avx2")]
#[inline]
fn not_target(bytes: __m256i) -> u64 {
    not_in(&TARGET, bytes)
}

#[target_feature(enable = "avx2")]
#[inline]
fn not_host(bytes: __m256i) -> u64 {
    not_in(&HOST, bytes)
}

#[target_feature(enable = "avx2")]
#[inline]
fn not_digit(bytes: __m256i) -> u64 {
    // Unsigned: the lesser of a byte's distance from `0` and 9 is the distance if it is a digit.
    let distance = _mm256_sub_epi8(bytes, _mm256_set1_epi8(b'0' as i8));
    let lesser = _mm256_min_epu8(distance, _mm256_set1_epi8(9));
    mask(_mm256_cmpeq_epi8(lesser, distance)) ^ u64::from(u32::MAX)
}

#[target_feature(enable = "avx2")]
#[inline]
fn question(bytes: __m256i) -> u64 {
    mask(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'?' as i8)))
}
