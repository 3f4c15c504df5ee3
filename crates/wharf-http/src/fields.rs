//! What the crate itself must understand of fields: six names, and lists.

/// The fields that decide where a message ends, where it goes and what becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Host,
    Expect,
    Upgrade,
    Connection,
    ContentLength,
    TransferEncoding,
}

/// For each length of a name, the first letter of the one known name that is so long.
const FIRST: [u8; 32] = {
    let mut first = [0; 32];
    first["host".len()] = b'h';
    first["expect".len()] = b'e';
    first["upgrade".len()] = b'u';
    first["connection".len()] = b'c';
    first["content-length".len()] = b'c';
    first["transfer-encoding".len()] = b't';
    first
};

/// Whether a non-empty name may be a known one, by its length and first letter. Almost no other
/// name passes, so the parser's loop pays for two loads and a comparison and leaves the rest to
/// [`known`].
#[inline(always)]
pub(crate) fn may_be_known(name: &[u8]) -> bool {
    name.len() < FIRST.len() && FIRST[name.len()] == name[0] | 0x20
}

/// Which known field has this name, in whatever letter case. The name's bytes are a token's.
pub(crate) fn known(name: &[u8]) -> Option<Known> {
    let (known, is_it) = match name.len() {
        4 => (Known::Host, is_host(name)),
        6 => (Known::Expect, is_folded(name, b"expect")),
        7 => (Known::Upgrade, is_folded(name, b"upgrade")),
        10 => (Known::Connection, is_folded(name, b"connection")),
        14 => (Known::ContentLength, is_folded(name, b"content-length")),
        17 => (Known::TransferEncoding, is_folded(name, b"transfer-encoding")),
        _ => return None,
    };
    is_it.then_some(known)
}

/// Whether a token is the name of Host.
#[inline(always)]
pub(crate) fn is_host(name: &[u8]) -> bool {
    is_folded(name, b"host")
}

/// Whether the bytes are `lower`, in whatever letter case.
///
/// `lower` is made of small letters, digits and hyphens, and `bytes` of bytes that may stand in a
/// field value. So setting the bit by which letters differ in case maps onto `lower` only what is
/// equal to it: what else it would map there are control bytes.
#[inline(always)]
pub(crate) fn is_folded<const N: usize>(bytes: &[u8], lower: &[u8; N]) -> bool {
    let Ok(bytes) = <&[u8; N]>::try_from(bytes) else { return false };
    // In words, which may overlap; left to itself the compiler goes byte by byte.
    match N {
        4..8 => [0, N - 4].iter().all(|&at| word32(bytes, at) | FOLD as u32 == word32(lower, at)),
        8..=16 => [0, N - 8].iter().all(|&at| word64(bytes, at) | FOLD == word64(lower, at)),
        _ => bytes.iter().zip(lower).all(|(byte, lower)| byte | 0x20 == *lower),
    }
}

/// The bit by which letters differ in case, for each byte of a word.
const FOLD: u64 = 0x2020_2020_2020_2020;

#[inline(always)]
fn word32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[inline(always)]
fn word64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The members of a comma-separated list, trimmed; empty ones are left out
/// (RFC 9110 section 5.6.1.2).
pub(crate) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Without the spaces and tabs at both ends (RFC 9110 section 5.6.3).
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// A plain decimal number below 2^64: no sign, no space, no list (RFC 9110 section 8.6).
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_passes_the_quick_look_in_any_case() {
        for name in
            ["Host", "EXPECT", "upgrade", "Connection", "Content-Length", "tRANSFER-eNCODING"]
        {
            assert!(may_be_known(name.as_bytes()), "{name}");
            assert!(known(name.as_bytes()).is_some(), "{name}");
        }
        assert_eq!(known(b"Content-Lengtj"), None);
        for len in 1..100 {
            assert!(!may_be_known(&vec![b'z'; len]));
            assert_eq!(may_be_known(&vec![b'H'; len]), len == 4);
        }
    }

    #[test]
    fn members_are_trimmed_and_never_empty() {
        let of = |list: &'static str| members(list.as_bytes()).collect::<Vec<_>>();
        assert_eq!(of(" a ,\t,b,, c d "), [b"a".as_slice(), b"b", b"c d"]);
        assert!(of("").is_empty());
        assert!(of(" , ,").is_empty());
    }

    #[test]
    fn a_decimal_is_digits_below_two_to_the_64() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for wrong in ["", "18446744073709551616", "99999999999999999999", "+1", "-1", "1 ", "0x1"] {
            assert_eq!(decimal(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
