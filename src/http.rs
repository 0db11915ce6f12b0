//! What is answered at the doors. [`server`] accepts and limits connections, [`public`] and [`admin`] hold the tables
//! of routes, the other files answer them, [`answers`] turns outcomes into responses in one place, and `pages` renders HTML.

mod address;
pub mod body;
pub mod budget;
pub(crate) mod cookies;
mod forms;
mod framing;
mod pages;
pub mod responses;
pub mod routes;
pub mod server;
