//! The head parser alone, beside others: nanoseconds and instructions for each head of the set.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::counting;
use crate::figures::Figures;

/// The package, and the program that it becomes.
pub const PACKAGE: &str = "parsers";
/// The parsers.
pub const PARSERS: [&str; 3] = ["wharf", "httparse", "picohttpparser"];
/// The heads, with the names of their figures: nanoseconds and instructions.
pub const HEADS: [(&str, &str, &str); 4] = [
    ("smallest", "smallest_ns", "smallest_instructions"),
    ("plaintext", "plaintext_ns", "plaintext_instructions"),
    ("api", "api_ns", "api_instructions"),
    ("browser", "browser_ns", "browser_instructions"),
];
/// Rounds of the two counted runs: what the program does besides is in both.
const FEW: u64 = 1_000;
const MANY: u64 = 3_000;

/// Measures a parser with each head.
pub fn measure(parser: &str, binaries: &Path, scratch: &Path) -> Result<Figures, Failure> {
    let program = binaries.join(PACKAGE);
    let output = Command::new(&program).arg(parser).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut figures = Figures::new();
    for line in text.lines() {
        let [head, _, nanoseconds] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        let (head, ns, instructions) = HEADS
            .iter()
            .find(|(name, ..)| *name == head)
            .ok_or_else(|| format!("the head {head} is not known here"))?;
        figures.insert(ns, nanoseconds.parse()?);
        let count = |rounds| count(&program, parser, head, rounds, scratch);
        // valgrind does not know SSE4.2's comparisons of texts, which picohttpparser uses.
        if let (Ok(many), Ok(few)) = (count(MANY), count(FEW)) {
            figures.insert(instructions, (many - few) / (MANY - FEW) as f64);
        }
    }
    if figures.len() < HEADS.len() {
        return Err(format!("{PACKAGE} said {:?}", text.trim()).into());
    }
    Ok(figures)
}

fn count(
    program: &Path,
    parser: &str,
    head: &str,
    rounds: u64,
    scratch: &Path,
) -> Result<f64, Failure> {
    let under = counting::callgrind(scratch)?;
    let output = Command::new(&under[0])
        .args(&under[1..])
        .arg(program)
        .args([parser, head, &rounds.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let dump = counting::dumps(scratch)?.pop().ok_or("callgrind wrote nothing")?;
    counting::total(&fs::read_to_string(dump)?)
        .ok_or_else(|| "callgrind's dump has no total".into())
}
