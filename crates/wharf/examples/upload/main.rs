//! Uploads of any size to a folder, with a progress bar that needs no JavaScript.
//!
//! ```text
//! cargo run --release --example upload         # or: upload 127.0.0.1:8080 folder
//! ```
//!
//! The page has two frames beside its form. One gets the answer to the upload; the other shows a
//! page that does not end while the upload runs: the server adds a line to it when there is
//! progress. `progress` does that; this file has the pages and stores the files. Whoever reaches it
//! may upload and download.

mod progress;

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharf::{Error, Escaped, Files, Html, Request, Response, Router, Server, StatusCode};
use wharf::{get, post, with};

use crate::progress::{Upload, Uploads};

/// A body beyond this is refused, before it is received if it says how long it is.
const MOST_BYTES: usize = 1 << 30;
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; frame-src 'self'; \
     img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'self'";

struct Storage {
    folder: PathBuf,
    files: Files,
    uploads: Arc<Uploads>,
    /// What came since the start.
    stored: Mutex<Vec<Stored>>,
}

/// A file. What the client calls it may be any text, and would be no safe path.
struct Stored {
    name: String,
    bytes: u64,
    on_disk: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "uploads".to_owned()));
    let server = Server::bind(address.as_str())?;
    fs::create_dir_all(&folder)?;
    let files = Files::new(&folder)?;
    let (uploads, stored) = (Uploads::start(), Mutex::default());
    let router = routes(Storage { folder, files, uploads, stored });
    Ok(server.on_start(|address| println!("listening on http://{address}")).serve(router)?)
}

fn routes(storage: Storage) -> Router {
    let storage = Arc::new(storage);
    Router::new()
        .get("/", with(&storage, page))
        .get("/progress/{id}", with(&storage, watch))
        .route("/upload/{id}", post(with(&storage, upload)).streaming().body_limit(MOST_BYTES))
        .get("/files/{number}", with(&storage, download))
        .route(
            "/style.css",
            get(|_| ([("content-type", "text/css")], include_str!("style.css"))).inline(),
        )
        .after(|_, response| {
            response
                .header("content-security-policy", CONTENT_SECURITY_POLICY)
                .header("x-content-type-options", "nosniff")
        })
}

/// The form and what has come so far. The id ties a form to the frame that shows its progress.
fn page(storage: &Storage, _: &Request) -> Html<String> {
    let mut list = String::new();
    for (number, file) in storage.stored().iter().enumerate().rev() {
        let (name, size) = (Escaped(&file.name), Size(file.bytes));
        let _ = write!(list, "<li><a href=\"/files/{number}\">{name}</a> <span>{size}</span></li>");
    }
    if list.is_empty() {
        list.push_str("<li class=\"nothing\">Nothing has come yet.</li>");
    }
    Html(format!(include_str!("page.html"), id = progress::new_id(), list = list))
}

fn watch(storage: &Storage, request: &Request) -> Result<Response, Error> {
    Ok(storage.uploads.watch(request.param("id")?))
}

/// Writes the files of a form to the disk as they come.
fn upload(storage: &Storage, request: &Request) -> Result<Html<String>, Error> {
    let id: u64 = request.param("id")?;
    let length = request.header("content-length").and_then(|text| text.parse().ok());
    let upload = storage.uploads.begin(id, length);
    let (mut form, mut count) = (request.multipart()?, 0);
    while let Some(part) = form.next_part()? {
        // A form that was sent without choosing a file has one without a name.
        let Some(name) = part.file_name().filter(|name| !name.is_empty()) else { continue };
        let (name, on_disk) = (name.to_owned(), format!("{id:016x}-{count}"));
        let path = storage.folder.join(&on_disk);
        let mut file =
            Counted { file: File::create_new(&path).map_err(Error::internal)?, upload: &upload };
        let bytes = part.copy_to(&mut file).inspect_err(|_| forget(&path))?;
        storage.stored().push(Stored { name, bytes, on_disk });
        count += 1;
    }
    let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
    Ok(Html(format!(include_str!("done.html"), files = files)))
}

/// Half a file is of no use.
fn forget(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        eprintln!("upload: {} is left behind: {error}", path.display());
    }
}

fn download(storage: &Storage, request: &Request) -> Result<Response, Error> {
    let number: usize = request.param("number")?;
    let stored = storage.stored();
    let file = stored.get(number);
    let file =
        file.ok_or_else(|| Error::request(StatusCode::NOT_FOUND, "there is no such file"))?;
    Ok(storage.files.file(&file.on_disk).attachment(&file.name))
}

impl Storage {
    fn stored(&self) -> MutexGuard<'_, Vec<Stored>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what is written.
struct Counted<'a> {
    file: File,
    upload: &'a Upload,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.upload.add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A length in bytes, for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ ..1_000 => write!(f, "{bytes} B"),
            bytes @ ..1_000_000 => write!(f, "{:.1} kB", bytes as f64 / 1e3),
            bytes @ ..1_000_000_000 => write!(f, "{:.1} MB", bytes as f64 / 1e6),
            bytes => write!(f, "{:.1} GB", bytes as f64 / 1e9),
        }
    }
}
