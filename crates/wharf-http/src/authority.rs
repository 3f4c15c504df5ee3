//! Is this a host with an optional port? (RFC 3986 section 3.2, RFC 9110 sections 4.2 and 7.2)

use crate::scan::class;
use core::net::Ipv6Addr;

/// What is asked of the port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// It may be missing, or empty after its colon.
    Optional,
    /// CONNECT names it always (RFC 9110 section 9.3.6).
    Required,
}

/// Whether the bytes are a non-empty host and a port as asked. User information is refused, as
/// RFC 9110 section 4.2.4 advises for what comes from an untrusted source.
pub(crate) fn is_authority(bytes: &[u8], port: Port) -> bool {
    let host_len = match bytes {
        [] => return false,
        [b'[', rest @ ..] => match rest.iter().position(|&byte| byte == b']') {
            Some(len) if is_ip_literal(&rest[..len]) => len + 2,
            _ => return false,
        },
        _ => match registered_name(bytes) {
            Some(len) if len > 0 => len,
            _ => return false,
        },
    };
    match &bytes[host_len..] {
        [] => port == Port::Optional,
        [b':', digits @ ..] => is_port(digits, port),
        _ => false,
    }
}

/// Decimal digits up to 65,535, or nothing if the port is optional.
#[inline]
pub(crate) fn is_port(digits: &[u8], port: Port) -> bool {
    if digits.is_empty() {
        return port == Port::Optional;
    }
    // RFC 3986 sets no end to the digits; no port is longer than five.
    if digits.len() > 5 {
        return false;
    }
    let mut number = 0;
    for &byte in digits {
        let digit = u32::from(byte).wrapping_sub(u32::from(b'0'));
        if digit > 9 {
            return false;
        }
        number = number * 10 + digit;
    }
    number <= 65_535
}

/// Whether what is known to be digits is five of them, up to 65,535. Compared as they stand, first
/// digit first, which is their order as numbers too.
#[inline(always)]
pub(crate) fn is_five_digit_port(digits: &[u8]) -> bool {
    let Ok([four @ .., last]) = <&[u8; 5]>::try_from(digits) else { return false };
    let (four, most) = (u32::from_be_bytes(*four), u32::from_be_bytes(*b"6553"));
    four < most || (four == most && *last <= b'5')
}

/// How many bytes of a `reg-name` or IPv4 address stand here; none if a `%` lacks its digits.
fn registered_name(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => match bytes.get(at + 1..at + 3) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => at += 3,
                _ => return None,
            },
            byte if class::is_host(byte) => at += 1,
            _ => break,
        }
    }
    Some(at)
}

/// What stands between brackets: an IPv6 address without a zone, or `v`, a version in hexadecimal,
/// a dot and an address of that future kind.
fn is_ip_literal(bytes: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = bytes {
        let Some(dot) = future.iter().position(|&byte| byte == b'.') else { return false };
        let (version, address) = (&future[..dot], &future[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| class::is_host(byte) || byte == b':');
    }
    str::from_utf8(bytes).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for right in [
            "a",
            "example.com",
            "127.0.0.1:8080",
            "a:",
            "a:0",
            "a:65535",
            "[::1]",
            "[::1]:80",
            "[2001:db8::192.0.2.1]",
            "[v1.fe80::a+en1]:1",
            "a_b~c",
            "%41b",
            "xn--nxasmq6b",
        ] {
            assert!(is_authority(right.as_bytes(), Port::Optional), "{right}");
        }
        for wrong in [
            "",
            ":80",
            "a:65536",
            "a:100000",
            "a:+1",
            "a: 1",
            "a b",
            "user@a",
            "a/b",
            "a?b",
            "a#b",
            "[::1",
            "::1",
            "[::g]",
            "[]",
            "[fe80::1%25en0]",
            "[v1]",
            "[v.a]",
            "[v1.]",
            "[vg.a]",
            "a%4",
            "a%zz",
            "a\u{e9}",
            "[::1]x",
            "a:1:2",
            "a\\b",
            "a,b:c",
        ] {
            assert!(!is_authority(wrong.as_bytes(), Port::Optional), "{wrong}");
        }
    }

    #[test]
    fn a_required_port_has_digits() {
        assert!(is_authority(b"a:443", Port::Required));
        assert!(is_authority(b"[::1]:443", Port::Required));
        assert!(!is_authority(b"a", Port::Required));
        assert!(!is_authority(b"a:", Port::Required));
        assert!(!is_authority(b"[::1]", Port::Required));
    }
}
