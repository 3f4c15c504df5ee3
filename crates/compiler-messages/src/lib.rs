//! Nothing: the tests beside it hold the compiler's messages about Wharf to what they should say.
