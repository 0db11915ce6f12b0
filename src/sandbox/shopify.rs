//! The local Shopify: shops with their authorize pages, token endpoints, Admin APIs and webhooks.
//!
//! It stands beside the local Facebook and has its own state. A request's path begins with the name of the shop, so that
//! `shopify.api_url` is `http://127.0.0.1:PORT/{shop}`. GraphQL is answered by the name of the
//! operation; there is no GraphQL engine here.
//!
//! Tokens behave as Shopify's do: an access token lives an hour, a refresh token works once and brings the same answer
//! again for a short time, and a new grant ends the pair before it.

mod authorize;
mod graphql;
mod handle;
pub mod state;
mod tokens;
mod webhook;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::json;

use self::handle::{ShopAnswer, ShopAsk};
use self::state::ShopFault;
use super::wire::{self, Body, Broken, Face, Handler, collect, full};
use crate::core::model::WallTime;

pub use self::handle::Shopify;
pub use self::webhook::ShopTopic;

const BODY_LIMIT: usize = 4 << 20;

impl Shopify {
    /// Listens.
    pub(crate) async fn listen(&self, at: SocketAddr) -> io::Result<Face> {
        let watched = self.clone();
        let gate: wire::Gate = Arc::new(move || !watched.has(ShopFault::Refused));
        let face = Face::start(at, self.clone().handler(), gate, self.watch_faults()).await?;
        self.set_addr(face.addr);
        Ok(face)
    }

    fn handler(self) -> Handler {
        Arc::new(move |request| {
            let shopify = self.clone();
            Box::pin(async move { shopify.answer(request).await })
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let (head, body) = request.into_parts();
        let Some(body) = collect(body, BODY_LIMIT).await else { return Err(Broken) };
        let answer = match self.route(&head, &body) {
            Some(answer) => answer?,
            None => ShopAnswer::json(404, &json!({"errors": "Not Found"})),
        };
        let version = self.look(|state| state.version.clone());
        let mut response = Response::builder()
            .status(answer.status)
            .header("content-type", answer.content_type)
            .header("x-request-id", format!("{:032x}", WallTime::now().0))
            .header("x-shopify-api-version", version);
        if let Some(location) = answer.location {
            response = response.header("location", location);
        }
        response.body(full(answer.body)).map_err(|_| Broken)
    }

    fn route(&self, head: &Parts, body: &[u8]) -> Option<Result<ShopAnswer, Broken>> {
        let path = head.uri.path().trim_start_matches('/');
        let (shop, path) = path.split_once('/')?;
        let ask = ShopAsk { shop: shop.parse().ok()?, head, body, path };
        if !self.look(|state| state.shops.contains_key(&ask.shop)) {
            return Some(Ok(ShopAnswer::json(404, &json!({"errors": "Not Found"}))));
        }
        match ask.path {
            "admin/oauth/authorize" => Some(Ok(authorize::answer(self, &ask))),
            "admin/oauth/access_token" => Some(tokens::answer(self, &ask)),
            path if path.starts_with("admin/api/") && path.ends_with("/graphql.json") => {
                Some(graphql::answer(self, &ask))
            }
            _ => None,
        }
    }
}
