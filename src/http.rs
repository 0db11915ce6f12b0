//! The HTTP listeners. [`server`] accepts and limits connections, [`routes::public`] and [`routes::admin`] hold the
//! tables of routes, [`responses`] turns outcomes into responses, and [`pages`] renders HTML
//! with the texts of [`messages`].

mod accent;
mod address;
pub mod body;
pub mod budget;
pub mod connections;
pub(crate) mod cookies;
pub mod endpoint;
mod forms;
mod framing;
mod handling;
mod head_timer;
mod messages;
mod pages;
pub mod payload;
pub mod responses;
pub mod routes;
pub mod server;
