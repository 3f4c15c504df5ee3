//! The same grammar and the same judgements once more, written for plainness alone.
//!
//! One byte after the other is taken, copied about and compared as text; nothing is resumed,
//! nothing is fast, and nothing is shared with the crate but the names of its outcomes.

use crate::transcript::{Body, Head, Outcome};
use std::collections::HashSet;
use wharf_http::{ChunkedLimits, Framing, HeadLimits, Refusal, TargetForm, Version};

/// Why the reading stops before the message is whole.
enum Stop {
    More,
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

type Read<T> = Result<T, Stop>;
type Field = (Vec<u8>, Vec<u8>);

/// The bytes, one at a time, up to limits at which the message is refused.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: Vec<(usize, Refusal)>,
}

impl Reader<'_> {
    fn peek(&self) -> Read<u8> {
        for &(limit, refusal) in &self.limits {
            if self.at >= limit {
                return Err(Stop::Refused(refusal));
            }
        }
        self.bytes.get(self.at).copied().ok_or(Stop::More)
    }

    fn next(&mut self) -> Read<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// The line end, of which the first byte has been taken.
    fn line_end(&mut self, first: u8, otherwise: Refusal) -> Read<()> {
        match first {
            b'\r' if self.next()? == b'\n' => Ok(()),
            b'\r' => Err(Refusal::BareCr.into()),
            b'\n' => Err(Refusal::BareLf.into()),
            _ => Err(otherwise.into()),
        }
    }

    /// A field line, or nothing if it is the empty line.
    fn field(&mut self) -> Read<Option<Field>> {
        let mut name = Vec::new();
        loop {
            let byte = self.next()?;
            match byte {
                b'\r' if name.is_empty() => {
                    self.line_end(byte, Refusal::BareCr)?;
                    return Ok(None);
                }
                b'\n' => return Err(Refusal::BareLf.into()),
                b' ' | b'\t' if name.is_empty() => return Err(Refusal::FoldedLine.into()),
                b' ' | b'\t' => return Err(Refusal::SpaceBeforeColon.into()),
                b':' if name.is_empty() => return Err(Refusal::EmptyFieldName.into()),
                b':' => break,
                _ if is_token_byte(byte) => name.push(byte),
                _ => return Err(Refusal::BadFieldName.into()),
            }
        }
        let mut value = Vec::new();
        loop {
            let byte = self.next()?;
            if byte == b'\t' || byte == b' ' || byte.is_ascii_graphic() || byte >= 0x80 {
                value.push(byte);
            } else {
                self.line_end(byte, Refusal::BadFieldValue)?;
                return Ok(Some((name, trim(&value).to_vec())));
            }
        }
    }
}

fn outcome<T>(read: Read<(usize, T)>) -> Outcome<T> {
    match read {
        Ok((len, whole)) => Outcome::Whole(len, whole),
        Err(Stop::More) => Outcome::More,
        Err(Stop::Refused(refusal)) => Outcome::Refused(refusal),
    }
}

/// What is to come of a head.
pub(crate) fn head(bytes: &[u8], limits: &HeadLimits) -> Outcome<Head> {
    outcome(read_head(bytes, limits))
}

fn read_head(bytes: &[u8], limits: &HeadLimits) -> Read<(usize, Head)> {
    let head_limit = (limits.head_bytes.min(65_535), Refusal::HeadTooLarge);
    let mut reader = Reader { bytes, at: 0, limits: vec![head_limit] };
    for _ in 0..4 {
        if reader.peek()? == b'\r' {
            let first = reader.next()?;
            reader.line_end(first, Refusal::BareCr)?;
        }
    }
    let line_limit = reader.at + limits.request_line_bytes + 2;
    reader.limits.insert(0, (line_limit, Refusal::RequestLineTooLong));
    let method = read_method(&mut reader)?;
    let target = read_target(&mut reader)?;
    let parts = split_target(&method, &target)?;
    let version = read_version(&mut reader)?;
    reader.limits.remove(0);

    let mut fields: Vec<Field> = Vec::new();
    while let Some(field) = reader.field()? {
        if fields.len() == limits.fields {
            return Err(Refusal::TooManyFields.into());
        }
        fields.push(field);
        judge_last(&fields, &method, version)?;
    }
    let values = |name| values(&fields, name);
    let host = values("host").pop();
    if host.is_none() && version == Version::Http11 {
        return Err(Refusal::MissingHost.into());
    }
    let framing = framing(&fields)?;
    let options: HashSet<String> = values("connection").iter().flat_map(|v| list(v)).collect();
    let has = |option: &str| options.contains(option);
    let expects = values("expect").iter().any(|value| !list(value).is_empty());
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    let newer = version == Version::Http11;
    let head = Head {
        method,
        target,
        form: parts.form,
        path: parts.path,
        query: parts.query,
        authority: parts.authority.or(host.clone().filter(|host| !host.is_empty())),
        version,
        host,
        framing,
        keep_alive: !has("close") && (newer || has("keep-alive")),
        expects_continue: newer && expects && has_body,
        upgrade: newer && has("upgrade") && !values("upgrade").is_empty(),
        fields,
    };
    Ok((reader.at, head))
}

fn read_method(reader: &mut Reader<'_>) -> Read<Vec<u8>> {
    let mut method = Vec::new();
    loop {
        match reader.next()? {
            b' ' if !method.is_empty() => return Ok(method),
            b'\r' => return Err(Refusal::BadRequestLine.into()),
            b'\n' => return Err(Refusal::BareLf.into()),
            byte if is_token_byte(byte) => method.push(byte),
            _ => return Err(Refusal::BadMethod.into()),
        }
        if method.len() > 32 {
            return Err(Refusal::MethodTooLong.into());
        }
    }
}

fn read_target(reader: &mut Reader<'_>) -> Read<Vec<u8>> {
    let mut target = Vec::new();
    loop {
        match reader.next()? {
            b' ' if !target.is_empty() => return Ok(target),
            b'\r' => return Err(Refusal::BadRequestLine.into()),
            b'\n' => return Err(Refusal::BareLf.into()),
            b'"' | b'#' | b'<' | b'>' => return Err(Refusal::BadTarget.into()),
            byte if byte.is_ascii_graphic() => target.push(byte),
            _ => return Err(Refusal::BadTarget.into()),
        }
    }
}

fn read_version(reader: &mut Reader<'_>) -> Read<Version> {
    let mut text = String::new();
    while text.len() < 8 {
        let byte = reader.next()?;
        text.push(char::from(byte));
        let model: String =
            text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        if byte == b'\n' {
            return Err(Refusal::BareLf.into());
        }
        if !"HTTP/9.9".starts_with(&model) {
            return Err(Refusal::BadVersion.into());
        }
    }
    if !text.starts_with("HTTP/1.") {
        return Err(Refusal::UnsupportedVersion.into());
    }
    let first = reader.next()?;
    reader.line_end(first, Refusal::BadVersion)?;
    Ok(if text == "HTTP/1.0" { Version::Http10 } else { Version::Http11 })
}

struct Target {
    form: TargetForm,
    authority: Option<Vec<u8>>,
    path: Vec<u8>,
    query: Option<Vec<u8>>,
}

fn split_target(method: &[u8], target: &[u8]) -> Result<Target, Refusal> {
    let text = str::from_utf8(target).expect("a target is ASCII");
    let lower = text.to_lowercase();
    let absolute = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let with_port =
        is_authority(text) && text.rsplit_once(':').is_some_and(|end| is_port_number(end.1));
    let connect = method == b"CONNECT";
    let form = match text {
        _ if connect && with_port => TargetForm::Authority,
        _ if connect && (text == "*" || text.starts_with('/') || absolute.is_some()) => {
            return Err(Refusal::WrongTargetForm);
        }
        _ if connect => return Err(Refusal::BadTarget),
        _ if text.starts_with('/') => TargetForm::Origin,
        "*" if method == b"OPTIONS" => TargetForm::Asterisk,
        "*" => return Err(Refusal::WrongTargetForm),
        _ if absolute.is_some() => TargetForm::Absolute,
        _ if with_port => return Err(Refusal::WrongTargetForm),
        _ => return Err(Refusal::BadTarget),
    };
    let (authority, rest) = match form {
        TargetForm::Authority => (Some(text), ""),
        TargetForm::Absolute => {
            let rest = &text[absolute.expect("a scheme").len()..];
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            if !is_authority(&rest[..end]) {
                return Err(Refusal::BadTarget);
            }
            (Some(&rest[..end]), &rest[end..])
        }
        TargetForm::Origin | TargetForm::Asterisk => (None, text),
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    Ok(Target {
        form,
        authority: authority.map(|text| text.as_bytes().to_vec()),
        path: path.as_bytes().to_vec(),
        query: query.map(|text| text.as_bytes().to_vec()),
    })
}

/// What is wrong with a field in the light of those before it.
fn judge_last(fields: &[Field], method: &[u8], version: Version) -> Result<(), Refusal> {
    let (name, value) = fields.last().expect("a field");
    let seen = |name: &str| values(fields, name).len();
    match String::from_utf8_lossy(name).to_lowercase().as_str() {
        "host" if seen("host") > 1 => Err(Refusal::RepeatedHost),
        "host" if value.is_empty() => Ok(()),
        "host" => match str::from_utf8(value) {
            Ok(text) if is_authority(text) => Ok(()),
            _ => Err(Refusal::BadHost),
        },
        "content-length" if method == b"CONNECT" => Err(Refusal::FramedConnect),
        "content-length" if seen("transfer-encoding") > 0 => Err(Refusal::LengthWithCoding),
        "content-length" if seen("content-length") > 1 => Err(Refusal::RepeatedLength),
        "content-length" => number(value).map(drop).ok_or(Refusal::BadLength),
        "transfer-encoding" if version == Version::Http10 => Err(Refusal::CodingInHttp10),
        "transfer-encoding" if method == b"CONNECT" => Err(Refusal::FramedConnect),
        "transfer-encoding" if seen("content-length") > 0 => Err(Refusal::LengthWithCoding),
        "transfer-encoding" => judge_coding(fields, value),
        "connection" if !list(value).iter().all(|option| is_token(option)) => {
            Err(Refusal::BadConnection)
        }
        "expect" if list(value).iter().any(|expected| expected != "100-continue") => {
            Err(Refusal::UnknownExpectation)
        }
        _ => Ok(()),
    }
}

fn judge_coding(fields: &[Field], value: &[u8]) -> Result<(), Refusal> {
    let all = codings(fields);
    let here = list(value);
    if here.is_empty() {
        return Err(Refusal::BadCoding);
    }
    // The members of this field are the last ones of all; they are judged one after the other.
    for at in all.len() - here.len()..all.len() {
        if all[..at].iter().any(|coding| coding == "chunked") {
            return Err(Refusal::ChunkedNotFinal);
        }
        let (name, parameters) = match all[at].split_once(';') {
            Some((name, parameters)) => (name.trim_end_matches([' ', '\t']), Some(parameters)),
            None => (all[at].as_str(), None),
        };
        if !is_token(name) || (name == "chunked" && parameters.is_some()) {
            return Err(Refusal::BadCoding);
        }
    }
    Ok(())
}

fn framing(fields: &[Field]) -> Result<Framing, Refusal> {
    if let Some(length) = values(fields, "content-length").first() {
        return Ok(Framing::Length(number(length).expect("it has been judged")));
    }
    let codings = codings(fields);
    match codings.last().map(String::as_str) {
        None => Ok(Framing::None),
        Some("chunked") if codings.len() == 1 => Ok(Framing::Chunked),
        Some("chunked") => Err(Refusal::UnknownCoding),
        Some(_) => Err(Refusal::ChunkedNotFinal),
    }
}

fn codings(fields: &[Field]) -> Vec<String> {
    values(fields, "transfer-encoding").iter().flat_map(|value| list(value)).collect()
}

/// The values of all fields of a name, which is in small letters.
fn values(fields: &[Field], name: &str) -> Vec<Vec<u8>> {
    let of_name = fields.iter().filter(|field| field.0.to_ascii_lowercase() == name.as_bytes());
    of_name.map(|field| field.1.clone()).collect()
}

/// The members of a list, in small letters. A byte from 0x80 on becomes a character that no
/// token has.
fn list(value: &[u8]) -> Vec<String> {
    let text: String = value.iter().map(|&byte| char::from(byte)).collect();
    let members = text.split(',').map(|member| member.trim_matches([' ', '\t']));
    let members = members.filter(|member| !member.is_empty());
    members.map(str::to_ascii_lowercase).collect()
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn trim(value: &[u8]) -> &[u8] {
    let white = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let Some(start) = value.iter().position(|byte| !white(byte)) else { return b"" };
    let end = value.iter().rposition(|byte| !white(byte)).expect("there is one");
    &value[start..=end]
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(value).ok()?;
    // `parse` would take a sign.
    if digits.starts_with('+') {
        return None;
    }
    digits.parse().ok()
}

/// A host and perhaps a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if is_address(address) => ("address", rest),
        _ => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let plain = host.replace(|c: char| c.is_ascii_alphanumeric(), "");
    let percents = host.split('%').skip(1);
    let good_percents = percents.clone().all(|behind| {
        behind.len() >= 2 && behind.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
    });
    !host.is_empty()
        && host.is_ascii()
        && plain.chars().all(|c| "-._~!$&'()*+,;=%".contains(c))
        && good_percents
        && (port.is_empty() || port == ":" || port.strip_prefix(':').is_some_and(is_port_number))
}

fn is_address(text: &str) -> bool {
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return true;
    }
    let future = text.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.'));
    future.is_some_and(|(version, address)| {
        let sign = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:".contains(c);
        !version.is_empty()
            && version.chars().all(|c| c.is_ascii_hexdigit())
            && !address.is_empty()
            && address.chars().all(sign)
    })
}

fn is_port_number(text: &str) -> bool {
    text.len() <= 5 && !text.starts_with('+') && text.parse::<u16>().is_ok()
}

/// What is to come of a chunked body.
pub(crate) fn body(bytes: &[u8], limits: &ChunkedLimits) -> (Outcome<Body>, Vec<u8>) {
    let mut reader = Reader { bytes, at: 0, limits: Vec::new() };
    let mut data = Vec::new();
    let read = read_body(&mut reader, limits, &mut data);
    (outcome(read.map(|trailers| (reader.at, Body { data: data.clone(), trailers }))), data)
}

fn read_body(
    reader: &mut Reader<'_>,
    limits: &ChunkedLimits,
    data: &mut Vec<u8>,
) -> Read<Vec<Field>> {
    let mut extension_bytes = 0;
    loop {
        let size = read_size_line(reader, limits, &mut extension_bytes)?;
        if size == 0 {
            return read_trailers(reader, limits);
        }
        for _ in 0..size {
            data.push(reader.next()?);
        }
        let first = reader.next()?;
        reader.line_end(first, Refusal::BadChunkEnd)?;
    }
}

fn read_size_line(
    reader: &mut Reader<'_>,
    limits: &ChunkedLimits,
    extension_bytes: &mut usize,
) -> Read<u64> {
    let mut digits = String::new();
    let mut extension = String::new();
    loop {
        let byte = reader.next()?;
        let c = char::from(byte);
        let in_digits = extension.is_empty();
        // A CR ends the line where a line may end: behind digits or a complete extension.
        if byte == b'\r' && (if in_digits { !digits.is_empty() } else { is_complete(&extension) }) {
            reader.line_end(byte, Refusal::BadChunkSize)?;
            break;
        }
        if in_digits && c.is_ascii_hexdigit() {
            too_long(digits.len() + 1 > limits.line_bytes, Refusal::ChunkLineTooLong)?;
            digits.push(c);
            too_long(u64::from_str_radix(&digits, 16).is_err(), Refusal::ChunkSizeOverflow)?;
        } else if in_digits && (digits.is_empty() || !matches!(c, ';' | ' ' | '\t')) {
            return Err(lf_or(byte, Refusal::BadChunkSize).into());
        } else {
            let line = digits.len() + extension.chars().count() + 1;
            too_long(line > limits.line_bytes, Refusal::ChunkLineTooLong)?;
            too_long(*extension_bytes >= limits.extension_bytes, Refusal::ChunkExtensionsTooLong)?;
            *extension_bytes += 1;
            extension.push(c);
            if !may_become_extension(&extension) {
                return Err(lf_or(byte, Refusal::BadChunkExtension).into());
            }
        }
    }
    Ok(u64::from_str_radix(&digits, 16).expect("it has been judged"))
}

fn too_long(is: bool, refusal: Refusal) -> Result<(), Refusal> {
    if is { Err(refusal) } else { Ok(()) }
}

fn lf_or(byte: u8, otherwise: Refusal) -> Refusal {
    if byte == b'\n' { Refusal::BareLf } else { otherwise }
}

/// Whether the text is `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted ) ] )`.
fn is_complete(text: &str) -> bool {
    let white = |text: &str| text.trim_start_matches([' ', '\t']).to_owned();
    let token = |text: &str| {
        let len = text.chars().take_while(|c| c.is_ascii() && is_token_byte(*c as u8)).count();
        (len > 0).then(|| text[len..].to_owned())
    };
    let mut rest = text.to_owned();
    while !rest.is_empty() {
        let Some(behind) = white(&rest).strip_prefix(';').map(white) else { return false };
        let Some(behind) = token(&behind) else { return false };
        rest = behind;
        if let Some(behind) = white(&rest).strip_prefix('=').map(white) {
            let value = match behind.strip_prefix('"') {
                Some(quoted) => behind_quotes(quoted),
                None => token(&behind),
            };
            let Some(behind) = value else { return false };
            rest = behind;
        }
    }
    true
}

/// What stands behind the closing quote.
fn behind_quotes(text: &str) -> Option<String> {
    let mut chars = text.chars();
    loop {
        let c = match chars.next()? {
            '"' => return Some(chars.as_str().to_owned()),
            '\\' => chars.next()?,
            c => c,
        };
        if c != '\t' && (c < ' ' || c == '\u{7f}') {
            return None;
        }
    }
}

/// Whether something can follow that makes the text complete: one of these does, if anything.
fn may_become_extension(text: &str) -> bool {
    ["", "a", ";a", "\"", "a\""].iter().any(|end| is_complete(&format!("{text}{end}")))
}

fn read_trailers(reader: &mut Reader<'_>, limits: &ChunkedLimits) -> Read<Vec<Field>> {
    let mut trailers = Vec::new();
    let start = reader.at;
    loop {
        // The empty line is not counted.
        reader.limits.clear();
        if reader.peek()? != b'\r' {
            let limit = start + limits.trailer_bytes.min(65_535);
            reader.limits.push((limit, Refusal::TrailersTooLarge));
        }
        let Some(field) = reader.field()? else { return Ok(trailers) };
        if trailers.len() == limits.trailer_fields {
            return Err(Refusal::TooManyTrailers.into());
        }
        let name = String::from_utf8_lossy(&field.0).to_lowercase();
        let forbidden =
            ["host", "expect", "upgrade", "connection", "content-length", "transfer-encoding"];
        if forbidden.contains(&name.as_str()) {
            return Err(Refusal::ForbiddenTrailer.into());
        }
        trailers.push(field);
    }
}
