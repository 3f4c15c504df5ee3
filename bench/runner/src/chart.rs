//! The chart: CPU time per request of the first case, one bar a server, as SVG.

use std::fmt::Write as _;

use crate::Failure;
use crate::figures::key;
use crate::report::Report;
use crate::servers::{Kind, SERVERS};

const CASE: &str = "plaintext-64";
const ROW: u32 = 24;
const LABELS: u32 = 140;
const BARS: f64 = 440.0;
const WIDTH: u32 = 680;
const TOP: u32 = 52;

/// The chart, if the run measured what it shows.
pub fn svg(report: &Report) -> Result<Option<String>, Failure> {
    let mut rows: Vec<(&str, Kind, f64, f64)> = SERVERS
        .iter()
        .filter_map(|server| {
            let figure = |key| report.figure(CASE, server.name, key);
            Some((server.name, server.kind, figure(key::USER_US)?, figure(key::CPU_US)?))
        })
        .collect();
    rows.sort_by(|a, b| a.3.total_cmp(&b.3));
    let Some(&(.., longest)) = rows.last() else { return Ok(None) };
    let height = TOP + ROW * rows.len() as u32 + 32;
    let mut out = String::new();
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">
<rect width="{WIDTH}" height="{height}" fill="#fff"/>
<text x="10" y="20" font-weight="bold">CPU time per request in microseconds: plaintext, 64 connections</text>
<text x="10" y="38" fill="#555">dark: in the program, light: in the kernel; shorter is better</text>"##
    )?;
    for (number, (name, kind, user, all)) in rows.iter().enumerate() {
        let (y, scale) = (TOP + ROW * number as u32, BARS / longest);
        let (dark, light) = match kind {
            Kind::Wharf => ("#0b5394", "#6fa8dc"),
            Kind::Limit => ("#888888", "#cccccc"),
            Kind::Async | Kind::Blocking | Kind::Program => ("#b45f06", "#f6b26b"),
        };
        let (user, all, base) = (user * scale, all * scale, y + 14);
        let end = f64::from(LABELS) + all;
        writeln!(
            out,
            r##"<text x="{}" y="{base}" text-anchor="end">{name}</text>
<rect x="{LABELS}" y="{y}" width="{all:.1}" height="18" fill="{light}"/>
<rect x="{LABELS}" y="{y}" width="{user:.1}" height="18" fill="{dark}"/>
<text x="{:.1}" y="{base}">{:.2}</text>"##,
            LABELS - 8,
            end + 6.0,
            all / scale,
        )?;
    }
    let facts = ["date", "processor", "kernel", "commit"].map(|name| report.fact(name));
    writeln!(
        out,
        r##"<text x="10" y="{}" fill="#555" font-size="11">{}</text>
</svg>"##,
        height - 10,
        facts.join(" · "),
    )?;
    Ok(Some(out))
}
