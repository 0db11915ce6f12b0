//! One link's decisions: when it is read, and how often.

pub mod machine;
pub mod schedule;
pub mod token_bucket;
