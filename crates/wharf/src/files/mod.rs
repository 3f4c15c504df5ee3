//! Files as answers: a single one, and a folder of them served below a path.
//!
//! What a file is and which names lead to it is decided here. Sending it, and what of it a request
//! asks for, is not: an answer with a file is an answer like any other.

mod answer;
mod encodings;
mod listing;
mod path;
mod types;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderValue};
use wharf_port::{FileState, Folder};

use crate::error::{Error, Kind};
use crate::response::InvalidHeader;
use crate::router::to_folder;
use crate::{Request, Response, Router, get};
use answer::{of_error, of_file, pass};
use path::{Asked, asked};
use types::content_type;

const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");
/// The parameter of the routes below the prefix.
const REST: &str = "path";

/// A folder whose files are served: pages, scripts, pictures, downloads. Given to
/// [`Router::files`].
///
/// ```no_run
/// use wharf::{Error, Files, Router, Server};
///
/// fn main() -> Result<(), Error> {
///     let site = Files::new("public")?.precompressed(true).cache_control("max-age=3600")?;
///     Server::bind("127.0.0.1:8080")?.serve(Router::new().files("/", site))
/// }
/// ```
///
/// Each file goes out as [`Response::file`] has it, ranges and conditions included. A path that ends
/// in a slash names a folder and is answered with the folder's [index](Files::index) or
/// [listing](Files::listing); a folder's path without the slash is redirected to it.
///
/// # What is never served
///
/// - Anything outside the folder: `..` in whatever encoding, absolute paths, and symbolic links that
///   lead out, unless [`follow_links`](Files::follow_links) allows these. On Linux the kernel itself
///   keeps each path inside (`openat2`).
/// - Names with an escaped slash or backslash, with a control character, and those that mean more
///   than a name on the system at hand: devices, streams and short names on Windows.
/// - [Dotfiles](Files::dotfiles), unless allowed.
/// - What is neither a regular file nor a folder: pipes, sockets, devices.
///
/// All of these are `404 Not Found`, so that nobody learns what is there.
pub struct Files {
    folder: Folder,
    index: Option<String>,
    listing: bool,
    precompressed: bool,
    dotfiles: bool,
    follow_links: bool,
    cache_control: Option<HeaderValue>,
    fallback: Option<PathBuf>,
}

impl Files {
    /// The files of a folder. Symbolic links on the way to it are followed now, once and for all.
    ///
    /// # Errors
    /// If it is not there, cannot be opened, or is no folder.
    pub fn new(folder: impl AsRef<Path>) -> Result<Files, Error> {
        let path = folder.as_ref();
        let folder = Folder::open(path).map_err(|error| {
            let message = format!("the folder {} cannot be served", path.display());
            Error::with_source(Kind::Configuration, message, error)
        })?;
        Ok(Files {
            folder,
            index: Some("index.html".to_owned()),
            listing: false,
            precompressed: false,
            dotfiles: false,
            follow_links: false,
            cache_control: None,
            fallback: None,
        })
    }

    /// The file that answers for its folder. Default `index.html`; an empty name: none does.
    #[must_use]
    pub fn index(mut self, name: &str) -> Files {
        self.index = Some(name.to_owned()).filter(|name| !name.is_empty());
        self
    }

    /// Whether a folder without an index is answered with a page that lists what is served of it.
    /// Default: no.
    #[must_use]
    pub fn listing(mut self, on: bool) -> Files {
        self.listing = on;
        self
    }

    /// Whether `page.html.br`, `page.html.zst` or `page.html.gz` is sent in place of `page.html` to
    /// clients that accept it (RFC 9110 section 12.5.3). One that is older than the file itself is
    /// left alone. Default: no, as looking for them takes time.
    #[must_use]
    pub fn precompressed(mut self, on: bool) -> Files {
        self.precompressed = on;
        self
    }

    /// Whether names that begin with a dot are served, such as `.htpasswd` and what lies in `.git`.
    /// Default: no.
    ///
    /// For `.well-known` alone give that folder files of its own:
    /// `router.files("/.well-known", Files::new("public/.well-known")?)`.
    #[must_use]
    pub fn dotfiles(mut self, on: bool) -> Files {
        self.dotfiles = on;
        self
    }

    /// Whether symbolic links are followed that lead out of the folder. Default: no. Links that stay
    /// inside are always followed.
    #[must_use]
    pub fn follow_links(mut self, on: bool) -> Files {
        self.follow_links = on;
        self
    }

    /// The value of Cache-Control for every file. Default: none is sent, and clients ask again as
    /// they see fit.
    ///
    /// # Errors
    /// If it cannot be a field's value.
    pub fn cache_control<V>(mut self, value: V) -> Result<Files, Error>
    where
        V: TryInto<HeaderValue, Error: Into<InvalidHeader>>,
    {
        let value = value.try_into().map_err(|error| {
            let message = "the value of Cache-Control is invalid";
            Error::with_source(Kind::Configuration, message, error.into())
        })?;
        self.cache_control = Some(value);
        Ok(self)
    }

    /// A file of the folder that answers, with `200 OK`, for every path which names nothing and
    /// whose last part has no dot: the one page of an application that makes its own of the path.
    /// Default: none.
    #[must_use]
    pub fn fallback(mut self, file: impl Into<PathBuf>) -> Files {
        self.fallback = Some(file.into());
        self
    }

    /// The answer with one file of the folder, whose path relative to it is known: a name out of a
    /// database, or a path parameter. No path leads out of the folder, whoever made it up.
    ///
    /// ```no_run
    /// use wharf::{Error, Files, Request, Response, Router};
    ///
    /// let pictures = Files::new("pictures")?;
    /// let router = Router::new().get("/users/{id}/picture", move |request: &Request| {
    ///     Ok::<Response, Error>(pictures.file(&format!("{}.png", request.param::<u64>("id")?)))
    /// });
    /// # let _ = router;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// The answer is `404 Not Found` for what is [never served](Files#what-is-never-served).
    pub fn file(&self, path: &str) -> Response {
        if !path.split('/').all(|name| self.is_served(name)) {
            return of_error(io::ErrorKind::NotFound.into(), Path::new(path));
        }
        let path = Path::new(path);
        match self.open(path) {
            Ok((file, state)) if state.is_file => self.dressed(of_file(file, &state, path)),
            Ok(_) => of_error(io::ErrorKind::NotFound.into(), path),
            Err(error) => of_error(error, path),
        }
    }

    /// Answers a request below the prefix; `rest` is what follows it, as it was sent.
    fn answer(&self, request: &Request, rest: &str) -> Response {
        let Some(asked) = asked(rest, |name| self.is_served(name)) else {
            return of_error(io::ErrorKind::NotFound.into(), Path::new(rest));
        };
        let Asked { path, is_folder } = asked;
        match self.open(&path) {
            Ok((file, state)) if state.is_file && !is_folder => {
                self.best_of(request, &path, file, &state)
            }
            Ok((_, state)) if state.is_folder && !is_folder => to_folder(request),
            Ok((_, state)) if state.is_folder => self.folder(request, &path),
            Ok(_) => self.nothing(request, rest, &path, io::ErrorKind::NotFound.into()),
            Err(error) => self.nothing(request, rest, &path, error),
        }
    }

    fn folder(&self, request: &Request, path: &Path) -> Response {
        if let Some(index) = &self.index {
            let path = path.join(index);
            match self.open(&path) {
                Ok((file, state)) if state.is_file => {
                    return self.best_of(request, &path, file, &state);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return of_error(error, &path),
            }
        }
        if !self.listing {
            return self.nothing(request, "", path, io::ErrorKind::NotFound.into());
        }
        match listing::page(self, request.path(), path) {
            Ok(page) => page,
            Err(error) => of_error(error, path),
        }
    }

    /// There is nothing at the path, or nothing that can be opened.
    fn nothing(&self, request: &Request, rest: &str, path: &Path, error: io::Error) -> Response {
        let is_page = rest.rsplit('/').next().is_none_or(|last| !last.contains('.'));
        match &self.fallback {
            Some(fallback) if is_page && error.kind() == io::ErrorKind::NotFound => {
                match self.open(fallback) {
                    Ok((file, state)) if state.is_file => {
                        self.best_of(request, fallback, file, &state)
                    }
                    Ok(_) => of_error(io::ErrorKind::NotFound.into(), fallback),
                    Err(error) => of_error(error, fallback),
                }
            }
            _ => of_error(error, path),
        }
    }

    /// The file, or what it was compressed to before, if the client takes that.
    fn best_of(&self, request: &Request, path: &Path, file: File, state: &FileState) -> Response {
        if !self.precompressed {
            return self.dressed(of_file(file, state, path));
        }
        for encoding in encodings::accepted(request) {
            let mut sibling = path.as_os_str().to_owned();
            sibling.push(encoding.extension);
            let Ok((compressed, its_state)) = self.open(Path::new(&sibling)) else { continue };
            if its_state.is_file && its_state.modified >= state.modified {
                let response = pass(compressed, &its_state, content_type(path))
                    .header(header::CONTENT_ENCODING, encoding.name.clone())
                    .header(header::VARY, ACCEPT_ENCODING);
                return self.dressed(response);
            }
        }
        self.dressed(of_file(file, state, path).header(header::VARY, ACCEPT_ENCODING))
    }

    fn dressed(&self, response: Response) -> Response {
        match &self.cache_control {
            // Not for what went wrong: it may be right a moment later.
            Some(value) if response.status() == StatusCode::OK => {
                response.header(header::CACHE_CONTROL, value.clone())
            }
            _ => response,
        }
    }

    fn open(&self, path: &Path) -> io::Result<(File, FileState)> {
        let file = if self.follow_links {
            self.folder.open_file_anywhere(path)?
        } else {
            self.folder.open_file(path)?
        };
        let state = FileState::of(&file)?;
        Ok((file, state))
    }

    /// Whether a part of a path may be a file's or a folder's name.
    fn is_served(&self, name: &str) -> bool {
        let is_text = !name.contains(|c: char| c.is_control() || c == '\\');
        is_text && wharf_port::is_file_name(name) && (self.dotfiles || !name.starts_with('.'))
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({})", self.folder.path().display())
    }
}

impl Router {
    /// Serves the files of a folder below `prefix`, to GET and HEAD. The paths of other routes below
    /// it win over files.
    ///
    /// ```no_run
    /// use wharf::{Files, Router};
    ///
    /// let router = Router::new()
    ///     .get("/", |_| "home")
    ///     .files("/static", Files::new("assets")?)
    ///     .files("/downloads", Files::new("/srv/downloads")?.listing(true));
    /// # let _ = router;
    /// # Ok::<(), wharf::Error>(())
    /// ```
    #[must_use]
    pub fn files(self, prefix: &str, files: Files) -> Router {
        let files = Arc::new(files);
        let prefix = prefix.trim_end_matches('/');
        let below = files.clone();
        let rest = get(move |request: &Request| {
            below.answer(request, request.raw_param(REST).unwrap_or_default())
        });
        let root = get(move |request: &Request| files.answer(request, ""));
        let router = if prefix.is_empty() { self } else { self.route(prefix, get(to_folder)) };
        router
            .route(&format!("{prefix}/"), root.pooled().folder())
            .route(&format!("{prefix}/{{*{REST}}}"), rest.pooled())
    }
}
