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

pub(crate) mod class;
mod swar;

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
    /// Bytes that are `?`.
    fn question(self) -> u64;
}

/// Work that is compiled once for each instruction set.
pub(crate) trait Job {
    /// What comes of it.
    type Outcome;
    /// Does the work; to be marked `inline(always)`, as must be everything hot below it.
    fn run<B: Block>(self) -> Self::Outcome;
}

/// Runs a job with the widest blocks that this machine has.
#[inline(always)]
pub(crate) fn dispatch<J: Job>(job: J) -> J::Outcome {
    job.run::<swar::Word>()
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

/// Offset of the first byte from `from` on that no plain host has, or the slice's length.
#[inline(always)]
pub(crate) fn host_end<B: Block>(bytes: &[u8], from: usize) -> usize {
    run_end::<B>(bytes, from, B::not_host)
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
    let question = (block.question() >> skip) & beyond;
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
