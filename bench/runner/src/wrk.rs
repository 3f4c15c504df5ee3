//! Closed loops: wrk, told what to ask by a script, and what it counted read back.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::cases::{BROWSER, Endpoint};

/// What wrk is to do.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The path.
    pub path: &'static str,
    /// The endpoint, which decides the method.
    pub endpoint: Endpoint,
    /// Connections.
    pub connections: u32,
    /// Requests that a connection sends at once.
    pub pipelined: u32,
    /// With a browser's header fields.
    pub browser: bool,
}

/// What wrk counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Answers.
    pub requests: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Bytes received.
    pub bytes: f64,
    /// Latencies at 50, 99 and 99.9 per cent, in microseconds.
    pub latencies_us: [f64; 3],
    /// Connections refused, broken or timed out, and answers of a status from 400 on.
    pub errors: f64,
}

/// What follows `RESULT` in wrk's output, in this order.
const REPORT: &str = r#"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d %d\n",
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// Runs wrk for about as long as `duration`. `before` is run before the command line, as for
/// counting what happens meanwhile.
pub fn run(
    address: SocketAddr,
    request: Request,
    duration: Duration,
    scratch: &Path,
    before: &[String],
) -> Result<Counts, Failure> {
    let script = scratch.join("wrk.lua");
    fs::write(&script, script_text(request))?;
    let mut line: Vec<String> = before.to_vec();
    line.extend(["wrk", "-t", "1", "-c"].map(str::to_owned));
    line.push(request.connections.to_string());
    // wrk takes whole seconds.
    line.extend(["-d".to_owned(), format!("{}s", duration.as_secs_f64().ceil().max(1.0))]);
    line.extend(["-s".to_owned(), script.display().to_string()]);
    line.push(format!("http://{address}{}", request.path));
    let output = Command::new(&line[0]).args(&line[1..]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers: Vec<f64> = result
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    let [requests, micros, bytes, p50, p99, p999, errors] = numbers[..] else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("wrk: {}{}", text.trim(), complaint.trim()).into());
    };
    let counts =
        Counts { requests, seconds: micros / 1e6, bytes, latencies_us: [p50, p99, p999], errors };
    if requests == 0.0 {
        return Err("wrk got no answer".into());
    }
    Ok(counts)
}

fn script_text(request: Request) -> String {
    let mut text = String::new();
    let body_bytes = request.endpoint.request_body().len();
    if body_bytes > 0 {
        text += "wrk.method = \"POST\"\n";
        text += "wrk.headers[\"Content-Type\"] = \"application/octet-stream\"\n";
        text += &format!("wrk.body = string.rep(\"x\", {body_bytes})\n");
    }
    if request.browser {
        for (name, value) in BROWSER {
            text += &format!("wrk.headers[{name:?}] = {}\n", lua_text(value));
        }
    }
    if request.pipelined > 1 {
        text += &format!(
            "function init(args)\n  local one = wrk.format()\n  many = string.rep(one, {})\nend\n\
             function request() return many end\n",
            request.pipelined
        );
    }
    text + REPORT
}

fn lua_text(value: &str) -> String {
    format!("[[{value}]]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_value_ends_its_lua_text_early() {
        assert!(BROWSER.iter().all(|(_, value)| !value.contains("]]")));
        assert_eq!(BROWSER.len() + 1, 16, "with Host");
    }
}
