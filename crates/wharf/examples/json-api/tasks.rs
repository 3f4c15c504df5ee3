//! The tasks in their SQLite file. Knows nothing of HTTP.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Task {
    pub(crate) id: i64,
    pub(crate) title: String,
    pub(crate) done: bool,
}

impl Task {
    fn from_row(row: &Row<'_>) -> Result<Task> {
        Ok(Task { id: row.get(0)?, title: row.get(1)?, done: row.get(2)? })
    }
}

/// One connection, since the queries are short.
pub(crate) struct Tasks(Mutex<Connection>);

impl Tasks {
    pub(crate) fn open(file: &str) -> Result<Tasks> {
        let connection = Connection::open(file)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS tasks (
                 id INTEGER PRIMARY KEY AUTOINCREMENT,
                 title TEXT NOT NULL,
                 done INTEGER NOT NULL DEFAULT 0
             ) STRICT",
        )?;
        Ok(Tasks(Mutex::new(connection)))
    }

    /// At most `limit` tasks whose ids are beyond `after`, in order.
    pub(crate) fn list(&self, after: i64, limit: u32, done: Option<bool>) -> Result<Vec<Task>> {
        let connection = self.lock();
        let mut query = connection.prepare_cached(
            "SELECT id, title, done FROM tasks
             WHERE id > ?1 AND (?2 IS NULL OR done = ?2) ORDER BY id LIMIT ?3",
        )?;
        query.query_map(params![after, done, limit], Task::from_row)?.collect()
    }

    pub(crate) fn get(&self, id: i64) -> Result<Option<Task>> {
        let connection = self.lock();
        let mut query =
            connection.prepare_cached("SELECT id, title, done FROM tasks WHERE id = ?1")?;
        query.query_row([id], Task::from_row).optional()
    }

    pub(crate) fn add(&self, title: &str) -> Result<Task> {
        let connection = self.lock();
        let mut insert = connection
            .prepare_cached("INSERT INTO tasks (title) VALUES (?1) RETURNING id, title, done")?;
        insert.query_row([title], Task::from_row)
    }

    /// The task as it is now. None: there is none.
    pub(crate) fn change(
        &self,
        id: i64,
        title: Option<&str>,
        done: Option<bool>,
    ) -> Result<Option<Task>> {
        let connection = self.lock();
        let mut update = connection.prepare_cached(
            "UPDATE tasks SET title = coalesce(?2, title), done = coalesce(?3, done)
             WHERE id = ?1 RETURNING id, title, done",
        )?;
        update.query_row(params![id, title, done], Task::from_row).optional()
    }

    /// False: there is none.
    pub(crate) fn delete(&self, id: i64) -> Result<bool> {
        let connection = self.lock();
        Ok(connection.execute("DELETE FROM tasks WHERE id = ?1", [id])? > 0)
    }

    /// A handler that panicked has changed nothing by halves: each query is a transaction.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
