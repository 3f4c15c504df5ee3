//! What it takes to build a library and all that it needs from cold, as a program that depends on
//! it does: `cargo build` of an empty program, in the development profile, on two cores.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use crate::Failure;
use crate::building::workspace;
use crate::figures::{Figures, key};
use crate::process::TICKS_PER_SECOND;

/// The names of what is built, and what the program says that it depends on.
pub const SUBJECTS: [(&str, &str); 5] = [
    ("wharf", "wharf = { path = \"WHARF\" }"),
    ("wharf-bare", "wharf = { path = \"WHARF\", default-features = false }"),
    // The least with which hyper serves.
    (
        "hyper",
        "hyper = { version = \"1\", features = [\"http1\", \"server\"] }\n\
         http-body-util = \"0.1\"\n\
         hyper-util = { version = \"0.1\", features = [\"tokio\"] }\n\
         tokio = { version = \"1\", features = [\"net\", \"rt\"] }",
    ),
    // All that it has for servers: both protocols, and a drain on a signal over several threads.
    (
        "hyper-server",
        "hyper = { version = \"1\", features = [\"http1\", \"http2\", \"server\"] }\n\
         http-body-util = \"0.1\"\n\
         hyper-util = { version = \"0.1\", features = [\"server-auto\", \"server-graceful\", \
         \"service\", \"tokio\"] }\n\
         tokio = { version = \"1\", features = [\"macros\", \"net\", \"rt-multi-thread\", \"signal\"] }",
    ),
    // As its guide begins.
    (
        "hyper-guide",
        "hyper = { version = \"1\", features = [\"full\"] }\n\
         http-body-util = \"0.1\"\n\
         hyper-util = { version = \"0.1\", features = [\"full\"] }\n\
         tokio = { version = \"1\", features = [\"full\"] }",
    ),
];

/// Builds one of the [`SUBJECTS`] from cold, on these cores.
pub fn measure(name: &str, cores: [usize; 2], scratch: &Path) -> Result<Figures, Failure> {
    let folder = scratch.join("cold").join(name);
    if !folder.is_dir() {
        write(name, &folder)?;
        run(Command::new(cargo()).arg("fetch").current_dir(&folder))?;
    }
    let tree = ["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    let tree = run(Command::new(cargo()).args(tree).current_dir(&folder))?;
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    let mut crates: Vec<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    crates.sort_unstable();
    crates.dedup();
    let target = folder.join("target");
    if target.is_dir() {
        fs::remove_dir_all(&target)?;
    }
    let (before, began) = (children_cpu()?, Instant::now());
    // Crates of a registry are built without incremental state; so are those of a path here.
    run(Command::new("taskset")
        .args(["-c", &format!("{},{}", cores[0], cores[1])])
        .arg(cargo())
        .args(["build", "--offline", "--jobs", "2"])
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(&folder))?;
    Ok(Figures::from([
        (key::BUILD_CPU_SECONDS, children_cpu()? - before),
        (key::BUILD_SECONDS, began.elapsed().as_secs_f64()),
        // The empty program is none.
        (key::CRATES, crates.len() as f64 - 1.0),
    ]))
}

/// A program of nothing but dependencies, in the versions that the benches are locked to.
fn write(name: &str, folder: &Path) -> Result<(), Failure> {
    let (_, dependencies) =
        SUBJECTS.iter().find(|(known, _)| *known == name).ok_or("there is no such subject")?;
    let wharf: PathBuf = workspace().join("../crates/wharf").canonicalize()?;
    let dependencies = dependencies.replace("WHARF", &wharf.display().to_string());
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    fs::copy(workspace().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let manifest = format!(
        "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\n{dependencies}\n\n[workspace]\n"
    );
    Ok(fs::write(folder.join("Cargo.toml"), manifest)?)
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn run(command: &mut Command) -> Result<Output, Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output);
    }
    Err(String::from_utf8_lossy(&output.stderr).into())
}

/// CPU time in seconds of all children that have been waited for, theirs included.
fn children_cpu() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').ok_or("/proc/self/stat is not as expected")?;
    // Fields 16 and 17 of proc(5); the first behind the name is field 3.
    let ticks = rest.split_whitespace().skip(13).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
}
