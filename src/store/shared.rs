//! A store in a PostgreSQL database, which several daemons share.
//!
//! Every daemon has the whole memory, and all decide one after another, each on what the others have decided before
//! ([`committer`]). So the decisions are those of the local store, and nothing in them knows of a database. A table has a
//! row for each record of the trees ([`trees`]), and another one for each transaction, from which the other daemons follow
//! ([`batch`]).
//!
//! The committer knows the database as a [trait](database), which [`postgresql`] answers. [`stepped`] runs the same committer
//! over a [`simulated`] database, for tests in which several daemons live in one process.
//!
//! [`settings`] and [`connect`] lead to a session that is safe to build on, [`schema`] to tables that are this version's,
//! and [`errors`] says what stands in the way of either. [`identity`] tells one database from another, and [`lineage`] does
//! what follows when it has become another one; [`memory`] is what a daemon knows of it after a stop. [`bucket`] holds all
//! daemons to one bucket. [`standing`] and [`namesake`] are questions before a start, and [`probe`]
//! asks all of them without joining. [`loading`] reads what is there, [`opening`] puts the store together, [`life`] says to
//! the others that this daemon lives, and [`roster`] who the others are.

mod batch;
pub mod bucket;
mod committer;
pub mod connect;
mod database;
pub mod errors;
mod identity;
mod life;
mod lineage;
mod loading;
mod memory;
mod namesake;
mod opening;
mod postgresql;
pub mod probe;
mod roster;
pub mod schema;
pub mod settings;
pub(in crate::store) mod simulated;
mod standing;
#[doc(hidden)]
pub mod stepped;
#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests;
pub(in crate::store) mod trees;
