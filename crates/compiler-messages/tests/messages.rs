//! What the compiler says of handlers that are none: it names what is wrong and what would do.
//!
//! The expected words are beside the programs, as one compiler says them; others are not asked, as
//! each has its own. `TRYBUILD=overwrite cargo test -p compiler-messages` writes them anew.

use std::process::Command;

/// Whose words they are.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn messages_name_what_is_wrong() {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output().expect("cargo has found it");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with(COMPILER) {
        return println!("not run: the words are those of {COMPILER}, and this is {version}");
    }
    trybuild::TestCases::new().compile_fail("tests/programs/*.rs");
}
