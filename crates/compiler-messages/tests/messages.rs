//! What the compiler says of handlers that are none: it names what is wrong and what would do.
//!
//! The expected words are beside the programs, as the compiler that the continuous integration uses
//! says them. `TRYBUILD=overwrite cargo test -p compiler-messages` writes them anew.

#[test]
fn messages_name_what_is_wrong() {
    trybuild::TestCases::new().compile_fail("tests/programs/*.rs");
}
