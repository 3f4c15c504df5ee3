//! Whole messages: the corpus of protocol cases, the oracle, and httparse.

mod case;
mod corpus;
mod inputs;
mod oracle;
mod properties;
mod transcript;
