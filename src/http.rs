//! What is answered at the doors. [`server`] accepts and limits connections, [`public`] and [`admin`] hold the tables
//! of routes, the other files answer them, [`answers`] turns outcomes into responses in one place, and `pages` renders HTML.

mod address;
pub mod admin;
pub mod answers;
pub mod body;
mod callback;
pub(crate) mod cookies;
mod deletion;
pub(crate) mod delivery;
mod login;
mod pages;
pub mod public;
mod report;
mod result;
pub mod server;
mod status;
mod webhook;
mod wire;

pub use status::{page_json, pages_json, status_json};
