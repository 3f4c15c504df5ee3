//! The entries, in an SQLite file. Nothing here knows of HTTP.
//!
//! The file is in WAL mode with `synchronous=FULL`: a commit returns once the entry is on the disk,
//! so that it survives a kill and a power cut, and readers never wait for a writer's sync, as they
//! would with a rollback journal. SQLite has one writer at a time in any mode; here it has a
//! connection of its own, and each of the few readers too.

use std::fmt;
use std::fs;
use std::io;
use std::path::{self, Path};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row};
use serde::Serialize;
use wharf::{Problem, StatusCode, ToProblem};

use crate::draft::NewEntry;

/// Reads at one time. They take microseconds, so more would only wait for processors.
const READERS: usize = 4;
/// How long another process, a backup say, may lock the file before a request fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Marks the file as a guestbook ("Wgbk"), lest another program's database be changed.
const APPLICATION_ID: i32 = 0x5767_626b;
const SCHEMA_VERSION: i32 = 1;
/// AUTOINCREMENT: the id of a deleted entry is not given to another.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        message TEXT NOT NULL,
        written_at INTEGER NOT NULL DEFAULT (unixepoch())
    ) STRICT";

/// The columns of an [`Entry`].
macro_rules! columns {
    () => {
        "id, name, message, strftime('%Y-%m-%dT%H:%M:%SZ', written_at, 'unixepoch')"
    };
}

/// What somebody wrote.
#[derive(Serialize)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) message: String,
    /// RFC 3339, UTC, to the second.
    pub(crate) written_at: String,
}

/// Some entries, the latest first.
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    /// Where older ones are, there are those before this id.
    pub(crate) older_than: Option<i64>,
}

pub(crate) struct Store {
    /// Declared before the writer, to be closed before it: the last connection to close empties
    /// the WAL into the database, which a reader may not.
    readers: [Mutex<Connection>; READERS],
    next_reader: AtomicUsize,
    writer: Mutex<Connection>,
}

impl Store {
    /// Opens the file, or makes it. What would keep entries from being stored is found here and
    /// not with the first visitor.
    pub(crate) fn open(file: &Path) -> Result<Store, OpenError> {
        let failed = |reason| OpenError { file: file.display().to_string(), reason };
        Store::try_open(file).map_err(failed)
    }

    fn try_open(file: &Path) -> Result<Store, Reason> {
        make_file(file)?;
        // SQLite gives names such as ":memory:" a meaning; an absolute path has none.
        let file = path::absolute(file)?;
        let mut writer = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        examine(&writer)?;
        prepare(&mut writer)?;
        let reader = || connect(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).map(Mutex::new);
        Ok(Store {
            readers: [reader()?, reader()?, reader()?, reader()?],
            next_reader: AtomicUsize::new(0),
            writer: Mutex::new(writer),
        })
    }

    /// Keeps an entry. When this returns it is on the disk.
    pub(crate) fn add(&self, new: &NewEntry) -> Result<Entry, StoreError> {
        let mut writer = lock(&self.writer);
        // A transaction, for its commit to report what it could not write. The commit that ends a
        // lone RETURNING statement happens as its rows are dropped, where nobody hears of it.
        let transaction = writer.transaction()?;
        let entry = transaction
            .prepare_cached(concat!(
                "INSERT INTO entries (name, message) VALUES (?1, ?2) RETURNING ",
                columns!()
            ))?
            .query_row([new.name(), new.message()], entry)?;
        transaction.commit()?;
        Ok(entry)
    }

    /// False: there was none.
    pub(crate) fn delete(&self, id: i64) -> Result<bool, StoreError> {
        let writer = lock(&self.writer);
        let deleted = writer.prepare_cached("DELETE FROM entries WHERE id = ?1")?.execute([id])?;
        Ok(deleted > 0)
    }

    pub(crate) fn get(&self, id: i64) -> Result<Option<Entry>, StoreError> {
        let select = concat!("SELECT ", columns!(), " FROM entries WHERE id = ?1");
        Ok(self.reader().prepare_cached(select)?.query_row([id], entry).optional()?)
    }

    /// At most `limit` entries: the latest, or of those before an id the latest.
    pub(crate) fn list(&self, before: Option<i64>, limit: u32) -> Result<Listing, StoreError> {
        let select =
            concat!("SELECT ", columns!(), " FROM entries WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
        let reader = self.reader();
        let mut statement = reader.prepare_cached(select)?;
        // One more than asked for, to learn whether there are more.
        let found = statement.query_map((before.unwrap_or(i64::MAX), limit + 1), entry)?;
        let mut entries = found.collect::<Result<Vec<Entry>, _>>()?;
        let has_older = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let older_than = entries.last().filter(|_| has_older).map(|oldest| oldest.id);
        Ok(Listing { entries, older_than })
    }

    /// The readers in turn: a request waits only if all are busy, or behind a slow one.
    fn reader(&self) -> MutexGuard<'_, Connection> {
        let next = self.next_reader.fetch_add(1, Ordering::Relaxed);
        lock(&self.readers[next % READERS])
    }
}

/// A handler that panicked left its connection whole: an open transaction rolls back as it is
/// dropped.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry { id: row.get(0)?, name: row.get(1)?, message: row.get(2)?, written_at: row.get(3)? })
}

/// Makes sure of a file that can be written. SQLite would fall back to reading where it may not
/// write, and wait for ever at a pipe.
fn make_file(file: &Path) -> Result<(), Reason> {
    match fs::metadata(file) {
        Ok(found) if found.is_dir() => return Err(Reason("it is a directory".into())),
        Ok(found) if !found.is_file() => return Err(Reason("it is not a regular file".into())),
        _ => {}
    }
    fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file)?;
    Ok(())
}

fn connect(file: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    // Each connection is behind a mutex of ours and needs none of SQLite's.
    let connection = Connection::open_with_flags(file, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Of the connection, not of the file: it has to be said each time.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Refuses damaged files and other programs' databases before anything is written.
fn examine(connection: &Connection) -> Result<(), Reason> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        // Behind a line that names the database: the first thing that is wrong with it.
        let fault = verdict.lines().last().unwrap_or_default();
        return Err(Reason(format!("the database is damaged: {fault}")));
    }
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (pragma("application_id")?, pragma("user_version")?) {
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(()),
        (APPLICATION_ID, _) => Err(Reason("another version of the guestbook made it".into())),
        (0, 0) if tables == 0 => Ok(()),
        _ => Err(Reason("it is another program's database".into())),
    }
}

/// Sets the file up. This writes even if all is there already, and so proves that it can.
fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = connection.transaction()?;
    transaction.execute(SCHEMA, [])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// Why the file cannot be used.
#[derive(Debug)]
pub(crate) struct OpenError {
    file: String,
    reason: Reason,
}

#[derive(Debug)]
struct Reason(String);

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Reason(error.to_string())
    }
}

impl From<rusqlite::Error> for Reason {
    fn from(error: rusqlite::Error) -> Self {
        Reason(match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => "it is not an SQLite database".into(),
            Some(ErrorCode::DatabaseCorrupt) => format!("the database is damaged: {error}"),
            _ => error.to_string(),
        })
    }
}

impl fmt::Display for OpenError {
    /// One line, whatever SQLite and the file's name have to say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.0.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "cannot keep entries in {:?}: {reason}", self.file)
    }
}

impl std::error::Error for OpenError {}

/// Why entries could not be read or written.
#[derive(Debug)]
pub(crate) struct StoreError(rusqlite::Error);

impl StoreError {
    /// Whether another process kept the file locked, which may be over soon.
    pub(crate) fn is_busy(&self) -> bool {
        self.0.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StoreError {}

/// The cause is for the operator; the client learns that there is one.
impl ToProblem for StoreError {
    fn to_problem(&self) -> Problem {
        if self.is_busy() {
            let detail = "the guestbook is busy; try again in a moment";
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE).with_detail(detail);
        }
        let detail = "the guestbook cannot be read or written";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR).with_detail(detail)
    }
}
