//! Whole messages: the corpus of protocol cases, split invariance, the oracle, and httparse.

mod case;
mod corpus;

mod transcript;
