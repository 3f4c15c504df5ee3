//! Builds the targets, each by itself, so that one that does not build leaves the others be.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;
use crate::process::progress;
use crate::report::Report;
use crate::servers::Server;

/// The folder of this workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where cargo puts what it builds here.
pub fn binaries() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent);
    Ok(target.ok_or("the harness was not started by cargo")?.join("release"))
}

/// Builds what the servers need, and returns the packages that do not build: an older build of them
/// is not what is meant.
///
/// One at a time: together, the targets would get the union of the features that each asks of a
/// crate, and ntex with two runtimes is not ntex with one.
pub fn build(servers: &[&Server], report: &mut Report) -> Vec<&'static str> {
    let mut done = Vec::new();
    let mut failed = Vec::new();
    for server in servers {
        let Some(package) = server.package() else { continue };
        if done.contains(&package) {
            continue;
        }
        done.push(package);
        if let Err(error) = build_package(package) {
            report.leave_out(server.name, &error.to_string());
            failed.push(package);
        }
    }
    failed
}

/// Builds one package.
pub fn build_package(package: &str) -> Result<(), Failure> {
    progress(&format!("building {package}"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", package])
        .current_dir(workspace())
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().find(|line| line.starts_with("error"));
    Err(first.unwrap_or("does not build").into())
}
