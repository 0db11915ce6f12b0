//! The store: what the daemon must not forget.

pub mod seal;
