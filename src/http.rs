//! What is answered at the doors. [`server`] accepts and limits connections, [`public`] and [`admin`] hold the tables
//! of routes, the other files answer them, and [`answers`] turns outcomes into responses in one place.

mod address;
pub mod admin;
pub mod answers;
pub mod body;
mod callback;
mod deletion;
pub(crate) mod delivery;
pub(crate) mod login;
pub mod public;
pub mod server;
mod status;
mod webhook;
mod wire;

pub use status::{page_json, pages_json, status_json};
