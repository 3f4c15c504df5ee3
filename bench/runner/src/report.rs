//! The report: Markdown for people, JSON for what draws charts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::Failure;
use crate::bars;
use crate::building::workspace;
use crate::cases::{CASES, Case, Load};
use crate::chart;
use crate::figures::{Figures, Median, key, median};
use crate::options::Options;
use crate::parsers;
use crate::servers::{Kind, SERVERS, Server};

/// From here on a core is taken to be used up.
const USED_UP: f64 = 0.97;
/// From here on what else ran on the server's core is worth a word.
const NOISE: f64 = 0.03;

/// All that is known at the end.
#[derive(Debug)]
pub struct Report {
    facts: Vec<(&'static str, String)>,
    versions: BTreeMap<&'static str, String>,
    head_bytes: BTreeMap<&'static str, usize>,
    left_out: Vec<(String, String)>,
    cases: Vec<(&'static str, Vec<Row>)>,
}

/// A server's figures in a case.
#[derive(Debug)]
pub struct Row {
    /// The server.
    pub server: &'static str,
    /// One for each round.
    pub rounds: Vec<Figures>,
    /// Why there are no more rounds.
    pub failure: Option<String>,
}

impl Row {
    /// Nothing measured yet.
    pub fn new(server: &'static str) -> Row {
        Row { server, rounds: Vec::new(), failure: None }
    }

    /// A figure over all rounds.
    pub fn median(&self, key: &str) -> Option<Median> {
        median(&self.rounds, key)
    }
}

impl Report {
    /// A report of this run: when, where, with what.
    pub fn new(options: &Options) -> Report {
        let line = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(workspace()).output();
            output.map_or(String::new(), |output| {
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            })
        };
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find_map(|line| line.strip_prefix("model name"));
        let count = processor.lines().filter(|line| line.starts_with("processor")).count();
        let model = model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']);
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let changed = line("git", &["status", "--porcelain", "--untracked-files=no", "../crates"]);
        let commit = line("git", &["rev-parse", "--short", "HEAD"])
            + if changed.is_empty() { "" } else { " with changes" };
        Report {
            facts: vec![
                ("date", line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
                ("commit", commit),
                ("processor", format!("{model}, {count} cores")),
                ("kernel", line("uname", &["-r"])),
                ("compiler", line("rustc", &["--version"])),
                ("load before", load.split_whitespace().next().unwrap_or_default().to_owned()),
                ("seconds", format!("{}", options.seconds.as_secs_f64())),
                ("rounds", options.rounds.to_string()),
                ("open loop", format!("{} requests/s", options.rate)),
            ],
            versions: BTreeMap::new(),
            head_bytes: BTreeMap::new(),
            left_out: Vec::new(),
            cases: Vec::new(),
        }
    }

    /// Notes that a server, or an endpoint of it, is not measured.
    pub fn leave_out(&mut self, server: &str, why: &str) {
        self.left_out.push((server.to_owned(), why.to_owned()));
    }

    /// Notes a server that answers, and how long its plaintext's head is.
    pub fn server(&mut self, server: &Server, head_bytes: usize) {
        self.head_bytes.insert(server.name, head_bytes);
        let version = server.program_version().unwrap_or_else(|| locked(server.crates));
        self.versions.insert(server.name, version);
    }

    /// Adds what a case brought.
    pub fn add(&mut self, case: &'static str, rows: Vec<Row>) {
        self.cases.push((case, rows));
    }

    /// A server's figure in a case, if both were run.
    pub fn figure(&self, case: &str, server: &str, key: &str) -> Option<f64> {
        let (_, rows) = self.cases.iter().find(|(name, _)| *name == case)?;
        Some(rows.iter().find(|row| row.server == server)?.median(key)?.median)
    }

    /// One of the facts of the run.
    pub fn fact(&self, wanted: &str) -> &str {
        self.facts.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value)
    }

    /// Prints the report and writes `report.md`, `report.json` and, if the run has what it shows,
    /// `chart.svg` into a folder.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let markdown = self.markdown()?;
        println!("{markdown}");
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.md"), &markdown)?;
        fs::write(folder.join("report.json"), serde_json::to_string_pretty(&self.json())?)?;
        if let Some(chart) = chart::svg(self)? {
            fs::write(folder.join("chart.svg"), chart)?;
        }
        eprintln!("written to {}", folder.display());
        Ok(())
    }

    fn markdown(&self) -> Result<String, Failure> {
        let mut out = String::from("# Wharf beside its peers\n\n");
        for (name, value) in &self.facts {
            writeln!(out, "- {name}: {value}")?;
        }
        out += "\nEach figure is the median of the rounds, with the least and the greatest in \
                parentheses. CPU is the server's own, by /proc. \"Limit\" says which core was used \
                up: where it is the load's, the server could have done more, and its requests/s \
                are not its own limit.\n";
        for (name, rows) in &self.cases {
            if let Some(case) = CASES.iter().find(|case| case.name == *name) {
                writeln!(out, "\n## {name}\n\n{}\n", case.about)?;
                self.table(&mut out, case, rows)?;
            }
        }
        bars::write(&mut out, self)?;
        if !self.versions.is_empty() {
            out += "\n## Servers\n\n| server | version | bytes of the plaintext's head |\n|---|---|--:|\n";
            for (server, version) in &self.versions {
                let bytes = self.head_bytes.get(server).copied().unwrap_or_default();
                writeln!(out, "| {server} | {version} | {bytes} |")?;
            }
        }
        if !self.left_out.is_empty() {
            out += "\n## Left out, and remarks\n\n";
            for (server, why) in &self.left_out {
                writeln!(out, "- {server}: {why}")?;
            }
        }
        Ok(out)
    }

    fn table(&self, out: &mut String, case: &Case, rows: &[Row]) -> Result<(), Failure> {
        let columns = columns(case);
        let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
        writeln!(out, "| server | {} |", titles.join(" | "))?;
        writeln!(out, "|---|{}", "--:|".repeat(titles.len()))?;
        let mut sorted: Vec<&Row> = rows.iter().collect();
        if let Some(first) = columns.first() {
            let order = |row: &&Row| row.median(first.key).map_or(f64::MAX, |m| m.median);
            sorted.sort_by(|a, b| order(a).total_cmp(&order(b)));
        }
        for row in sorted {
            let cells: Vec<String> =
                columns.iter().map(|column| column.cell(self, case.name, row)).collect();
            writeln!(out, "| {} | {} |", row.server, cells.join(" | "))?;
        }
        for row in rows {
            if let Some(failure) = &row.failure {
                writeln!(out, "\n{}: {failure}", row.server)?;
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let cases: Vec<Value> =
            self.cases.iter().map(|(name, rows)| json_case(name, rows)).collect();
        json!({
            "facts": self.facts.iter().cloned().collect::<BTreeMap<_, _>>(),
            "versions": self.versions,
            "head_bytes": self.head_bytes,
            "cases": cases,
            "bars": bars::json(self),
            "left_out": self.left_out,
        })
    }
}

fn json_case(name: &str, rows: &[Row]) -> Value {
    let about = CASES.iter().find(|case| case.name == name).map(|case| case.about);
    let servers: Vec<Value> = rows
        .iter()
        .map(|row| {
            let keys = row.rounds.iter().flat_map(BTreeMap::keys).copied();
            let medians: BTreeMap<&str, Value> = keys
                .filter_map(|key| {
                    let Median { median, min, max } = row.median(key)?;
                    Some((key, json!({ "median": median, "min": min, "max": max })))
                })
                .collect();
            let kind = SERVERS.iter().find(|server| server.name == row.server).map(|s| s.kind);
            json!({
                "server": row.server,
                "kind": kind.map(kind_name),
                "medians": medians,
                "rounds": row.rounds,
                "failure": row.failure,
            })
        })
        .collect();
    json!({ "name": name, "about": about, "servers": servers })
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Limit => "limit",
        Kind::Wharf => "wharf",
        Kind::Async => "async",
        Kind::Blocking => "blocking",
        Kind::Program => "program",
    }
}

/// A column of a case's table.
struct Column {
    title: &'static str,
    key: &'static str,
    show: Show,
}

/// How a figure is shown.
enum Show {
    /// With so many decimals, after division by the second number, and with its extremes.
    Range(usize, f64),
    /// The same without its extremes.
    Plain(usize, f64),
    /// With so many decimals and a unit.
    Unit(usize, &'static str),
    /// Divided by another server's.
    Times(&'static str),
    /// Which core was used up, and what else went on.
    Limit,
}

/// A case's columns; by the first of them its servers are sorted.
fn columns(case: &Case) -> Vec<Column> {
    use Show::{Limit, Plain, Range, Times, Unit};
    let column = |title, key, show| Column { title, key, show };
    let cpu = || {
        vec![
            column("CPU µs/request", key::CPU_US, Range(2, 1.0)),
            column("× raw-uring", key::CPU_US, Times("raw-uring")),
            column("× wharf", key::CPU_US, Times("wharf")),
            column("user", key::USER_US, Plain(2, 1.0)),
            column("system", key::SYSTEM_US, Plain(2, 1.0)),
        ]
    };
    let latency = || {
        vec![
            column("p50 µs", key::P50_US, Plain(0, 1.0)),
            column("p99 µs", key::P99_US, Range(0, 1.0)),
            column("p99.9 µs", key::P999_US, Plain(0, 1.0)),
        ]
    };
    let rate = || column("requests/s", key::REQUESTS_PER_SECOND, Range(0, 1.0));
    let errors = || column("errors", key::ERRORS, Plain(0, 1.0));
    let mut all = Vec::new();
    match case.load {
        Load::Wrk { .. } | Load::Reconnect { .. } => {
            all.extend(cpu());
            if case.endpoint.is_large() {
                all.push(column("CPU ns/KiB", key::CPU_NS_PER_KIB, Range(1, 1.0)));
            }
            all.push(rate());
            if !matches!(case.load, Load::Reconnect { .. }) {
                all.push(column("MB/s", key::BYTES_PER_SECOND, Plain(0, 1e6)));
            }
            all.extend(latency());
            all.push(column("threads", key::THREADS, Plain(0, 1.0)));
            all.push(column("MiB", key::MEMORY_BYTES, Plain(1, 1_048_576.0)));
            all.push(column("limit", key::SERVER_CORE_BUSY, Limit));
            all.push(errors());
        }
        Load::Mix { .. } => {
            all.extend(latency());
            all.push(rate());
            all.push(column("sleepers/s", key::SLEEPERS_PER_SECOND, Plain(0, 1.0)));
            all.push(column("threads", key::THREADS, Plain(0, 1.0)));
            all.push(column("limit", key::SERVER_CORE_BUSY, Limit));
            all.push(errors());
        }
        Load::OpenLoop { .. } => {
            all.extend(latency());
            all.push(rate());
            all.extend(cpu());
            all.push(column("server's core", key::SERVER_CORE_BUSY, Plain(2, 1.0)));
            all.push(errors());
        }
        Load::Idle => {
            all.push(column("bytes/connection", key::BYTES_PER_CONNECTION, Range(0, 1.0)));
            all.push(column("connections", key::CONNECTIONS, Plain(0, 1.0)));
            all.push(column("MiB with them", key::MEMORY_BYTES, Plain(1, 1_048_576.0)));
            all.push(column("threads", key::THREADS, Plain(0, 1.0)));
        }
        Load::IdleMany { .. } => {
            all.push(column("p99 µs", key::P99_US, Range(0, 1.0)));
            all.push(column("with none idle", key::P99_NONE_IDLE_US, Range(0, 1.0)));
            all.push(column("idle at another", key::P99_IDLE_ELSEWHERE_US, Range(0, 1.0)));
            all.push(column("connections", key::CONNECTIONS, Plain(0, 1.0)));
            all.push(column("bytes/connection", key::BYTES_PER_CONNECTION, Plain(0, 1.0)));
            all.push(column("MiB with them", key::MEMORY_BYTES, Plain(1, 1_048_576.0)));
            all.push(column("threads", key::THREADS, Plain(0, 1.0)));
        }
        Load::SystemCalls => {
            all.push(column("system calls/request", key::SYSTEM_CALLS, Range(3, 1.0)));
            all.push(rate());
        }
        Load::Instructions => {
            all.push(column("instructions/request", key::INSTRUCTIONS, Plain(0, 1.0)));
        }
        Load::Parsers => {
            for (head, ns, instructions) in parsers::HEADS {
                all.push(column(head, ns, Unit(1, "ns")));
                all.push(column("instructions", instructions, Plain(0, 1.0)));
            }
        }
        Load::Build => {
            all.push(column("CPU seconds", key::BUILD_CPU_SECONDS, Range(1, 1.0)));
            all.push(column("× hyper", key::BUILD_CPU_SECONDS, Times("hyper")));
            all.push(column("seconds", key::BUILD_SECONDS, Range(1, 1.0)));
            all.push(column("crates", key::CRATES, Plain(0, 1.0)));
        }
    }
    all
}

impl Column {
    fn cell(&self, report: &Report, case: &str, row: &Row) -> String {
        let Some(Median { median, min, max }) = row.median(self.key) else {
            return "–".to_owned();
        };
        match self.show {
            Show::Unit(decimals, unit) => format!("{median:.decimals$} {unit}"),
            Show::Plain(decimals, unit) => format!("{:.decimals$}", median / unit),
            Show::Range(decimals, unit) => {
                let [median, min, max] = [median, min, max].map(|value| value / unit);
                if row.rounds.len() > 1 {
                    format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
                } else {
                    format!("{median:.decimals$}")
                }
            }
            Show::Times(other) => match report.figure(case, other, self.key) {
                Some(base) if base > 0.0 => format!("{:.2}", median / base),
                _ => "–".to_owned(),
            },
            Show::Limit => limit(row),
        }
    }
}

fn limit(row: &Row) -> String {
    let share = |key| row.median(key).map_or(0.0, |median| median.median);
    let server = share(key::SERVER_CORE_BUSY) > USED_UP;
    let load = share(key::LOAD_CORE_BUSY) > USED_UP;
    let mut text = match (server, load) {
        (true, true) => "both",
        (true, false) => "server",
        (false, true) => "load",
        (false, false) => "neither",
    }
    .to_owned();
    let foreign = share(key::SERVER_CORE_FOREIGN);
    if foreign > NOISE {
        text += &format!(", {:.0} % foreign", foreign * 100.0);
    }
    text
}

/// The versions of crates, from the lock file.
fn locked(crates: &[&str]) -> String {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap_or_default();
    let version = |name: &&str| {
        // Of several versions the last is the newest, which is the targets' own.
        let (_, rest) = lock.rsplit_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split('"').next()?))
    };
    crates.iter().filter_map(version).collect::<Vec<_>>().join(", ")
}
