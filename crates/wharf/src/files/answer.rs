//! The answer with one file: its fields, and what is said where there is none.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use wharf_port::{FileRange, FileState, open_file};

use super::types::content_type;
use crate::response::Part;
use crate::{Error, IntoResponse, Response};

/// How long a file has to be left alone before its times are trusted to tell its states apart: the
/// coarsest clock in use is that of FAT, which counts every other second.
const CLOCK_GRANULARITY: Duration = Duration::from_secs(2);

/// What RFC 8187 section 3.2.1 leaves as it is.
const ATTR_CHAR: AsciiSet = NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

impl Response {
    /// `200 OK` with a file. The kernel sends it; it never passes through Wharf's memory.
    ///
    /// The file is opened now, and what is open is sent, whatever happens to its name. The answer
    /// has a Content-Type by the name's extension, Last-Modified, and an ETag, and is
    /// [conditional](Response::conditional): ranges work, and who has the file already gets `304 Not
    /// Modified`. Fields of your own take the place of these.
    ///
    /// ```no_run
    /// use wharf::{Request, Response, Router};
    ///
    /// fn manual(_: &Request) -> Response {
    ///     Response::file("docs/manual.pdf")
    ///         .attachment("The manual.pdf")
    ///         .header("cache-control", "max-age=3600")
    /// }
    /// # let _ = Router::new().get("/manual", manual);
    /// ```
    ///
    /// If there is nothing by that name, or no regular file, the answer is `404 Not Found`; if it
    /// may not be read, `403 Forbidden`. What else goes wrong is logged and answered with `500`.
    ///
    /// <div class="warning">
    ///
    /// Do not make the path of what a client has sent: `../../etc/passwd` is a path too.
    /// [`Files::file`](crate::Files::file) keeps inside its folder.
    ///
    /// </div>
    ///
    /// # The entity tag
    ///
    /// It is made of the file's length, its number in the file system, and when it was last changed,
    /// both as programs say and as the system saw it (on Unix `ctime`, which nobody can set back).
    /// It is strong if the file had been left alone for two seconds when it was opened. Before that,
    /// a further change could carry the same times; then it is weak, is not taken as a
    /// condition for ranges, and is another one two seconds later (RFC 9110 section 8.8.1). Machines
    /// that serve copies of one file give them different tags; where clients come to several of
    /// them, set an [ETag](Response::etag) that is made of the content, or of the release.
    ///
    /// # When the file changes while it is sent
    ///
    /// Replace files by renaming others onto them: then everybody gets the one or the other, whole.
    /// If a file that is being sent becomes shorter, the connection is cut, so that the client sees
    /// it is not all there; if it is written to, the client gets some of the old and some of the
    /// new.
    pub fn file(path: impl AsRef<Path>) -> Response {
        let path = path.as_ref();
        let opened = open_file(path).and_then(|file| {
            let state = FileState::of(&file)?;
            Ok((file, state))
        });
        match opened {
            Ok((file, state)) if state.is_file => of_file(file, &state, path),
            Ok(_) => of_error(ErrorKind::NotFound.into(), path),
            Err(error) => of_error(error, path),
        }
    }

    /// Has the client save the answer under this name rather than show it (Content-Disposition, RFC
    /// 6266). The name may have any characters; a client takes the last part of what looks like a
    /// path.
    ///
    /// ```
    /// use wharf::Response;
    ///
    /// let response = Response::text("…").attachment("Übersicht.txt");
    /// let (_, value) = response.headers().last().expect("it has one");
    /// assert_eq!(value, "attachment; filename=\"_bersicht.txt\"; filename*=UTF-8''%C3%9Cbersicht.txt");
    /// ```
    pub fn attachment(self, name: &str) -> Response {
        // For those that do not know the second form (RFC 6266 appendix D): some of them would
        // decode a percent sign.
        let is_plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%');
        let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let mut value = format!("attachment; filename=\"{plain}\"");
        if plain != name {
            value += &format!("; filename*=UTF-8''{}", utf8_percent_encode(name, &ATTR_CHAR));
        }
        self.header(header::CONTENT_DISPOSITION, value)
    }
}

/// What is in the file, from its beginning. The kernel sends it, as with [`Response::file`], and
/// ranges and conditions are the same. Its type is `application/octet-stream`: a name that would tell
/// another is not known. What is no regular file, such as a pipe, is [read](Response::body_reader).
///
/// ```no_run
/// use std::fs::File;
/// use wharf::{Error, Request};
///
/// fn report(_: &Request) -> Result<([(&'static str, &'static str); 1], File), Error> {
///     Ok(([("content-type", "text/csv")], File::open("report.csv")?))
/// }
/// ```
impl IntoResponse for File {
    fn into_response(self) -> Response {
        const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
        match FileState::of(&self) {
            Ok(state) if state.is_file => pass(self, &state, OCTETS),
            Ok(state) if state.is_folder => {
                Error::internal("a folder cannot be answered with").into_response()
            }
            Ok(_) => {
                Response::new(StatusCode::OK).header(header::CONTENT_TYPE, OCTETS).body_reader(self)
            }
            Err(error) => Error::internal(error).into_response(),
        }
    }
}

/// The answer with an open regular file.
pub(super) fn of_file(file: File, state: &FileState, path: &Path) -> Response {
    pass(file, state, content_type(path))
}

/// The answer with an open regular file of this content type.
pub(super) fn pass(file: File, state: &FileState, content_type: HeaderValue) -> Response {
    let now = SystemTime::now();
    let response = Response::new(StatusCode::OK)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::ETAG, entity_tag(state, now))
        .last_modified(state.modified)
        .conditional();
    if state.length == 0 {
        return response.body(Bytes::new());
    }
    let whole = FileRange { file: Arc::new(file), offset: 0, length: state.length };
    response.parts([Part::File(whole)].into())
}

fn entity_tag(state: &FileState, now: SystemTime) -> String {
    // A change that the clock shows to be over, and no change in the future.
    let is_settled = now.duration_since(state.changed).is_ok_and(|age| age >= CLOCK_GRANULARITY);
    // Hashed, so that the file's number is nobody else's to know. The hash is the same in every
    // process of one build; after an update of the compiler it may be another, and clients fetch
    // files once more.
    let mut hasher = DefaultHasher::new();
    (state.modified, state.changed, state.number, is_settled).hash(&mut hasher);
    let weakness = if is_settled { "" } else { "W/" };
    format!("{weakness}\"{:x}-{:016x}\"", state.length, hasher.finish())
}

/// The answer where a file could not be opened.
pub(super) fn of_error(error: io::Error, path: &Path) -> Response {
    match error.kind() {
        // A path that no file can have names nothing.
        ErrorKind::NotFound
        | ErrorKind::NotADirectory
        | ErrorKind::InvalidFilename
        | ErrorKind::InvalidInput => Response::message(StatusCode::NOT_FOUND, "Not Found\n"),
        ErrorKind::PermissionDenied => {
            tracing::warn!("the file {} may not be read", path.display());
            Response::message(StatusCode::FORBIDDEN, "Forbidden\n")
        }
        _ => {
            tracing::error!("the file {} cannot be opened: {error}", path.display());
            let message = "Internal Server Error\n";
            Response::message(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(changed: SystemTime) -> FileState {
        FileState {
            is_file: true,
            is_folder: false,
            length: 255,
            modified: SystemTime::UNIX_EPOCH,
            changed,
            number: (1, 2),
        }
    }

    #[test]
    fn a_tag_is_strong_once_the_clock_has_moved_on() {
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let tag = |seconds| entity_tag(&state(changed), changed + Duration::from_secs(seconds));
        assert!(tag(0).starts_with("W/\"ff-"), "{}", tag(0));
        assert!(tag(1).starts_with("W/\""));
        assert!(tag(2).starts_with("\"ff-"), "{}", tag(2));
        assert_eq!(tag(2), tag(1_000));
        let weak = tag(1);
        assert_ne!(weak.strip_prefix("W/"), Some(&*tag(2)), "what was weak is never matched later");
        let before = entity_tag(&state(changed), changed - Duration::from_secs(1_000));
        assert!(before.starts_with("W/"), "a change in the future proves nothing");
    }

    #[test]
    fn whatever_tells_states_apart_is_in_the_tag() {
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let now = changed + Duration::from_secs(1_000);
        let nano = Duration::from_nanos(100);
        let first = state(changed);
        let others = [
            FileState { length: 254, ..first },
            FileState { modified: first.modified + nano, ..first },
            FileState { changed: first.changed + nano, ..first },
            FileState { number: (1, 3), ..first },
            FileState { number: (2, 2), ..first },
        ];
        for other in others {
            assert_ne!(entity_tag(&first, now), entity_tag(&other, now), "{other:?}");
        }
        assert_eq!(entity_tag(&first, now), entity_tag(&first, now));
    }

    #[test]
    fn names_of_attachments_break_out_of_nothing() {
        // RFC 6266 section 5 and appendix D.
        let value = |name| {
            let response = Response::text("").attachment(name).checked();
            let found = response.headers().find(|(name, _)| **name == header::CONTENT_DISPOSITION);
            found.map(|(_, value)| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        for (name, expected) in [
            ("a b.txt", "attachment; filename=\"a b.txt\""),
            (
                "a\"; x=\"b\\",
                "attachment; filename=\"a_; x=_b_\"; filename*=UTF-8''a%22%3B%20x%3D%22b%5C",
            ),
            ("100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
            ("a\r\nb", "attachment; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab"),
            ("€", "attachment; filename=\"_\"; filename*=UTF-8''%E2%82%AC"),
        ] {
            assert_eq!(value(name), expected, "{name:?}");
        }
    }

    #[test]
    fn what_goes_wrong_has_its_status() {
        let status = |kind: ErrorKind| of_error(kind.into(), Path::new("x")).status().as_u16();
        assert_eq!(status(ErrorKind::NotFound), 404);
        assert_eq!(status(ErrorKind::NotADirectory), 404);
        assert_eq!(status(ErrorKind::InvalidFilename), 404);
        assert_eq!(status(ErrorKind::PermissionDenied), 403);
        assert_eq!(status(ErrorKind::OutOfMemory), 500);
        assert_eq!(Response::file("a\0b").status().as_u16(), 404);
        assert_eq!(Response::file(".").status().as_u16(), 404, "a folder is no file");
    }
}
