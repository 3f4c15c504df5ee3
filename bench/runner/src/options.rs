//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Failure;

/// What to run and how long.
#[derive(Debug)]
pub struct Options {
    /// Servers to run; empty: all.
    pub only: Vec<String>,
    /// Cases to run; empty: all but the slow ones.
    pub cases: Vec<String>,
    /// How long each measurement takes.
    pub seconds: Duration,
    /// How long a server is loaded before it is measured.
    pub warm_up: Duration,
    /// How often each measurement is repeated.
    pub rounds: usize,
    /// Requests a second of the open loop.
    pub rate: u32,
    /// Connections of the case `idle`.
    pub idle_connections: usize,
    /// The core that serves.
    pub server_core: usize,
    /// The core that makes the load.
    pub load_core: usize,
    /// Where the results go: the same in JSON and in Markdown.
    pub out: PathBuf,
    /// Use what has been built before.
    pub no_build: bool,
    /// Only list servers and cases.
    pub list: bool,
}

const HELP: &str = "\
Measures Wharf beside its peers.

    cargo run --release -- [OPTIONS]
    cargo run --release -- prove     what Wharf does on this machine, on one page, in two minutes

    --only A,B             these servers alone (default: all)
    --cases A,B            these cases alone (default: all but `idle-many`)
    --seconds N            length of a measurement (default 5)
    --rounds N             repetitions (default 3)
    --quick                1 round of 1 second
    --rate N               requests a second of the open loop (default 30000)
    --idle-connections N   connections of the case `idle` (default 10000)
    --server-core N        the core that serves (default 0)
    --load-core N          the core that makes the load (default 1)
    --out FOLDER           where report.md and report.json go (default results)
    --no-build             use what has been built before
    --list                 list servers and cases
";

impl Options {
    /// What holds unless the command line says otherwise.
    pub fn usual() -> Options {
        Options {
            only: Vec::new(),
            cases: Vec::new(),
            seconds: Duration::from_secs(5),
            warm_up: Duration::from_secs(1),
            rounds: 3,
            rate: 30_000,
            idle_connections: 10_000,
            server_core: 0,
            load_core: 1,
            out: PathBuf::from("results"),
            no_build: false,
            list: false,
        }
    }

    /// Reads the command line. `None` if it asked for help, which has been printed.
    pub fn read() -> Result<Option<Options>, Failure> {
        let mut options = Options::usual();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("only") => options.only = names(&parser.value()?.string()?),
                Long("cases") => options.cases = names(&parser.value()?.string()?),
                Long("seconds") => {
                    options.seconds = Duration::try_from_secs_f64(parser.value()?.parse()?)?;
                }
                Long("rounds") => options.rounds = parser.value()?.parse::<usize>()?.max(1),
                Long("quick") => {
                    options.rounds = 1;
                    options.seconds = Duration::from_secs(1);
                    options.warm_up = Duration::from_millis(300);
                }
                Long("rate") => options.rate = parser.value()?.parse::<u32>()?.max(1),
                Long("idle-connections") => options.idle_connections = parser.value()?.parse()?,
                Long("server-core") => options.server_core = parser.value()?.parse()?,
                Long("load-core") => options.load_core = parser.value()?.parse()?,
                Long("out") => options.out = PathBuf::from(parser.value()?),
                Long("no-build") => options.no_build = true,
                Long("list") => options.list = true,
                Short('h') | Long("help") => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(Some(options))
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
