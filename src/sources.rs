//! Where the data of objects comes from, one module for each source.

pub mod facebook;
