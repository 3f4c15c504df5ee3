//! The bars that Wharf has set itself, checked against the figures of the run.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::Failure;
use crate::figures::key;
use crate::parsers;
use crate::report::Report;
use crate::servers::{Kind, SERVERS};

/// A bar and what the run says of it.
struct Bar {
    what: &'static str,
    bar: &'static str,
    /// What was measured, and whether that meets the bar. None: the run did not measure it.
    measured: Option<(String, bool)>,
}

/// Peers that wait by epoll.
const EPOLL_PEERS: &[&str] =
    &["hyper", "axum", "actix-web", "ntex", "may_minihttp", "xitca-web", "nginx", "h2o"];

/// Adds the table of bars, if the run says anything of any.
pub fn write(out: &mut String, report: &Report) -> Result<(), Failure> {
    let bars: Vec<Bar> = bars(report).into_iter().filter(|bar| bar.measured.is_some()).collect();
    if bars.is_empty() {
        return Ok(());
    }
    *out += "\n## Bars\n\n| what | bar | measured | met |\n|---|---|---|---|\n";
    for Bar { what, bar, measured } in bars {
        if let Some((measured, met)) = measured {
            let met = if met { "yes" } else { "**no**" };
            writeln!(out, "| {what} | {bar} | {measured} | {met} |")?;
        }
    }
    Ok(())
}

/// The same for the JSON.
pub fn json(report: &Report) -> Vec<Value> {
    let as_json = |Bar { what, bar, measured }: Bar| {
        let (measured, met) = measured?;
        Some(json!({ "what": what, "bar": bar, "measured": measured, "met": met }))
    };
    bars(report).into_iter().filter_map(as_json).collect()
}

fn bars(report: &Report) -> Vec<Bar> {
    let figures = Look(report);
    let bar = |what, bar, measured| Bar { what, bar, measured };
    vec![
        bar(
            "plaintext, 64 connections: CPU per request",
            "≤ 1.06 × raw-uring",
            figures.ratio("plaintext-64", "wharf", "raw-uring", key::CPU_US, 1.06),
        ),
        bar(
            "the same beside every peer",
            "below",
            figures.below_all("plaintext-64", "wharf", key::CPU_US, &peers()),
        ),
        bar(
            "its user-space part",
            "≤ 0.4 µs",
            figures.at_most("plaintext-64", "wharf", key::USER_US, 0.4),
        ),
        bar(
            "user-space instructions per request",
            "≤ 1,200",
            figures.at_most("instructions", "wharf", key::INSTRUCTIONS, 1200.0),
        ),
        bar(
            "pipelined 16: CPU per request",
            "≤ 1.3 × raw-uring",
            figures.ratio("pipelined-16", "wharf", "raw-uring", key::CPU_US, 1.3),
        ),
        bar(
            "the same beside may_minihttp",
            "below",
            figures.below_all("pipelined-16", "wharf", key::CPU_US, &["may_minihttp"]),
        ),
        bar(
            "readiness backend, plaintext: CPU per request",
            "≤ 1.07 × raw-epoll",
            figures.ratio("plaintext-64", "wharf-readiness", "raw-epoll", key::CPU_US, 1.07),
        ),
        bar(
            "the same beside every epoll peer",
            "below",
            figures.below_all("plaintext-64", "wharf-readiness", key::CPU_US, EPOLL_PEERS),
        ),
        bar(
            "adaptive dispatch beside inline: CPU per request",
            "≤ 1.03 ×",
            figures.ratio("plaintext-64", "wharf-adaptive", "wharf", key::CPU_US, 1.03),
        ),
        bar(
            "forced-pooled handler: CPU per request",
            "≤ 0.6 × astra",
            figures.ratio("pooled-64", "wharf", "astra", key::CPU_US, 0.6),
        ),
        bar(
            "the same at 16 connections: p50",
            "below astra's",
            figures.below_all("pooled-16", "wharf", key::P50_US, &["astra"]),
        ),
        bar(
            "sleepers' mix: plain requests/s",
            "above every peer",
            figures.above_all("mix", "wharf", key::REQUESTS_PER_SECOND, &peers()),
        ),
        bar(
            "sleepers' mix: plain p99",
            "below every peer",
            figures.below_all("mix", "wharf", key::P99_US, &peers()),
        ),
        bar(
            "the same, adaptive, beside sleepers that are told `.pooled()`: plain requests/s",
            "≥ 0.9 ×",
            figures.ratio_at_least(
                "mix",
                "wharf-adaptive",
                "wharf-told",
                key::REQUESTS_PER_SECOND,
                0.9,
            ),
        ),
        bar(
            "the same: plain p99",
            "≤ 1.1 ×",
            figures.ratio("mix", "wharf-adaptive", "wharf-told", key::P99_US, 1.1),
        ),
        bar(
            "idle connection: memory of its own",
            "≤ 300 bytes",
            figures.at_most("idle", "wharf", key::BYTES_PER_CONNECTION, 300.0),
        ),
        bar(
            "idle connections in one process",
            "100,000",
            figures.at_least("idle-many", "wharf", key::CONNECTIONS, 100_000.0),
        ),
        bar(
            "p99 beside them",
            "≤ 1.5 × with none idle",
            figures.within("idle-many", "wharf", (key::P99_US, key::P99_NONE_IDLE_US), 1.5),
        ),
        bar(
            "system calls per request, 64 busy connections",
            "≤ 0.2",
            figures.at_most("system-calls", "wharf", key::SYSTEM_CALLS, 0.2),
        ),
        bar(
            "1 MiB echo: CPU ns per KiB beside every peer",
            "below",
            figures.below_all("echo-1m", "wharf", key::CPU_NS_PER_KIB, &peers()),
        ),
        bar(
            "10 MiB file: CPU ns per KiB beside every peer",
            "below",
            figures.below_all("file-10m", "wharf", key::CPU_NS_PER_KIB, &peers()),
        ),
        bar(
            "request-head parser beside httparse and picohttpparser, the worst of the heads",
            "≤ 1 ×",
            figures.parser(),
        ),
        bar(
            "`cargo build` from cold: processor time",
            "below hyper with its server features",
            figures.ratio("build", "wharf", "hyper-server", key::BUILD_CPU_SECONDS, 1.0),
        ),
        bar(
            "the same beside the least hyper that serves",
            "below",
            figures.ratio("build", "wharf", "hyper", key::BUILD_CPU_SECONDS, 1.0),
        ),
        bar(
            "the same, Wharf without default features",
            "below",
            figures.ratio("build", "wharf-bare", "hyper", key::BUILD_CPU_SECONDS, 1.0),
        ),
    ]
}

fn peers() -> Vec<&'static str> {
    let is_peer = |kind| !matches!(kind, Kind::Limit | Kind::Wharf);
    SERVERS.iter().filter(|server| is_peer(server.kind)).map(|server| server.name).collect()
}

struct Look<'a>(&'a Report);

impl Look<'_> {
    fn at_most(&self, case: &str, server: &str, key: &str, bar: f64) -> Option<(String, bool)> {
        let value = self.0.figure(case, server, key)?;
        Some((short(value), value <= bar))
    }

    fn at_least(&self, case: &str, server: &str, key: &str, bar: f64) -> Option<(String, bool)> {
        let value = self.0.figure(case, server, key)?;
        Some((short(value), value >= bar))
    }

    /// One figure of a server divided by another of it.
    fn within(
        &self,
        case: &str,
        server: &str,
        (key, base): (&str, &str),
        bar: f64,
    ) -> Option<(String, bool)> {
        let ratio = self.0.figure(case, server, key)? / self.0.figure(case, server, base)?;
        Some((format!("{ratio:.2} ×"), ratio <= bar))
    }

    fn ratio(
        &self,
        case: &str,
        server: &str,
        base: &str,
        key: &str,
        bar: f64,
    ) -> Option<(String, bool)> {
        let ratio = self.0.figure(case, server, key)? / self.0.figure(case, base, key)?;
        Some((format!("{ratio:.3} ×"), ratio <= bar))
    }

    fn ratio_at_least(
        &self,
        case: &str,
        server: &str,
        base: &str,
        key: &str,
        bar: f64,
    ) -> Option<(String, bool)> {
        let ratio = self.0.figure(case, server, key)? / self.0.figure(case, base, key)?;
        Some((format!("{ratio:.3} ×"), ratio >= bar))
    }

    fn below_all(
        &self,
        case: &str,
        server: &str,
        key: &str,
        peers: &[&str],
    ) -> Option<(String, bool)> {
        let own = self.0.figure(case, server, key)?;
        let (best, name) = self.rivals(case, key, peers).min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((format!("{} beside {} of {name}", short(own), short(best)), own < best))
    }

    fn above_all(
        &self,
        case: &str,
        server: &str,
        key: &str,
        peers: &[&str],
    ) -> Option<(String, bool)> {
        let own = self.0.figure(case, server, key)?;
        let (best, name) = self.rivals(case, key, peers).max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((format!("{} beside {} of {name}", short(own), short(best)), own > best))
    }

    /// Nanoseconds of the head where Wharf's parser does worst.
    fn parser(&self) -> Option<(String, bool)> {
        let others = &parsers::PARSERS[1..];
        let ratios = parsers::HEADS.iter().filter_map(|(head, ns, _)| {
            let own = self.0.figure("parsers", "wharf", ns)?;
            let (best, name) =
                self.rivals("parsers", ns, others).min_by(|a, b| a.0.total_cmp(&b.0))?;
            Some((own / best, *head, name))
        });
        let (ratio, head, name) = ratios.max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((format!("{ratio:.2} × {name} ({head})"), ratio <= 1.0))
    }

    fn rivals<'b>(
        &'b self,
        case: &'b str,
        key: &'b str,
        peers: &'b [&'b str],
    ) -> impl Iterator<Item = (f64, &'b str)> {
        peers.iter().filter_map(move |peer| Some((self.0.figure(case, peer, key)?, *peer)))
    }
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
