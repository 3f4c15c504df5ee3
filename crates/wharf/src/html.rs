//! Pages, and texts in them.

use std::fmt::{self, Write};

use bytes::Bytes;

use crate::{IntoResponse, Response};

/// A page: `200 OK` with `text/html; charset=utf-8`. What it shows of others' input has to be
/// [escaped](Escaped).
///
/// ```
/// use wharf::{Html, IntoResponse};
///
/// let response = Html("<h1>Orders</h1>").into_response();
/// assert_eq!(response.status(), 200);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Html<T>(pub T);

impl<T: Into<Bytes>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        Response::html(self.0)
    }
}

/// What may stand in a page as text: between tags, and in an attribute's value between quotes. Not
/// within a script, a style or a tag's name, where other rules hold, and not as a link that others
/// have chosen, since `javascript:` is one.
///
/// ```
/// use wharf::{Error, Escaped, Html, Request};
///
/// fn greet(request: &Request) -> Result<Html<String>, Error> {
///     let name: &str = request.param("name")?;
///     Ok(Html(format!("<p>Hello, {}!</p>", Escaped(name))))
/// }
/// assert_eq!(Escaped("<b> & \"c\"").to_string(), "&lt;b&gt; &amp; &quot;c&quot;");
/// # let _ = greet;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'f, 'b>(&'f mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            self.0.write_str(&rest[..at])?;
            self.0.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_does_not_read_what_is_escaped() {
        let escaped = Escaped("<a href=\"x\">&'ü").to_string();
        assert_eq!(escaped, "&lt;a href=&quot;x&quot;&gt;&amp;&#39;ü");
        assert_eq!(Escaped("plain").to_string(), "plain");
        // What a value writes piece by piece is escaped too.
        assert_eq!(Escaped(format_args!("<{}>", '&')).to_string(), "&lt;&amp;&gt;");
        assert_eq!(Escaped(7).to_string(), "7");
    }
}
