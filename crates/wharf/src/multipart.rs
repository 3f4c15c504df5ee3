//! Forms with files (RFC 7578): one part after the other, from a body that is whole or still coming.
//!
//! What a part is, `wharf-http` knows; here its bytes are read, counted and handed on. No more of a
//! body is in memory than a buffer, unless a part is asked for whole.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use http::StatusCode;
use wharf_http::{Media, MultipartRefusal, MultipartSplitter, MultipartStep, PartHead};

use crate::{BodyError, BodyReader, Error, Problem, Request};

/// What a form with files may have, beside the limit of the whole body.
///
/// ```
/// use wharf::MultipartLimits;
///
/// let limits = MultipartLimits { parts: 3, ..MultipartLimits::default() };
/// # let _ = limits;
/// ```
#[derive(Clone, Debug)]
pub struct MultipartLimits {
    /// Parts. Beyond it: 413. Default 100.
    pub parts: usize,
    /// Length of a part's head, in bytes. Beyond it: 400. Default 8 KiB.
    pub head_bytes: usize,
    /// Length of a part that is read whole by [`Part::bytes`] or [`Part::text`], in bytes. Beyond
    /// it: 413. Default 1 MiB.
    pub memory_bytes: usize,
    /// Length of any part, in bytes. Beyond it: 413. By default only the whole body is limited, by
    /// [`Limits::body_bytes`](crate::Limits::body_bytes) and
    /// [`Route::body_limit`](crate::Route::body_limit).
    pub part_bytes: u64,
}

impl Default for MultipartLimits {
    fn default() -> Self {
        let (head_bytes, memory_bytes) = (8 * 1024, 1024 * 1024);
        MultipartLimits { parts: 100, head_bytes, memory_bytes, part_bytes: u64::MAX }
    }
}

/// A form with files, read part by part. [`Request::multipart`] makes one.
pub struct Multipart<R> {
    reader: R,
    splitter: MultipartSplitter,
    limits: MultipartLimits,
    /// What has been read and not used yet is at `used..filled`.
    buffer: Vec<u8>,
    used: usize,
    filled: usize,
    /// Bytes at `used` that are known to be the part's.
    data: usize,
    /// Bytes of the body before `used`.
    offset: u64,
    parts: usize,
    /// Bytes of the part so far.
    part_bytes: u64,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Between,
    InPart,
    Over,
    /// An error was returned. What follows makes no sense.
    Failed,
}

/// Reads in pieces of this length, or of what the limits ask for.
const BUFFER_BYTES: usize = 16 * 1024;

impl Request {
    /// The body as a form with files (`multipart/form-data`), part by part. Where the route is
    /// [`streaming`](crate::Route::streaming), parts are read while they arrive.
    ///
    /// ```
    /// use wharf::{Error, Request};
    ///
    /// fn upload(request: &Request) -> Result<String, Error> {
    ///     let mut form = request.multipart()?;
    ///     let (mut title, mut bytes) = (String::new(), 0);
    ///     while let Some(part) = form.next_part()? {
    ///         match part.name() {
    ///             "title" => title = part.text()?,
    ///             // A path of the program's own: never the name that the client gave.
    ///             "file" => bytes = part.save("uploads/7")?,
    ///             _ => {}
    ///         }
    ///     }
    ///     Ok(format!("{title}: {bytes} bytes\n"))
    /// }
    /// # let _ = upload;
    /// ```
    ///
    /// # Errors
    /// `415` if Content-Type is another, `400` if it has no boundary.
    pub fn multipart(&self) -> Result<Multipart<BodyReader>, Error> {
        let content_type = self.header("content-type").unwrap_or_default();
        Multipart::new(content_type, self.reader())
    }
}

impl<R: Read> Multipart<R> {
    /// A form that comes from a reader, with the value of its Content-Type.
    ///
    /// # Errors
    /// `415` if that is not `multipart/form-data`, `400` if it has no boundary.
    pub fn new(content_type: &str, reader: R) -> Result<Multipart<R>, Error> {
        if !Media::of(content_type).is("multipart", "form-data") {
            let detail = "The body has to be multipart/form-data, and Content-Type has to say so.";
            return Err(Error::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let limits = MultipartLimits::default();
        let splitter = MultipartSplitter::new(content_type, limits.head_bytes);
        let splitter = splitter.map_err(|refusal| malformed(refusal, 0))?;
        let form = Multipart {
            reader,
            splitter,
            limits,
            buffer: Vec::new(),
            used: 0,
            filled: 0,
            data: 0,
            offset: 0,
            parts: 0,
            part_bytes: 0,
            progress: Progress::Between,
        };
        Ok(form)
    }

    /// Sets other limits, before the first part is read.
    pub fn with_limits(mut self, limits: MultipartLimits) -> Multipart<R> {
        self.splitter.set_head_bytes(limits.head_bytes);
        self.limits = limits;
        self
    }

    /// The next part; what was not read of the one before is passed over. None: that was the last.
    ///
    /// # Errors
    /// `400` with the position in the body if it is malformed or ends too early, `413` if a limit
    /// is passed, and what the reader fails with.
    pub fn next_part(&mut self) -> Result<Option<Part<'_, R>>, Error> {
        while self.progress == Progress::InPart {
            let count = self.data_ahead()?;
            self.consume(count);
        }
        loop {
            match self.step()? {
                MultipartStep::Head(head, count) => {
                    self.consume(count);
                    self.parts += 1;
                    self.part_bytes = 0;
                    if self.parts > self.limits.parts {
                        return Err(self.too_much("parts than", self.limits.parts as u64));
                    }
                    self.progress = Progress::InPart;
                    return Ok(Some(Part { head, form: self }));
                }
                MultipartStep::End => {
                    self.progress = Progress::Over;
                    return Ok(None);
                }
                // Nothing else comes between parts.
                MultipartStep::Skip(count)
                | MultipartStep::Data(count)
                | MultipartStep::PartEnd(count) => self.consume(count),
                MultipartStep::More => self.fill()?,
            }
        }
    }

    fn step(&mut self) -> Result<MultipartStep, Error> {
        if self.progress == Progress::Failed {
            let detail = "The multipart body was malformed before.";
            return Err(Error::request(StatusCode::BAD_REQUEST, detail));
        }
        let input = &self.buffer[self.used..self.filled];
        self.splitter.step(input).map_err(|refusal| {
            self.progress = Progress::Failed;
            malformed(refusal, self.offset)
        })
    }

    /// How many bytes of the part lie in the buffer, after reading on if none do. 0: it is over.
    fn data_ahead(&mut self) -> Result<usize, Error> {
        while self.data == 0 && self.progress == Progress::InPart {
            match self.step()? {
                MultipartStep::Data(count) => {
                    self.data = count;
                    self.part_bytes = self.part_bytes.saturating_add(count as u64);
                    if self.part_bytes > self.limits.part_bytes {
                        return Err(self.too_much("bytes in a part than", self.limits.part_bytes));
                    }
                }
                MultipartStep::PartEnd(count) => {
                    self.consume(count);
                    self.progress = Progress::Between;
                }
                MultipartStep::More => self.fill()?,
                MultipartStep::Skip(count) | MultipartStep::Head(_, count) => self.consume(count),
                MultipartStep::End => self.progress = Progress::Over,
            }
        }
        Ok(self.data)
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
        self.offset += count as u64;
        self.data = self.data.saturating_sub(count);
    }

    /// Reads on. The end of the reader is an error here, since more was needed.
    fn fill(&mut self) -> Result<(), Error> {
        let wanted = BUFFER_BYTES.max(self.splitter.window());
        self.buffer.resize(wanted, 0);
        self.buffer.copy_within(self.used..self.filled, 0);
        (self.used, self.filled) = (0, self.filled - self.used);
        let count = loop {
            match self.reader.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => break count,
                Err(error) => {
                    self.progress = Progress::Failed;
                    return Err(unreadable(error));
                }
            }
        };
        if count == 0 {
            self.progress = Progress::Failed;
            let detail = "The multipart body ends before its last boundary.";
            return Err(Error::request(StatusCode::BAD_REQUEST, detail));
        }
        self.filled += count;
        Ok(())
    }

    fn too_much(&mut self, what: &str, limit: u64) -> Error {
        self.progress = Progress::Failed;
        let detail = format!("The multipart body has more {what} are accepted here: {limit}.");
        Error::request(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }
}

fn malformed(refusal: MultipartRefusal, offset: u64) -> Error {
    let detail = format!("The multipart body is malformed behind byte {offset}: {refusal}.");
    Error::request(StatusCode::BAD_REQUEST, detail)
}

/// A reader's failure: what Wharf's own say of the request, or else that the body did not come.
fn unreadable(error: io::Error) -> Error {
    let is_known = |inside: &(dyn std::error::Error + Send + Sync + 'static)| {
        inside.is::<Error>() || inside.is::<BodyError>()
    };
    if error.get_ref().is_some_and(is_known) {
        return error.into();
    }
    let problem = Problem::new(StatusCode::BAD_REQUEST);
    Error::refused(problem.with_detail("The body could not be read to its end."), error)
}

impl<R> fmt::Debug for Multipart<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Multipart({:?}, {} parts, byte {})", self.progress, self.parts, self.offset)
    }
}

/// A part of a form: a field, or a file. It is read by one of its methods, or as a [`Read`]; what is
/// not read is passed over.
pub struct Part<'f, R> {
    head: PartHead,
    form: &'f mut Multipart<R>,
}

impl<R: Read> Part<'_, R> {
    /// The name of the form's field.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// The file's name, if the part is a file; empty if the form was sent without one. It is without
    /// folders, which some clients send with it, but it is no name to store the file by: it is what
    /// the client says, and may be `..` or a device's name.
    pub fn file_name(&self) -> Option<&str> {
        let name = self.head.file_name.as_deref()?;
        Some(name.rsplit(['/', '\\']).next().unwrap_or(name))
    }

    /// The media type that the client gives the part.
    pub fn content_type(&self) -> Option<&str> {
        self.head.content_type.as_deref()
    }

    /// The part, whole.
    ///
    /// # Errors
    /// `413` beyond [`MultipartLimits::memory_bytes`], and those of [`Multipart::next_part`].
    pub fn bytes(self) -> Result<Vec<u8>, Error> {
        let limit = self.form.limits.memory_bytes;
        let mut bytes = Vec::new();
        loop {
            let count = self.form.data_ahead()?;
            if count == 0 {
                return Ok(bytes);
            }
            if bytes.len() + count > limit {
                return Err(self.form.too_much("bytes in a field than", limit as u64));
            }
            bytes.extend_from_slice(&self.form.buffer[self.form.used..][..count]);
            self.form.consume(count);
        }
    }

    /// The part, whole, as a text in UTF-8.
    ///
    /// # Errors
    /// `400` if it is not UTF-8, and those of [`bytes`](Part::bytes).
    pub fn text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes()?).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let detail = format!("A field of the form is not UTF-8 behind byte {at}.");
            Error::request(StatusCode::BAD_REQUEST, detail)
        })
    }

    /// Writes the part to `writer` as it comes. Returns its length in bytes.
    ///
    /// # Errors
    /// Those of [`Multipart::next_part`]; a failure of the writer is the handler's own: `500`.
    pub fn copy_to(self, writer: &mut (impl Write + ?Sized)) -> Result<u64, Error> {
        loop {
            let count = self.form.data_ahead()?;
            if count == 0 {
                return Ok(self.form.part_bytes);
            }
            let data = &self.form.buffer[self.form.used..][..count];
            writer.write_all(data).map_err(Error::internal)?;
            self.form.consume(count);
        }
    }

    /// Writes the part to a new file as it comes. Returns its length in bytes. If the part does not
    /// come whole, the file is removed again.
    ///
    /// # Errors
    /// Those of [`copy_to`](Part::copy_to); `500` too if the file is there already.
    pub fn save(self, path: impl AsRef<Path>) -> Result<u64, Error> {
        let path = path.as_ref();
        let mut file = File::create_new(path).map_err(Error::internal)?;
        let saved = self.copy_to(&mut file);
        if saved.is_err() {
            // Some systems do not remove what is open.
            drop(file);
            if let Err(error) = std::fs::remove_file(path) {
                tracing::error!("an upload that did not come whole is left behind: {error}");
            }
        }
        saved
    }
}

impl<R: Read> Read for Part<'_, R> {
    /// Reads on in the part. An [`Error`] of the form is within the `io::Error`.
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.form.data_ahead().map_err(io::Error::other)?.min(to.len());
        to[..count].copy_from_slice(&self.form.buffer[self.form.used..][..count]);
        self.form.consume(count);
        Ok(count)
    }
}

impl<R> fmt::Debug for Part<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=b";

    /// Gives a few bytes at a time, and fails at the end if told to.
    struct Trickle<'b> {
        rest: &'b [u8],
        fails: bool,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            if self.rest.is_empty() && self.fails {
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            let count = to.len().min(self.rest.len()).min(3);
            self.rest.read(&mut to[..count])
        }
    }

    fn body(parts: &[(&str, &str)]) -> Vec<u8> {
        let part = |(name, data): &(&str, &str)| {
            format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{data}\r\n")
        };
        (parts.iter().map(part).collect::<String>() + "--b--\r\n").into_bytes()
    }

    fn status<T>(result: Result<T, Error>) -> u16 {
        result.map(drop).unwrap_err().status().as_u16()
    }

    #[test]
    fn parts_are_read_whole_as_streams_or_not_at_all() {
        let large = "0123456789abcde\r\n--".repeat(5_000);
        let body =
            body(&[("a", "one"), ("skipped", &large), ("b", &large), ("c", "\u{fc}"), ("d", "")]);
        let mut whole = Multipart::new(TYPE, &body[..]).unwrap();
        let trickle = Trickle { rest: &body, fails: false };
        let mut trickled = Multipart::new(TYPE, trickle).unwrap();
        fn check<R: Read>(form: &mut Multipart<R>, large: &str) {
            assert_eq!(form.next_part().unwrap().unwrap().text().unwrap(), "one");
            assert_eq!(form.next_part().unwrap().unwrap().name(), "skipped");
            let mut part = form.next_part().unwrap().unwrap();
            let mut first = [0; 5];
            part.read_exact(&mut first).unwrap();
            let mut rest = Vec::new();
            assert_eq!(part.copy_to(&mut rest).unwrap(), large.len() as u64);
            assert_eq!((&first[..], &rest[..]), large.as_bytes().split_at(5));
            let part = form.next_part().unwrap().unwrap();
            assert_eq!((part.name(), part.file_name(), part.content_type()), ("c", None, None));
            assert_eq!(part.text().unwrap(), "\u{fc}");
            assert_eq!(form.next_part().unwrap().unwrap().bytes().unwrap(), b"");
            assert!(form.next_part().unwrap().is_none());
            assert!(form.next_part().unwrap().is_none(), "and that stays so");
        }
        check(&mut whole, &large);
        check(&mut trickled, &large);
        assert!(whole.buffer.capacity() < 2 * BUFFER_BYTES, "a buffer is all there is");
    }

    #[test]
    fn limits_hold_and_what_follows_is_not_read() {
        let body = body(&[("a", "12345"), ("b", "1")]);
        let form =
            |limits: MultipartLimits| Multipart::new(TYPE, &body[..]).unwrap().with_limits(limits);
        let defaults = MultipartLimits::default;
        let mut few = form(MultipartLimits { parts: 1, ..defaults() });
        assert!(few.next_part().unwrap().is_some());
        assert_eq!(status(few.next_part()), 413);
        assert_eq!(status(few.next_part()), 400, "not another part");
        let mut small = form(MultipartLimits { memory_bytes: 4, ..defaults() });
        assert_eq!(status(small.next_part().unwrap().unwrap().bytes()), 413);
        let mut short = form(MultipartLimits { part_bytes: 4, ..defaults() });
        assert_eq!(status(short.next_part().unwrap().unwrap().copy_to(&mut io::sink())), 413);
        let mut short = form(MultipartLimits { part_bytes: 4, ..defaults() });
        drop(short.next_part().unwrap());
        assert_eq!(status(short.next_part()), 413, "also when passed over");
        let mut terse = form(MultipartLimits { head_bytes: 10, ..defaults() });
        assert_eq!(status(terse.next_part()), 400);
    }

    #[test]
    fn what_is_broken_is_refused_with_its_place() {
        assert_eq!(status(Multipart::new("text/plain", &b""[..])), 415);
        assert_eq!(status(Multipart::new("multipart/form-data", &b""[..])), 400);
        let whole = body(&[("a", "12345")]);
        for length in 0..whole.len() - 4 {
            let mut form = Multipart::new(TYPE, &whole[..length]).unwrap();
            let truncated = loop {
                match form.next_part() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{length} bytes are not whole"),
                    Err(error) => break error,
                }
            };
            assert_eq!(truncated.status(), 400, "{length}");
        }
        let mut form =
            Multipart::new(TYPE, Trickle { rest: &whole[..whole.len() - 9], fails: true }).unwrap();
        let part = form.next_part().unwrap().unwrap();
        assert_eq!(status(part.bytes()), 400, "the reader failed");
        let mut form = Multipart::new(TYPE, &b"--b\r\nx-secret\r\n\r\n"[..]).unwrap();
        let detail = form.next_part().map(drop).unwrap_err().to_string();
        assert!(detail.contains("byte 5") && !detail.contains("secret"), "{detail}");
    }

    #[test]
    fn files_are_saved_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, cut) = (folder.path().join("kept"), folder.path().join("cut"));
        let file = "--b\r\nContent-Disposition: form-data; name=f; filename=\"C:\\x\\..\\y.txt\"\r\n\
                    Content-Type: text/plain\r\n\r\n";
        let body = format!("{file}data\r\n{file}da");
        let mut form = Multipart::new(TYPE, body.as_bytes()).unwrap();
        let part = form.next_part().unwrap().unwrap();
        assert_eq!((part.file_name(), part.content_type()), (Some("y.txt"), Some("text/plain")));
        assert_eq!(part.save(&kept).unwrap(), 4);
        assert_eq!(std::fs::read(&kept).unwrap(), b"data");
        let part = form.next_part().unwrap().unwrap();
        assert_eq!(status(part.save(&cut)), 400);
        assert!(!cut.exists());
        let mut form = Multipart::new(TYPE, body.as_bytes()).unwrap();
        assert_eq!(
            status(form.next_part().unwrap().unwrap().save(&kept)),
            500,
            "never overwritten"
        );
        assert_eq!(std::fs::read(&kept).unwrap(), b"data");
    }
}
