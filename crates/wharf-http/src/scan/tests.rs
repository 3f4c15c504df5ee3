//! Every instruction set against the predicates and a naive scanner.

use super::class;
use super::*;
use proptest::prelude::*;

/// A test that every kind of block has to pass on this machine.
macro_rules! for_every_block {
    ($($test:ident;)*) => {
        mod word {
            $(#[test] fn $test() { super::$test::<super::swar::Word>(); })*
        }
        #[cfg(target_arch = "x86_64")]
        mod sse2 {
            $(#[test] fn $test() { super::$test::<super::super::sse2::Half>(); })*
        }
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            $(#[test] fn $test() {
                if super::super::x86::has_avx2() {
                    super::$test::<super::super::avx2::Wide>();
                }
            })*
        }
        #[cfg(target_arch = "x86_64")]
        mod avx2_half {
            $(#[test] fn $test() {
                if super::super::x86::has_avx2() {
                    super::$test::<super::super::avx2::Half>();
                }
            })*
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        mod neon {
            $(#[test] fn $test() { super::$test::<super::super::neon::Half>(); })*
        }
    };
}

for_every_block! {
    masks_are_exact_for_every_byte_in_every_place;
    masks_are_exact_for_random_blocks;
    runs_end_where_the_naive_scanner_says;
    runs_of_every_length_at_every_alignment;
}

/// Which bytes a class has, and how a block marks those that it does not have.
type Class<B> = (fn(u8) -> bool, fn(B) -> u64);

fn classes<B: Block>() -> [Class<B>; 6] {
    [
        (class::is_token, B::not_token),
        (class::is_value, B::not_value),
        (class::is_target, B::not_target),
        (class::is_host, B::not_host),
        (|byte| byte.is_ascii_digit(), B::not_digit),
        (|byte| byte != b'?', B::question),
    ]
}

/// Holds all masks of a block with these bytes to the predicates, bit by bit.
fn check_masks<B: Block>(bytes: &[u8]) {
    assert_eq!(bytes.len(), B::WIDTH);
    // SAFETY: the slice has the block's width.
    let block = unsafe { B::load(bytes, 0) };
    for (number, (is_in, not_in)) in classes::<B>().into_iter().enumerate() {
        let mut mask = not_in(block);
        for &byte in bytes {
            let lane = mask & ((1 << (1 << B::SHIFT)) - 1);
            assert_eq!(
                lane.count_ones() == 0,
                is_in(byte),
                "class {number}, {byte:#x}: {bytes:x?}"
            );
            assert!(lane.count_ones() <= 1);
            mask = mask.unbounded_shr(1 << B::SHIFT);
        }
        assert_eq!(mask, 0, "class {number}: marks beyond the block");
    }
}

fn masks_are_exact_for_every_byte_in_every_place<B: Block>() {
    // Neighbours of several kinds, so that what leaks from one byte into the next shows.
    for filler in [b'a', 0, b' ', 0x7f, 0x80, 0xff] {
        for place in 0..B::WIDTH {
            for byte in 0..=255 {
                let mut bytes = vec![filler; B::WIDTH];
                bytes[place] = byte;
                check_masks::<B>(&bytes);
            }
        }
    }
}

fn masks_are_exact_for_random_blocks<B: Block>() {
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), B::WIDTH))| {
        check_masks::<B>(&bytes);
    });
}

/// Where the run ends, byte by byte.
fn naive_end(bytes: &[u8], from: usize, is_in: fn(u8) -> bool) -> usize {
    (from..bytes.len()).find(|&at| !is_in(bytes[at])).unwrap_or(bytes.len())
}

/// Holds every scanner to the naive one, from one place in one slice.
fn check_runs<B: Block>(bytes: &[u8], from: usize) {
    let naive = |from, is_in| naive_end(bytes, from, is_in);
    assert_eq!(token_end::<B>(bytes, from), naive(from, class::is_token));
    assert_eq!(value_end::<B>(bytes, from), naive(from, class::is_value));
    assert_eq!(target_end::<B>(bytes, from), naive(from, class::is_target));

    let line = field_line::<B>(bytes, from);
    assert_eq!(line.name_end, naive(from, class::is_token));
    if bytes.get(line.name_end) == Some(&b':') {
        assert_eq!(line.value_end, naive(line.name_end, class::is_value));
    }

    let line = request_line::<B>(bytes, from);
    assert_eq!(line.method_end, naive(from, class::is_token));
    if bytes.get(line.method_end) == Some(&b' ') {
        assert_eq!(line.target_end, naive(line.method_end + 1, class::is_target));
        let target = &bytes[..line.target_end];
        let question = naive_end(target, line.method_end + 1, |byte| byte != b'?');
        assert_eq!(line.question, question.min(line.target_end));
    }

    let authority = authority::<B>(bytes, from);
    assert_eq!(authority.host_end, naive(from, class::is_host));
    if bytes.get(authority.host_end) == Some(&b':') {
        let port_end = naive(authority.host_end + 1, |byte| byte.is_ascii_digit());
        assert_eq!(authority.port_end, port_end);
    }
}

/// Bytes as they come in heads, so that runs are long and their ends of every kind.
fn head_like() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        60 => prop::sample::select(b"abcdefgxyzABCXYZ0123456789-._/".to_vec()),
        6 => prop::sample::select(b": ?\r\n\t".to_vec()),
        1 => any::<u8>(),
    ];
    proptest::collection::vec(byte, 0..150)
}

fn runs_end_where_the_naive_scanner_says<B: Block>() {
    proptest!(ProptestConfig::with_cases(2_000), |(bytes in head_like(), skip in 0..8usize)| {
        // Cut out of a longer slice, so that reading beyond an end would be seen as a wrong end.
        let bytes = &bytes[skip.min(bytes.len())..];
        for from in 0..=bytes.len() {
            check_runs::<B>(bytes, from);
        }
    });
}

fn runs_of_every_length_at_every_alignment<B: Block>() {
    for line in ["GET /path?query HTTP", "name: value\r\n", "host.example:8080\r", "a?b:1 c?d"] {
        for padding in 0..80 {
            // The padding lengthens the first run; all of it stands at every alignment in turn.
            let bytes = ["x".repeat(padding), line.to_owned()].concat().into_bytes();
            for alignment in 0..B::WIDTH {
                let mut room = vec![b'\r'; alignment];
                room.extend_from_slice(&bytes);
                check_runs::<B>(&room[alignment..], 0);
            }
            for cut in 0..=bytes.len() {
                check_runs::<B>(&bytes[..cut], 0);
            }
        }
    }
}

#[test]
fn one_wrong_byte_anywhere_is_seen_at_every_length() {
    for len in 0..70 {
        let good = vec![b'a'; len];
        assert!(is_all_token(&good) && is_all_value(&good));
        for place in 0..len {
            for byte in 0..=255 {
                let mut bytes = good.clone();
                bytes[place] = byte;
                assert_eq!(is_all_token(&bytes), class::is_token(byte), "{bytes:x?}");
                assert_eq!(is_all_value(&bytes), class::is_value(byte), "{bytes:x?}");
            }
        }
    }
}

#[test]
fn dispatched_work_is_done_by_a_block_that_this_machine_has() {
    struct Width;
    impl Job for Width {
        type Terms = ();
        type Outcome = usize;
        #[inline(always)]
        fn run<B: Block>(&mut self, bytes: &[u8], (): &()) -> usize {
            assert_eq!(token_end::<B>(bytes, 0), 5);
            B::WIDTH
        }
    }
    let width = dispatch(&mut Width, b"token and more, beyond the widest block", &());
    assert!([8, 16, 32].contains(&width));
}
