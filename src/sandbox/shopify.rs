//! The local Shopify: shops with their authorize pages, token endpoints, Admin APIs and webhooks.
//!
//! It stands beside the local Facebook and has its own state. A request's path begins with the name of the shop, so that
//! `shopify.api_url` is `http://127.0.0.1:PORT/{shop}`. GraphQL is answered by the name of the
//! operation; there is no GraphQL engine here.
//!
//! Tokens behave as Shopify's do: an access token lives an hour, a refresh token works once and brings the same answer
//! again for a short time, and a new grant ends the pair before it. The files of bulk operations lie on a host of their
//! own.

mod authorize;
mod bulk;
pub mod catalogue;
mod catalogue_queries;
mod edits;
mod fault;
mod graphql;
mod handle;
mod operation;
mod selection;
pub mod state;
mod tokens;
mod webhook;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures_util::future::OptionFuture;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::json;

use self::handle::{ShopAnswer, ShopAsk};
use super::wire::{self, Body, Broken, Face, Handler, collect, full};
use crate::core::model::WallTime;

pub use self::fault::{ShopFault, UnknownShopFault};
pub use self::handle::{HeldUp, Hold, Shopify};
pub use self::webhook::ShopTopic;

const BODY_LIMIT: usize = 4 << 20;
/// The host of the files of bulk operations.
const FILE_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Shopify {
    /// Listens: the shops, and the host of the files.
    pub(crate) async fn listen(&self, at: SocketAddr) -> io::Result<[Face; 2]> {
        let watched = self.clone();
        let gate: wire::Gate = Arc::new(move || !watched.has(ShopFault::Refused));
        let api = Face::start(at, self.clone().handler(), gate.clone(), self.watch_faults()).await?;
        let start =
            |host: IpAddr| Face::start((host, 0).into(), self.clone().files(), gate.clone(), self.watch_faults());
        let files = match start(FILE_HOST.into()).await {
            // Not every system has more than one loopback address. Another port is another host, too.
            Err(_) => start(at.ip()).await?,
            Ok(files) => files,
        };
        self.set_addrs(api.addr, files.addr);
        Ok([api, files])
    }

    fn files(self) -> Handler {
        Arc::new(move |request| {
            let shopify = self.clone();
            Box::pin(async move { shopify.file(&request.into_parts().0) })
        })
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
        let (before, behind) = match self.hold_of(&head, &body) {
            Some((HeldUp::Before, hold)) => (Some(hold), None),
            Some((HeldUp::Behind, hold)) => (None, Some(hold)),
            None => (None, None),
        };
        // Each ends when the other end is dropped.
        let _ = OptionFuture::from(before).await;
        let answer = self.route(&head, &body);
        let _ = OptionFuture::from(behind).await;
        let answer = match answer {
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
