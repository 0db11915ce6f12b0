//! The routes: what each address of the public listener and of the admin listeners does.

pub mod admin;
mod admission;
mod callback;
mod deletion;
mod event_stream;
mod installation;
pub(crate) mod links;
mod listing;
mod log;
mod login;
mod login_report;
mod login_result;
pub mod public;
mod query;
mod self_test;
mod shop_webhook;
mod status;
mod transfer;
mod webhook;
