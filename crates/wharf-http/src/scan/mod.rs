//! Where does this run of bytes end? The crate's one hot question, asked many bytes at a time.
//!
//! A [`Block`] is a handful of neighbouring bytes in a register and answers, for a byte class,
//! which of them are *not* in the class. There is one per instruction set: AVX2 and SSE2, NEON,
//! and plain 64-bit words for every machine. The algorithms below are written once over `Block`,
//! so the instruction sets differ in a few small functions only, and tests hold each to the plain
//! predicates of [`class`] for every byte, length and alignment.
//!
//! [`dispatch`] picks the set once per message and compiles the whole parser for it: no call
//! through a pointer, and no check, stands inside a message.
//!
//! This module knows byte classes and nothing of HTTP's structure. It is the only one of the crate
//! that may use `unsafe`, for loads and for calling code compiled for a wider instruction set.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
pub(crate) mod class;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod nibbles;
#[cfg(target_arch = "x86_64")]
mod sse2;
mod swar;
#[cfg(test)]
mod tests;

/// The blocks that every machine has, for code that is not compiled by [`dispatch`].
pub(crate) use swar::Word as Narrow;

/// Some bytes in a register.
///
/// A mask has, for byte `i` of the block, one bit at `i << SHIFT` plus a constant below
/// `1 << SHIFT`; all other bits are zero. So `trailing_zeros() >> SHIFT` is the first marked byte.
pub(crate) trait Block: Copy {
    /// How many bytes.
    const WIDTH: usize;
    /// How many mask bits stand for one byte, as a power of two.
    const SHIFT: u32;

    /// The `WIDTH` bytes from `from` on.
    ///
    /// # Safety
    ///
    /// `from + WIDTH <= bytes.len()`.
    unsafe fn load(bytes: &[u8], from: usize) -> Self;
    /// The bytes of a slice shorter than `WIDTH`, followed by zeros.
    fn load_short(bytes: &[u8]) -> Self;

    /// Bytes that are not [`class::is_token`].
    fn not_token(self) -> u64;
    /// Bytes that are not [`class::is_value`].
    fn not_value(self) -> u64;
    /// Bytes that are not [`class::is_target`].
    fn not_target(self) -> u64;
    /// Bytes that are not [`class::is_host`].
    fn not_host(self) -> u64;
    /// Bytes that are not ASCII digits.
    fn not_digit(self) -> u64;
    /// Bytes that are `?`.
    fn question(self) -> u64;
}

/// The widest blocks that need no question about the machine: best for what is short.
#[cfg(target_arch = "x86_64")]
type Small = sse2::Half;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
type Small = neon::Half;
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
type Small = swar::Word;

/// Whether all bytes are a token's.
#[inline]
pub(crate) fn is_all_token(bytes: &[u8]) -> bool {
    match bytes.len() {
        0..8 => bytes.iter().all(|&byte| class::TOKEN[usize::from(byte)]),
        8..16 => run_end::<Small>(&ends(bytes), 0, Small::not_token) == 16,
        len => run_end::<Small>(bytes, 0, Small::not_token) == len,
    }
}

/// Whether all bytes are a field value's.
#[inline]
pub(crate) fn is_all_value(bytes: &[u8]) -> bool {
    match bytes.len() {
        0..8 => bytes.iter().all(|&byte| class::is_value(byte)),
        8..16 => run_end::<Small>(&ends(bytes), 0, Small::not_value) == 16,
        len => run_end::<Small>(bytes, 0, Small::not_value) == len,
    }
}

/// The first and the last eight of 8 to 16 bytes. The order is lost and some may be there twice,
/// which is no matter when the question is whether all are of a kind.
#[inline(always)]
fn ends(bytes: &[u8]) -> [u8; 16] {
    let mut ends = [0; 16];
    ends[..8].copy_from_slice(&bytes[..8]);
    ends[8..].copy_from_slice(&bytes[bytes.len() - 8..]);
    ends
}

/// A block's worth of a slice that is shorter, followed by zeros. Out of line: it is needed for
/// the smallest of messages only.
#[cold]
#[inline(never)]
fn filled_up<const WIDTH: usize>(bytes: &[u8]) -> [u8; WIDTH] {
    let mut filled = [0; WIDTH];
    filled[..bytes.len()].copy_from_slice(bytes);
    filled
}

/// Work on bytes that is compiled once for each instruction set.
///
/// The parts stay apart, rather than in one value, so that they can travel in registers.
pub(crate) trait Job {
    /// What the work goes by.
    type Terms: ?Sized;
    /// What comes of it.
    type Outcome;
    /// Does the work; to be marked `inline(always)`, as must be everything hot below it.
    fn run<B: Block>(&mut self, bytes: &[u8], terms: &Self::Terms) -> Self::Outcome;
}

/// Runs a job with the widest blocks that this machine has.
#[inline(always)]
pub(crate) fn dispatch<J: Job>(job: &mut J, bytes: &[u8], terms: &J::Terms) -> J::Outcome {
    #[cfg(target_arch = "x86_64")]
    {
        // Bytes that do not fill a block would have to be copied into one: a narrower one is
        // three times as fast.
        if bytes.len() < avx2::Half::WIDTH || !x86::has_avx2() {
            return x86::run_half(job, bytes, terms);
        }
        if bytes.len() < avx2::Wide::WIDTH {
            // SAFETY: the machine has what the function is compiled for.
            return unsafe { x86::run_wide_half(job, bytes, terms) };
        }
        // SAFETY: the machine has what the function is compiled for.
        unsafe { x86::run_wide(job, bytes, terms) }
    }
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    {
        job.run::<neon::Half>(bytes, terms)
    }
    #[cfg(not(any(
        target_arch = "x86_64",
        all(target_arch = "aarch64", target_endian = "little")
    )))]
    {
        job.run::<swar::Word>(bytes, terms)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Job, avx2, sse2};
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;

    /// What [`look`] found. The standard library remembers each feature too, but three questions
    /// to it are dearer than one load. Relaxed, because the byte is all there is to see.
    static AVX2: AtomicU8 = AtomicU8::new(UNKNOWN);

    #[inline(always)]
    pub(super) fn has_avx2() -> bool {
        match AVX2.load(Relaxed) {
            YES => true,
            UNKNOWN => look(),
            _ => false,
        }
    }

    #[cold]
    #[inline(never)]
    fn look() -> bool {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        AVX2.store(if has { YES } else { NO }, Relaxed);
        has
    }

    /// The two BMI sets came to every processor with AVX2 and shorten the work on masks.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn run_wide<J: Job>(job: &mut J, bytes: &[u8], terms: &J::Terms) -> J::Outcome {
        job.run::<avx2::Wide>(bytes, terms)
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[inline(never)]
    pub(super) fn run_wide_half<J: Job>(job: &mut J, bytes: &[u8], terms: &J::Terms) -> J::Outcome {
        job.run::<avx2::Half>(bytes, terms)
    }

    /// Not inlined, so that it costs the wide path no registers.
    #[inline(never)]
    pub(super) fn run_half<J: Job>(job: &mut J, bytes: &[u8], terms: &J::Terms) -> J::Outcome {
        job.run::<sse2::Half>(bytes, terms)
    }
}

/// A block that covers `from`, and by how much its masks must be shifted right so that their
/// first bit stands for the byte at `from`.
///
/// Near the end of the slice the block is moved back so that it ends where the slice ends: one
/// load then serves however few bytes are left. `from` must be below `bytes.len()`.
#[inline(always)]
fn view<B: Block>(bytes: &[u8], from: usize) -> (B, u32) {
    debug_assert!(from < bytes.len());
    match bytes.len().checked_sub(B::WIDTH) {
        Some(last) => {
            let at = from.min(last);
            // SAFETY: `at <= last`, which is the slice's length less the block's width.
            let block = unsafe { B::load(bytes, at) };
            (block, ((from - at) as u32) << B::SHIFT)
        }
        // No class has the zeros that fill this block up, so every run ends at the slice's end.
        None => (B::load_short(&bytes[from..]), 0),
    }
}

/// Offset of the first byte from `from` on that `stops` marks, or the slice's length.
#[inline(always)]
fn run_end<B: Block>(bytes: &[u8], mut from: usize, stops: impl Fn(B) -> u64) -> usize {
    while from < bytes.len() {
        let (block, skip) = view::<B>(bytes, from);
        let mask = stops(block) >> skip;
        if mask != 0 {
            return from + first::<B>(mask);
        }
        from += B::WIDTH - (skip >> B::SHIFT) as usize;
    }
    bytes.len()
}

#[inline(always)]
fn first<B: Block>(mask: u64) -> usize {
    (mask.trailing_zeros() >> B::SHIFT) as usize
}

/// Offset of the first byte from `from` on that no token has, or the slice's length.
#[inline(always)]
pub(crate) fn token_end<B: Block>(bytes: &[u8], from: usize) -> usize {
    run_end::<B>(bytes, from, B::not_token)
}

/// Offset of the first byte from `from` on that no field value has, or the slice's length.
#[inline(always)]
pub(crate) fn value_end<B: Block>(bytes: &[u8], from: usize) -> usize {
    run_end::<B>(bytes, from, B::not_value)
}

/// Offset of the first byte from `from` on that no target has, or the slice's length.
#[inline(always)]
pub(crate) fn target_end<B: Block>(bytes: &[u8], from: usize) -> usize {
    run_end::<B>(bytes, from, B::not_target)
}

/// Where the parts of a plain authority end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// First byte that no plain host has: the colon before the port, if there is one.
    pub(crate) host_end: usize,
    /// First byte after the colon that is no digit. Meaningful only if there is a colon.
    pub(crate) port_end: usize,
}

/// Both ends of the authority that starts at `from`, from one load if it is short.
#[inline(always)]
pub(crate) fn authority<B: Block>(bytes: &[u8], from: usize) -> Authority {
    if from >= bytes.len() {
        return Authority { host_end: bytes.len(), port_end: bytes.len() };
    }
    let (block, skip) = view::<B>(bytes, from);
    let not_host = block.not_host() >> skip;
    if not_host != 0 {
        let host_end = from + first::<B>(not_host);
        let not_digit = (block.not_digit() >> skip) & !(not_host ^ (not_host - 1));
        if not_digit != 0 {
            return Authority { host_end, port_end: from + first::<B>(not_digit) };
        }
    }
    let host_end = run_end::<B>(bytes, from, B::not_host);
    Authority { host_end, port_end: run_end::<B>(bytes, host_end + 1, B::not_digit) }
}

/// Where the parts of a field line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldLine {
    /// First byte that is no token's: the colon, if all is well.
    pub(crate) name_end: usize,
    /// First byte after `name_end` that no value has: the CR, if all is well. Meaningful only if a
    /// colon stands at `name_end`.
    pub(crate) value_end: usize,
}

/// Both ends of the field line that starts at `from`, from one load if the line is short.
#[inline(always)]
pub(crate) fn field_line<B: Block>(bytes: &[u8], from: usize) -> FieldLine {
    if from >= bytes.len() {
        return FieldLine { name_end: bytes.len(), value_end: bytes.len() };
    }
    let (block, skip) = view::<B>(bytes, from);
    let not_token = block.not_token() >> skip;
    if not_token != 0 {
        let name_end = from + first::<B>(not_token);
        // A token's bytes and the colon are a value's bytes too, so the first stop is beyond them.
        let not_value = block.not_value() >> skip;
        if not_value != 0 {
            return FieldLine { name_end, value_end: from + first::<B>(not_value) };
        }
        let rest = from + B::WIDTH - (skip >> B::SHIFT) as usize;
        return FieldLine { name_end, value_end: value_end::<B>(bytes, rest) };
    }
    let rest = from + B::WIDTH - (skip >> B::SHIFT) as usize;
    let name_end = token_end::<B>(bytes, rest);
    FieldLine { name_end, value_end: value_end::<B>(bytes, name_end) }
}

/// Where the parts of a request line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestLine {
    /// First byte that no token has: the space after the method, if all is well.
    pub(crate) method_end: usize,
    /// First byte after `method_end + 1` that no target has: the second space, if all is well.
    pub(crate) target_end: usize,
    /// First `?` of the target, or `target_end`.
    pub(crate) question: usize,
}

/// All three ends of the request line that starts at `from`, from one load if it is short.
#[inline(always)]
pub(crate) fn request_line<B: Block>(bytes: &[u8], from: usize) -> RequestLine {
    let end = bytes.len();
    if from >= end {
        return RequestLine { method_end: end, target_end: end, question: end };
    }
    let (block, skip) = view::<B>(bytes, from);
    let not_token = block.not_token() >> skip;
    if not_token == 0 {
        // A method as wide as a block: no real one.
        let method_end = token_end::<B>(bytes, from);
        return target::<B>(bytes, method_end, method_end + 1);
    }
    let method_end = from + first::<B>(not_token);
    // What stands up to and including the space after the method is not the target's.
    let beyond = !(not_token ^ (not_token - 1));
    let not_target = (block.not_target() >> skip) & beyond;
    // No token has a `?`, so there is none before.
    let question = block.question() >> skip;
    if not_target != 0 {
        let target_end = from + first::<B>(not_target);
        let question = question & (not_target ^ (not_target - 1));
        let question = if question != 0 { from + first::<B>(question) } else { target_end };
        return RequestLine { method_end, target_end, question };
    }
    let rest = from + B::WIDTH - (skip >> B::SHIFT) as usize;
    let mut line = target::<B>(bytes, method_end, rest);
    if question != 0 {
        line.question = from + first::<B>(question);
    }
    line
}

/// The end and the question mark of a target of which all before `from` has been looked at.
#[inline(always)]
fn target<B: Block>(bytes: &[u8], method_end: usize, from: usize) -> RequestLine {
    let target_end = target_end::<B>(bytes, from);
    let question = run_end::<B>(&bytes[..target_end], from, B::question);
    RequestLine { method_end, target_end, question: question.min(target_end) }
}
