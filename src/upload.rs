//! Writing to Spaces, decided purely: which object next, and when again after a failure.

pub mod queue;
