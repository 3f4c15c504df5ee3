//! Reads answers as a strict client does, which nothing of the server's own code has a part in, and
//! holds each to what is required of every answer. Knows no sockets.

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in order.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What followed a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
}

/// What the bytes are so far.
pub(crate) enum Read {
    /// More has to come.
    Partial,
    /// An answer, and how many bytes it takes.
    Whole(Answer, usize),
}

impl Answer {
    /// The values of a field, joined as a list.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.values(name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a field that is a list has a member, whatever its case.
    pub(crate) fn lists(&self, name: &str, member: &str) -> bool {
        self.field(name)
            .is_some_and(|list| list.split(',').any(|it| it.trim().eq_ignore_ascii_case(member)))
    }

    /// The answer without what differs from one time to the next: its Date, and the boundary of
    /// its parts.
    pub(crate) fn settled(mut self) -> Answer {
        self.fields.retain(|(name, _)| name != "date");
        let boundary = self.field("content-type").and_then(|kind| {
            let (_, boundary) = kind.split_once("boundary=")?;
            Some(boundary.trim_matches('"').to_owned())
        });
        if let Some(boundary) = boundary {
            self.fields.iter_mut().for_each(|(_, value)| *value = value.replace(&boundary, "-"));
            let body = String::from_utf8_lossy(&self.body).replace(&boundary, "-");
            self.body = body.into_bytes();
        }
        self
    }

    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// Reads the first answer of `bytes`. `ended`: the server has closed behind them.
pub(crate) fn read(bytes: &[u8], is_to_head: bool, ended: bool) -> Result<Read, String> {
    let Some(head_len) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(Read::Partial);
    };
    let head = std::str::from_utf8(&bytes[..head_len]).map_err(|_| "a head that is not ASCII")?;
    let mut lines = head.split("\r\n");
    let status = status_line(lines.next().unwrap_or_default())?;
    let fields = lines.map(field_line).collect::<Result<Vec<_>, _>>()?;
    let mut answer = Answer { status, fields, body: Vec::new(), trailers: Vec::new() };
    check(&answer)?;
    let rest = &bytes[head_len + 4..];
    let has_body = !is_to_head && !answer.is_interim() && !matches!(status, 204 | 304);
    let framed = if !has_body {
        Some((Vec::new(), 0))
    } else if answer.lists("transfer-encoding", "chunked") {
        match chunked(rest)? {
            Some((data, trailers, length)) => {
                answer.trailers = trailers;
                Some((data, length))
            }
            None => None,
        }
    } else if let Some(length) = answer.field("content-length") {
        let length: usize = length.parse().map_err(|_| format!("the length {length:?}"))?;
        rest.get(..length).map(|body| (body.to_vec(), length))
    } else {
        ended.then(|| (rest.to_vec(), rest.len()))
    };
    Ok(match framed {
        Some((body, body_len)) => {
            answer.body = body;
            Read::Whole(answer, head_len + 4 + body_len)
        }
        None => Read::Partial,
    })
}

/// RFC 9112 section 4: version, space, three digits, space, even before no reason.
fn status_line(line: &str) -> Result<u16, String> {
    let wrong = || format!("the status line {line:?}");
    let rest = line.strip_prefix("HTTP/1.1 ").ok_or_else(wrong)?;
    let (status, reason) = rest.split_once(' ').ok_or_else(wrong)?;
    let visible = reason.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    match status.parse() {
        Ok(number) if status.len() == 3 && (100..600).contains(&number) && visible => Ok(number),
        _ => Err(wrong()),
    }
}

/// RFC 9112 section 5: a token, a colon, a value without control characters.
fn field_line(line: &str) -> Result<(String, String), String> {
    let wrong = || format!("the field line {line:?}");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_valid = !name.is_empty()
        && name.bytes().all(is_token)
        && value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    if is_valid { Ok((name.to_ascii_lowercase(), value.trim().to_owned())) } else { Err(wrong()) }
}

/// What every answer has to keep, whatever it answers.
fn check(answer: &Answer) -> Result<(), String> {
    let count = |name| answer.values(name).count();
    let status = answer.status;
    let never_framed = answer.is_interim() || status == 204;
    let complaint = if count("date") != 1 && (200..500).contains(&status) {
        "one Date (RFC 9110 section 6.6.1)"
    } else if answer.values("date").any(|date| !is_imf_fixdate(date)) {
        "a Date in the one format that is sent (RFC 9110 section 5.6.7)"
    } else if never_framed && count("content-length") + count("transfer-encoding") > 0 {
        "no framing fields (RFC 9110 section 8.6, RFC 9112 section 6.1)"
    } else if count("content-length") > 1 {
        "one Content-Length (RFC 9110 section 8.6)"
    } else if count("content-length") > 0 && count("transfer-encoding") > 0 {
        "not both framing fields (RFC 9112 section 6.2)"
    } else if status == 405 && count("allow") == 0 {
        "Allow (RFC 9110 section 15.5.6)"
    } else {
        return Ok(());
    };
    Err(format!("every {status} needs {complaint}: {:?}", answer.fields))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn is_imf_fixdate(text: &str) -> bool {
    let pattern = b"Aaa, 00 Aaa 0000 00:00:00 GMT";
    text.len() == pattern.len()
        && text.bytes().zip(pattern).all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            b'A' => byte.is_ascii_uppercase(),
            b'a' => byte.is_ascii_lowercase(),
            other => byte == *other,
        })
}

type Chunked = (Vec<u8>, Vec<(String, String)>, usize);

/// The data and the trailers of a chunked body and the bytes that it takes, or nothing while it is
/// not whole.
fn chunked(bytes: &[u8]) -> Result<Option<Chunked>, String> {
    let line = |at: usize| {
        let length = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        Some((std::str::from_utf8(&bytes[at..at + length]).unwrap_or("?"), at + length + 2))
    };
    let (mut data, mut trailers, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        let Some((size, behind)) = line(at) else { return Ok(None) };
        let size = usize::from_str_radix(size, 16).map_err(|_| format!("the chunk {size:?}"))?;
        at = behind;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes.get(at..at + size) else { return Ok(None) };
        data.extend_from_slice(chunk);
        match bytes.get(at + size..at + size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += size + 2,
            Some(end) => return Err(format!("a chunk that ends in {end:?}")),
        }
    }
    loop {
        let Some((field, behind)) = line(at) else { return Ok(None) };
        at = behind;
        if field.is_empty() {
            return Ok(Some((data, trailers, at)));
        }
        trailers.push(field_line(field)?);
    }
}
