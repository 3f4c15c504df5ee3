//! The grammar of chunk extensions (RFC 9112 section 7.1.1), byte by byte.
//!
//! Nobody here acts on an extension. They are read by their grammar all the same, because a reader
//! that skips to the next line end can be made to disagree with one that does not about where the
//! line ends.
//!
//! ```text
//! chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
//! ```

use crate::scan::class;

/// Where in an extension the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// Behind the size: a `;`, or white space before one.
    Begin,
    /// Behind `;`: a name, or white space before it.
    Semicolon,
    Name,
    /// In white space behind a name.
    NameSpace,
    /// Behind `=`: a value, or white space before it.
    Equals,
    Token,
    Quoted,
    /// Behind a backslash in a quoted value.
    Escaped,
    /// Behind a quoted value's closing quote.
    Unquoted,
}

impl Extension {
    /// Whether the line may end here. White space must be followed by something: the grammar has
    /// none before the line end.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Token | Extension::Unquoted)
    }

    /// Where the byte leads; `None` if it may not stand here.
    pub(super) fn next(self, byte: u8) -> Option<Extension> {
        use Extension::*;
        let is_token = class::is_token(byte);
        match (self, byte) {
            (Begin, b' ' | b'\t') => Some(Begin),
            (Begin, b';') => Some(Semicolon),

            (Semicolon, b' ' | b'\t') => Some(Semicolon),
            (Semicolon | Name, _) if is_token => Some(Name),
            (Name | NameSpace, b' ' | b'\t') => Some(NameSpace),
            (Name | NameSpace, b'=') => Some(Equals),
            (Name | NameSpace, b';') => Some(Semicolon),

            (Equals, b' ' | b'\t') => Some(Equals),
            (Equals, b'"') => Some(Quoted),
            (Equals | Token, _) if is_token => Some(Token),

            // RFC 9110 section 5.6.4: everything but control bytes may stand in quotes.
            (Quoted, b'"') => Some(Unquoted),
            (Quoted, b'\\') => Some(Escaped),
            (Quoted | Escaped, _) if class::is_value(byte) => Some(Quoted),

            (Token | Unquoted, b' ' | b'\t') => Some(Begin),
            (Token | Unquoted, b';') => Some(Semicolon),
            _ => None,
        }
    }
}
