//! The command line.

use std::path::PathBuf;

use lexopt::Arg::{Long, Short};
use lexopt::{Error, Parser, ValueExt};

pub(crate) const HELP: &str = "\
A guestbook, served by Wharf.

Usage: guestbook [--listen ADDR] [--data FILE]

Options:
  --listen ADDR  Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
  --data FILE    SQLite database that keeps the entries; made if it is not there
                 [default: guestbook.db]
  -h, --help     Print this and exit
";

pub(crate) struct Options {
    pub(crate) listen: String,
    pub(crate) data: PathBuf,
}

impl Options {
    /// None: help is asked for.
    pub(crate) fn from_command_line() -> Result<Option<Options>, Error> {
        let mut options =
            Options { listen: "127.0.0.1:8080".to_owned(), data: PathBuf::from("guestbook.db") };
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("listen") => options.listen = parser.value()?.string()?,
                Long("data") => options.data = parser.value()?.into(),
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(format!("{}; see --help", argument.unexpected()).into()),
            }
        }
        Ok(Some(options))
    }
}
