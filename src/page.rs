//! A linked page, decided purely: when it is read ([`machine`]), how often ([`bucket`]), in which slot it is polled
//! ([`schedule`]), and what of it becomes the object ([`data`]).

pub mod bucket;
pub mod data;
pub mod machine;
pub mod schedule;
