//! The completion port under Wharf.
