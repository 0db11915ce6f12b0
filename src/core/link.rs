//! One link's decisions: when it is read, and how often; when its subscription is repaired and its token checked.

pub mod job;
pub mod machine;
pub mod reads;
pub mod schedule;
pub mod token_bucket;
pub mod upkeep;
