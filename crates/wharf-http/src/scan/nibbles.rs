//! Byte classes as a pair of 16-entry tables, for instruction sets with a table look-up.
//!
//! A byte below 0x80 is in a class if row `low nibble` of the class's table has the bit of the
//! byte's high nibble. One more table turns a high nibble into its bit, and has none for the
//! nibbles from 8 on, so that no byte from 0x80 on is in any class.

/// A table of 16 bytes, indexed by a nibble.
pub(super) type Nibbles = [u8; 16];

/// The bit that stands for a high nibble.
pub(super) const HIGH_BIT: Nibbles = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];

/// Builds a class's table at compile time, from the predicate that defines the class.
macro_rules! nibbles {
    ($predicate:path) => {{
        let mut table: $crate::scan::nibbles::Nibbles = [0; 16];
        let mut byte = 0u8;
        while byte < 0x80 {
            if $predicate(byte) {
                table[(byte & 0xf) as usize] |= 1 << (byte >> 4);
            }
            byte += 1;
        }
        table
    }};
}

use super::class;

const fn is_control(byte: u8) -> bool {
    !class::is_value(byte)
}

pub(super) const TOKEN: Nibbles = nibbles!(class::is_token);
pub(super) const TARGET: Nibbles = nibbles!(class::is_target);
pub(super) const HOST: Nibbles = nibbles!(class::is_host);
/// The bytes that no value has: the only class here that is told by what is not in it, because
/// bytes from 0x80 on are a value's.
pub(super) const CONTROL: Nibbles = nibbles!(is_control);
