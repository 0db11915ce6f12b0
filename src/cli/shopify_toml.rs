//! `shopify-toml`: the configuration of the app at Shopify, made from that of the daemon.

use std::path::Path;

use super::common;
use super::output::line;
use crate::exit::{self, Failure};
use crate::sources::shopify::app_toml::{App, app_toml};

pub(super) fn shopify_toml(path: &Path, as_json: bool) -> Result<(), Failure> {
    let config = common::load(path)?.config;
    let shopify = &config.shopify;
    let Some(client_id) = &shopify.client_id else {
        let hint = "put the client id of the app there, from its settings in the Dev Dashboard";
        return Err(Failure::new(exit::CONFIG, "shopify.client_id is not set".to_owned(), hint));
    };
    let file = app_toml(&App {
        client_id,
        api_version: &shopify.api_version,
        scopes: &shopify.scopes,
        install_url: &format!("{}/shopify/install", config.http.public_url),
        redirect_url: &config.shopify_redirect_uri(),
        webhook_url: &config.shopify_webhook_url(),
        subscribes: shopify.subscribe == "app",
    });
    if as_json { line(format_args!("{:#}", serde_json::json!({ "toml": file }))) } else { line(file.trim_end()) }
}
