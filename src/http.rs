//! What the listeners answer. [`server`] accepts and limits connections, [`routes::public`] and [`routes::admin`] hold
//! the tables of routes, the other files below [`routes`] answer them, [`responses`] turns outcomes into responses in one
//! file, and `pages` renders HTML.

mod address;
pub mod body;
pub mod budget;
pub mod connections;
pub(crate) mod cookies;
mod forms;
mod framing;
mod pages;
pub mod responses;
pub mod routes;
pub mod server;
