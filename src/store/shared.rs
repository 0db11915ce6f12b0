//! A store in a PostgreSQL database, which several daemons share.
//!
//! [`settings`] and [`connect`] lead to a session that is safe to build on, [`schema`] to tables that are this version's,
//! and [`errors`] says what stands in the way of either.

pub mod connect;
pub mod errors;
pub mod schema;
pub mod settings;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests;
