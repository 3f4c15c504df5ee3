//! Which bytes may stand where: the grammar's byte classes, one predicate each.
//!
//! These are the only place where a class is defined. The fast scanners build their tables from
//! them or are tested against them for every byte value.

/// RFC 9110 section 5.6.2: `tchar`.
pub(crate) const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z'
        | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
        | b'`' | b'|' | b'~')
}

/// [`is_token`] as a table, for single bytes.
pub(crate) static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_token(byte as u8);
        byte += 1;
    }
    table
};

/// RFC 9110 section 5.5: what `field-value` may hold, white space included: everything but the
/// control bytes. Bytes from 0x80 on are `obs-text` and opaque.
pub(crate) const fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// What may stand in a request target: visible ASCII but for `"`, `#`, `<` and `>`.
///
/// RFC 3986 also excludes `[ ] \ ^ { | }` and the backtick outside their places, yet browsers
/// send those raw (the URL standard's query state does not encode them), so they pass. The four
/// that are refused are sent by no browser: they delimit URIs in text (RFC 3986 appendix C), and
/// `#` starts a fragment, which is never sent (RFC 9112 section 3.2).
pub(crate) const fn is_target(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && !matches!(byte, b'"' | b'#' | b'<' | b'>')
}

/// RFC 3986 section 3.2.2: what a `reg-name` or an IPv4 address is made of, but for `%`, whose
/// two digits need a closer look.
pub(crate) const fn is_host(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z'
        | b'-' | b'.' | b'_' | b'~'
        | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}
