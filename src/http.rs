//! The HTTP listeners. [`server`] accepts and limits connections, [`routes::public`] and [`routes::admin`] hold the
//! tables of routes, [`responses`] turns outcomes into responses, [`pages`] renders HTML
//! with the texts of [`messages`], and [`status_page`] has the page for operators.

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
pub mod loopback;
mod messages;
mod pages;
pub mod payload;
pub mod responses;
pub mod routes;
pub mod server;
pub mod status_page;
