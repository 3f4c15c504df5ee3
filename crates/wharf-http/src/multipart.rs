//! Multipart bodies (RFC 2046 section 5.1) as forms are sent in them (RFC 7578): where each part
//! begins and ends. Nothing here knows where bytes come from or where they go.
//!
//! ```text
//!              ┌────────────────────────────── "\r\n" ◄──────────────┐
//!              ▼                                                     │
//!   Preamble ─────► Delimiter ─── "--" ───► End                      │
//!    (thrown away)   │  ▲ │                                          │
//!                    │  │ └── "\r\n" ──► Head ── blank line ──► DataStart
//!                    │  │                                        │   │ delimiter: an empty part
//!                    │  └──────── delimiter ──── Data ◄──────────┘   │
//!                    ▼                                               ▼
//!                 refused                                         Delimiter
//! ```

use std::fmt;

use memchr::memmem::Finder;

use crate::media::Media;

/// Splits a multipart body into its parts.
///
/// It is shown the bytes that have come and not been used yet, and says with each [`MultipartStep`]
/// how many of them are used by it. The same body gives the same parts however it was cut.
pub struct MultipartSplitter {
    /// CR LF, two hyphens, the boundary (RFC 2046 section 5.1.1).
    delimiter: Finder<'static>,
    state: State,
    head_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the first byte of the body, where a delimiter may lack its line break.
    Start,
    Preamble,
    /// Behind a boundary.
    Delimiter,
    Head,
    /// Before the line break that ends the head, which may be a delimiter's own.
    DataStart,
    Data,
    End,
}

/// What comes next in a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultipartStep {
    /// More bytes are needed behind those that were shown. If there are none, the body is
    /// truncated.
    More,
    /// This many bytes are of no meaning to anybody.
    Skip(usize),
    /// A part begins; its head took this many bytes.
    Head(PartHead, usize),
    /// The next bytes, this many and at least one, are the part's.
    Data(usize),
    /// The part ends; this took so many bytes.
    PartEnd(usize),
    /// The body is over. Whatever follows is of no meaning.
    End,
}

/// What a part says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHead {
    /// The form's field.
    pub name: String,
    /// The file's name as it was sent. Empty if no file was chosen.
    pub file_name: Option<String>,
    /// The media type, if one is given.
    pub content_type: Option<String>,
}

/// Why a body is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultipartRefusal {
    /// Content-Type has no boundary, or one that cannot be.
    Boundary,
    /// Something other than a line break or two hyphens stands behind a boundary.
    Delimiter,
    /// A part's head is longer than is allowed.
    HeadTooLong,
    /// A part's head is not one.
    Head,
    /// A part has no name (RFC 7578 section 4.2).
    Name,
    /// A part is encoded in a way that forms no longer use (RFC 7578 section 4.7).
    Encoding,
}

impl MultipartRefusal {
    /// A sentence for the client. It repeats nothing of what was sent.
    pub fn reason(self) -> &'static str {
        match self {
            MultipartRefusal::Boundary => "Content-Type has no boundary, or one that cannot be",
            MultipartRefusal::Delimiter => "a boundary is not followed by the end of its line",
            MultipartRefusal::HeadTooLong => "the head of a part is too long",
            MultipartRefusal::Head => "the head of a part is malformed",
            MultipartRefusal::Name => "a part has no name",
            MultipartRefusal::Encoding => "a part has a Content-Transfer-Encoding",
        }
    }
}

impl fmt::Display for MultipartRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for MultipartRefusal {}

/// White space that may stand behind a boundary (RFC 2046 section 5.1.1); nobody sends any.
const PADDING_BYTES: usize = 64;

type Result<T> = std::result::Result<T, MultipartRefusal>;

impl MultipartSplitter {
    /// For a body whose boundary is in the value of Content-Type. The head of a part may have
    /// `head_bytes`. To come to a step, no more bytes need be shown at once than
    /// [`window`](MultipartSplitter::window).
    pub fn new(content_type: &str, head_bytes: usize) -> Result<MultipartSplitter> {
        // RFC 2046 section 5.1.1: 70 characters of a few kinds, the last one not a space.
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        let boundary = Media::of(content_type).parameter("boundary").unwrap_or_default();
        let is_fit = (1..=70).contains(&boundary.len()) && boundary.bytes().all(is_fit);
        if !is_fit || boundary.ends_with(' ') {
            return Err(MultipartRefusal::Boundary);
        }
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        Ok(MultipartSplitter { delimiter, state: State::Start, head_bytes })
    }

    /// How long the head of a part may be from now on, in bytes.
    pub fn set_head_bytes(&mut self, head_bytes: usize) {
        self.head_bytes = head_bytes;
    }

    /// How many bytes have to be shown at the most for a step other than
    /// [`More`](MultipartStep::More).
    pub fn window(&self) -> usize {
        let delimiter = self.delimiter.needle().len() + 1;
        self.head_bytes.max(delimiter).max(PADDING_BYTES + 2)
    }

    /// The next step. `input` is what has come and was not used by the steps before.
    pub fn step(&mut self, input: &[u8]) -> Result<MultipartStep> {
        match self.state {
            State::Start => Ok(self.start(input)),
            State::Preamble => Ok(match self.delimiter.find(input) {
                Some(at) => self.go(State::Delimiter, MultipartStep::Skip(at + self.length())),
                None => {
                    self.up_to_delimiter(input).map_or(MultipartStep::More, MultipartStep::Skip)
                }
            }),
            State::Delimiter => self.behind_delimiter(input),
            State::Head => self.head(input),
            State::DataStart => Ok(self.data_start(input)),
            State::Data => Ok(match self.delimiter.find(input) {
                Some(0) => self.go(State::Delimiter, MultipartStep::PartEnd(self.length())),
                Some(at) => MultipartStep::Data(at),
                None => {
                    self.up_to_delimiter(input).map_or(MultipartStep::More, MultipartStep::Data)
                }
            }),
            State::End => Ok(MultipartStep::End),
        }
    }

    fn go(&mut self, state: State, step: MultipartStep) -> MultipartStep {
        self.state = state;
        step
    }

    fn length(&self) -> usize {
        self.delimiter.needle().len()
    }

    /// How many bytes cannot belong to a delimiter, if there are any.
    fn up_to_delimiter(&self, input: &[u8]) -> Option<usize> {
        let count = (input.len() + 1).saturating_sub(self.length());
        (count > 0).then_some(count)
    }

    fn start(&mut self, input: &[u8]) -> MultipartStep {
        let boundary = &self.delimiter.needle()[2..];
        if input.starts_with(boundary) {
            let length = boundary.len();
            self.go(State::Delimiter, MultipartStep::Skip(length))
        } else if boundary.starts_with(input) {
            MultipartStep::More
        } else {
            self.go(State::Preamble, MultipartStep::Skip(0))
        }
    }

    fn behind_delimiter(&mut self, input: &[u8]) -> Result<MultipartStep> {
        let padding = input.iter().take_while(|byte| b" \t".contains(byte)).count();
        match &input[padding..] {
            _ if padding > PADDING_BYTES => Err(MultipartRefusal::Delimiter),
            [b'-', b'-', ..] => Ok(self.go(State::End, MultipartStep::End)),
            [b'\r', b'\n', ..] => Ok(self.go(State::Head, MultipartStep::Skip(padding + 2))),
            [] | [b'-' | b'\r'] => Ok(MultipartStep::More),
            _ => Err(MultipartRefusal::Delimiter),
        }
    }

    fn head(&mut self, input: &[u8]) -> Result<MultipartStep> {
        let window = &input[..input.len().min(self.head_bytes)];
        match memchr::memmem::find(window, b"\r\n\r\n") {
            Some(end) => {
                let head = PartHead::parse(&input[..end])?;
                // The second line break stays: it may be the delimiter's.
                Ok(self.go(State::DataStart, MultipartStep::Head(head, end + 2)))
            }
            None if input.len() >= self.head_bytes => Err(MultipartRefusal::HeadTooLong),
            None => Ok(MultipartStep::More),
        }
    }

    fn data_start(&mut self, input: &[u8]) -> MultipartStep {
        let delimiter = self.delimiter.needle();
        if input.starts_with(delimiter) {
            let length = delimiter.len();
            self.go(State::Delimiter, MultipartStep::PartEnd(length))
        } else if delimiter.starts_with(input) {
            MultipartStep::More
        } else {
            self.go(State::Data, MultipartStep::Skip(2))
        }
    }
}

impl fmt::Debug for MultipartSplitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultipartSplitter").field("state", &self.state).finish_non_exhaustive()
    }
}

impl PartHead {
    /// Reads the lines of a head.
    fn parse(head: &[u8]) -> Result<PartHead> {
        let head = std::str::from_utf8(head).map_err(|_| MultipartRefusal::Head)?;
        let (mut disposition, mut content_type) = (None, None);
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(':').ok_or(MultipartRefusal::Head)?;
            let is_token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            // A line that begins with white space would belong to the one before it.
            if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n', '\0'])
            {
                return Err(MultipartRefusal::Head);
            }
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-disposition") {
                if disposition.replace(value).is_some() {
                    return Err(MultipartRefusal::Head);
                }
            } else if name.eq_ignore_ascii_case("content-type") {
                content_type = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
                let is_plain = |coding: &&str| value.eq_ignore_ascii_case(coding);
                if !["7bit", "8bit", "binary"].iter().any(is_plain) {
                    return Err(MultipartRefusal::Encoding);
                }
            }
        }
        let disposition = disposition.ok_or(MultipartRefusal::Name)?;
        let mut parts = crate::media::split(disposition, ';');
        if !parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("form-data")) {
            return Err(MultipartRefusal::Name);
        }
        let (mut name, mut file_name) = (None, None);
        for (parameter, value) in parts.filter_map(|part| part.split_once('=')) {
            // RFC 7578 section 4.2: `filename*` is not for forms.
            let wanted = match parameter.trim() {
                known if known.eq_ignore_ascii_case("name") => &mut name,
                known if known.eq_ignore_ascii_case("filename") => &mut file_name,
                _ => continue,
            };
            if wanted.replace(unquoted(value.trim())).is_some() {
                return Err(MultipartRefusal::Head);
            }
        }
        Ok(PartHead { name: name.ok_or(MultipartRefusal::Name)?, file_name, content_type })
    }
}

/// Quotes in names come as `%22` from browsers, as `\"` from others. Any other backslash is one:
/// some browsers have sent whole paths of Windows.
fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let inner = inner.unwrap_or(value);
    inner.replace("\\\"", "\"").replace("\\\\", "\\").replace("%22", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts with their data, or why not; `None` at the end: truncated.
    type Transcript = std::result::Result<(Vec<(PartHead, Vec<u8>)>, bool), MultipartRefusal>;

    /// Shows the body's bytes, `cut` more whenever more are needed.
    fn split(content_type: &str, body: &[u8], cut: usize) -> Transcript {
        let mut splitter = MultipartSplitter::new(content_type, 256)?;
        let (mut parts, mut used, mut shown) = (Vec::<(PartHead, Vec<u8>)>::new(), 0, 0);
        loop {
            match splitter.step(&body[used..shown])? {
                MultipartStep::More if shown == body.len() => return Ok((parts, false)),
                MultipartStep::More => {
                    assert!(shown - used < splitter.window(), "a window is enough");
                    shown = body.len().min(shown + cut);
                }
                MultipartStep::Skip(count) | MultipartStep::PartEnd(count) => used += count,
                MultipartStep::Head(head, count) => {
                    parts.push((head, Vec::new()));
                    used += count;
                }
                MultipartStep::Data(count) => {
                    assert!(count > 0);
                    parts.last_mut().unwrap().1.extend_from_slice(&body[used..used + count]);
                    used += count;
                }
                MultipartStep::End => return Ok((parts, true)),
            }
            assert!(used <= shown);
        }
    }

    fn all_cuts(body: &[u8]) -> Transcript {
        let content_type = "multipart/form-data; boundary=\"b b\"";
        let whole = split(content_type, body, body.len().max(1));
        for cut in [1, 2, 3, 7] {
            assert_eq!(split(content_type, body, cut), whole, "cut {cut}");
        }
        whole
    }

    fn texts(body: &str) -> Vec<(String, String)> {
        let (parts, whole) = all_cuts(body.as_bytes()).unwrap();
        assert!(whole, "{body:?}");
        let text =
            |(head, data): (PartHead, Vec<u8>)| (head.name, String::from_utf8(data).unwrap());
        parts.into_iter().map(text).collect()
    }

    fn pair(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    const A: &str = "Content-Disposition: form-data; name=a\r\n";

    #[test]
    fn parts_are_what_lies_between_delimiters() {
        let two = format!("--b b\r\n{A}\r\none\r\n--b b\r\n{A}\r\n\r\n--b bb\r\n-\r\n--b b--");
        let (parts, _) = all_cuts(format!("--b b\r\n{A}\r\none\r\n--b b--").as_bytes()).unwrap();
        assert_eq!(parts[0].1, b"one");
        assert!(all_cuts(two.as_bytes()).is_err(), "a boundary that goes on is none, and no data");
        for (body, expected) in [
            ("--b b--".to_owned(), vec![]),
            ("\r\n--b b--\r\nepilogue".to_owned(), vec![]),
            (format!("preamble\r\n--b b \t\r\n{A}\r\nx\r\n--b b--"), vec![pair("a", "x")]),
            (format!("--b b\r\n{A}\r\n\r\n--b b--"), vec![pair("a", "")]),
            (format!("--b b\r\n{A}\r\n--b b--"), vec![pair("a", "")]),
            (format!("--b b\r\n{A}\r\n\r\n\r\n--b b--"), vec![pair("a", "\r\n")]),
            (
                format!("--b b\r\n{A}\r\n--b\r\n--c\r\n\r\r\n--b b--"),
                vec![pair("a", "--b\r\n--c\r\n\r")],
            ),
            (
                format!("--b b\r\n{A}\r\n1\r\n--b b\r\n{A}\r\n2\r\n--b b--"),
                vec![pair("a", "1"), pair("a", "2")],
            ),
        ] {
            assert_eq!(texts(&body), expected, "{body:?}");
        }
    }

    #[test]
    fn what_is_truncated_has_no_end() {
        let whole = format!("--b b\r\n{A}\r\none\r\n--b b--");
        for length in 0..whole.len() {
            let (_, is_whole) = all_cuts(&whole.as_bytes()[..length]).unwrap();
            assert!(!is_whole, "{length}");
        }
    }

    #[test]
    fn heads_say_name_file_and_type() {
        let head = |head: &str| PartHead::parse(head.as_bytes());
        let disposition = |rest: &str| head(&format!("content-disposition: form-data; {rest}"));
        let file = head(
            "X-Other: y\r\nCONTENT-disposition: form-data; name=\"f\"; filename=\"a;b.txt\"\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: binary",
        )
        .unwrap();
        assert_eq!(file.file_name.as_deref(), Some("a;b.txt"));
        assert_eq!(file.content_type.as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(disposition("name=\"a \\\"b\\\" %22c%22\"").unwrap().name, "a \"b\" \"c\"");
        let path = disposition("name=f; filename=\"C:\\dir\\f.txt\"").unwrap();
        assert_eq!(path.file_name.as_deref(), Some("C:\\dir\\f.txt"));
        assert_eq!(disposition("name=\"\u{fc}\"; filename=\"\"").unwrap().file_name.unwrap(), "");
        for (text, refusal) in [
            ("content-type: text/plain", MultipartRefusal::Name),
            ("content-disposition: attachment; name=a", MultipartRefusal::Name),
            ("content-disposition: form-data", MultipartRefusal::Name),
            ("content-disposition form-data", MultipartRefusal::Head),
            ("", MultipartRefusal::Head),
            (" folded: x", MultipartRefusal::Head),
            ("content-disposition : form-data; name=a", MultipartRefusal::Head),
            ("content-disposition: form-data; name=a; name=b", MultipartRefusal::Head),
            ("content-disposition: form-data; name=a\ncontent-type: x", MultipartRefusal::Head),
            (
                "content-disposition: form-data; name=a\r\ncontent-transfer-encoding: base64",
                MultipartRefusal::Encoding,
            ),
        ] {
            assert_eq!(head(text), Err(refusal), "{text}");
        }
        assert_eq!(PartHead::parse(b"content-disposition: \xff"), Err(MultipartRefusal::Head));
        let long = format!("--b b\r\nx: {}\r\n{A}\r\n\r\n--b b--", "y".repeat(256));
        assert_eq!(all_cuts(long.as_bytes()), Err(MultipartRefusal::HeadTooLong));
    }

    #[test]
    fn boundaries_are_as_the_standard_has_them() {
        for (parameter, fit) in [
            ("boundary=x", true),
            ("BOUNDARY=\"a b\"", true),
            (&format!("boundary={}", "x".repeat(70)), true),
            (&format!("boundary={}", "x".repeat(71)), false),
            ("boundary=", false),
            ("boundary=\"a \"", false),
            ("boundary=\"a\u{e9}\"", false),
            ("charset=x", false),
        ] {
            let content_type = format!("multipart/form-data; {parameter}");
            assert_eq!(MultipartSplitter::new(&content_type, 256).is_ok(), fit, "{parameter}");
        }
        let padded = format!("--b b{}\r\n", " ".repeat(65));
        assert_eq!(all_cuts(padded.as_bytes()), Err(MultipartRefusal::Delimiter));
    }
}
