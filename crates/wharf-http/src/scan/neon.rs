//! Sixteen bytes, with NEON, which every 64-bit ARM machine has.

use super::nibbles::{CONTROL, HIGH_BIT, HOST, Nibbles, TARGET, TOKEN};
use super::{Block, filled_up};
use std::arch::aarch64::*;

/// Sixteen bytes.
#[derive(Clone, Copy)]
pub(crate) struct Half(uint8x16_t);

impl Block for Half {
    const WIDTH: usize = 16;
    const SHIFT: u32 = 2;

    #[inline(always)]
    unsafe fn load(bytes: &[u8], from: usize) -> Half {
        // SAFETY: the caller promises that 16 bytes stand from `from` on.
        let bytes = unsafe { bytes.get_unchecked(from..from + 16) };
        // SAFETY: NEON is a part of this architecture's Rust targets.
        Half(unsafe { load(bytes.try_into().expect("16 bytes")) })
    }

    #[inline(always)]
    fn load_short(bytes: &[u8]) -> Half {
        // SAFETY: NEON is a part of this architecture's Rust targets.
        Half(unsafe { load(&filled_up(bytes)) })
    }

    #[inline(always)]
    fn not_token(self) -> u64 {
        // SAFETY: NEON is a part of this architecture's Rust targets.
        unsafe { not_token(self.0) }
    }

    #[inline(always)]
    fn not_value(self) -> u64 {
        // SAFETY: NEON is a part of this architecture's Rust targets.
        unsafe { not_value(self.0) }
    }

    #[inline(always)]
    fn not_target(self) -> u64 {
        // SAFETY: NEON is a part of this architecture's Rust targets.
        unsafe { not_target(self.0) }
    }

    #[inline(always)]
    fn not_host(self) -> u64 {
        // SAFETY: NEON is a part of this architecture's Rust targets.
        unsafe { not_host(self.0) }
    }

    #[inline(always)]
    fn not_digit(self) -> u64 {
        // SAFETY: NEON is a part of this architecture's Rust targets.
        unsafe { not_digit(self.0) }
    }

    #[inline(always)]
    fn question(self) -> u64 {
        // SAFETY: NEON is a part of this architecture's Rust targets.
        unsafe { question(self.0) }
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 bytes are read, from any address.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// The top bit of a nibble for each marked byte. NEON cannot gather one bit of each byte in one
/// instruction; narrowing by a shift of four leaves four bits of each, of which one is kept.
#[target_feature(enable = "neon")]
#[inline]
fn mask(marks: uint8x16_t) -> u64 {
    let nibbles = vshrn_n_u16::<4>(vreinterpretq_u16_u8(marks));
    vget_lane_u64::<0>(vreinterpret_u64_u8(nibbles)) & 0x8888_8888_8888_8888
}

/// For each byte, its bit in a class: 0 if it is not in it.
#[target_feature(enable = "neon")]
#[inline]
fn selected(class: &'static Nibbles, bytes: uint8x16_t) -> uint8x16_t {
    let by_low = vqtbl1q_u8(load(class), vandq_u8(bytes, vdupq_n_u8(0xf)));
    vandq_u8(by_low, vqtbl1q_u8(load(&HIGH_BIT), vshrq_n_u8::<4>(bytes)))
}

#[target_feature(enable = "neon")]
#[inline]
fn not_in(class: &'static Nibbles, bytes: uint8x16_t) -> u64 {
    mask(vceqzq_u8(selected(class, bytes)))
}

#[target_feature(enable = "neon")]
#[inline]
fn not_token(bytes: uint8x16_t) -> u64 {
    not_in(&TOKEN, bytes)
}

#[target_feature(enable = "neon")]
#[inline]
fn not_value(bytes: uint8x16_t) -> u64 {
    let control = selected(&CONTROL, bytes);
    mask(vtstq_u8(control, control))
}

#[target_feature(enable = "neon")]
#[inline]
fn not_target(bytes: uint8x16_t) -> u64 {
    not_in(&TARGET, bytes)
}

#[target_feature(enable = "neon")]
#[inline]
fn not_host(bytes: uint8x16_t) -> u64 {
    not_in(&HOST, bytes)
}

#[target_feature(enable = "neon")]
#[inline]
fn not_digit(bytes: uint8x16_t) -> u64 {
    mask(vcgtq_u8(vsubq_u8(bytes, vdupq_n_u8(b'0')), vdupq_n_u8(9)))
}

#[target_feature(enable = "neon")]
#[inline]
fn question(bytes: uint8x16_t) -> u64 {
    mask(vceqq_u8(bytes, vdupq_n_u8(b'?')))
}
