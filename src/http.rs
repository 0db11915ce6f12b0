//! What is answered to requests. [`server`] accepts and limits connections, [`routes`] has what each address does,
//! [`responses`] turns outcomes into responses in one place, and `pages` renders HTML.

mod address;
pub mod body;
pub mod budget;
pub(crate) mod cookies;
pub mod endpoint;
mod forms;
mod framing;
mod pages;
pub mod responses;
pub mod routes;
pub mod server;
