//! The page on which a merchant installs the app, with a note that it is a sandbox.
//!
//! A browser gets a form; a test posts `decision=install` or `decision=cancel` to the same address, with the same query.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use url::form_urlencoded;

use super::handle::{ShopAnswer, ShopAsk, Shopify};
use crate::core::model::WallTime;
use crate::sandbox::graph::dialog::escape;

const STYLE: &str = include_str!("../graph/dialog.css");

pub(super) fn answer(shopify: &Shopify, ask: &ShopAsk<'_>) -> ShopAnswer {
    let redirect = ask.param("redirect_uri").unwrap_or_default();
    let (known_client, known_address) = shopify.look(|state| {
        (ask.param("client_id").as_ref() == Some(&state.client_id), state.redirect_uris.contains(&redirect))
    });
    if !known_client || !known_address {
        let words = if known_client {
            "Oauth error invalid_request: The redirect_uri is not whitelisted"
        } else {
            "Oauth error invalid_request: Could not find Shopify API application with api_key"
        };
        return ShopAnswer::html(400, frame("Something is wrong", &format!("<p>{}</p>", escape(words))));
    }
    if ask.head.method != http::Method::POST {
        return form(ask);
    }
    if ask.param("decision").as_deref() != Some("install") {
        return ShopAnswer::redirect(callback(shopify, ask, &redirect, None));
    }
    let scopes = ask.param("scope").unwrap_or_default();
    let code = shopify.change(|state| {
        let code = state.mint("code");
        if let Some(shop) = state.shops.get_mut(&ask.shop) {
            shop.app.codes.insert(code.clone());
            shop.app.installed = true;
            shop.app.scopes =
                scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        }
        code
    });
    ShopAnswer::redirect(callback(shopify, ask, &redirect, Some(&code)))
}

/// The address that the browser goes back to, signed.
fn callback(shopify: &Shopify, ask: &ShopAsk<'_>, redirect: &str, code: Option<&str>) -> String {
    let mut pairs = vec![
        ("host".to_owned(), "YWRtaW4uc2hvcGlmeS5jb20vc3RvcmUvc2FuZGJveA".to_owned()),
        ("shop".to_owned(), ask.shop.to_string()),
        ("timestamp".to_owned(), (WallTime::now().0 / 1000).to_string()),
    ];
    pairs.extend(code.map(|code| ("code".to_owned(), code.to_owned())));
    pairs.extend(ask.param("state").map(|state| ("state".to_owned(), state)));
    let hmac = shopify.sign_query(&pairs);
    pairs.push(("hmac".to_owned(), hmac));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{redirect}?{query}")
}

impl Shopify {
    /// The `hmac` of a query with these parameters, whose values need no encoding.
    pub fn sign_query(&self, pairs: &[(String, String)]) -> String {
        let mut pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.sort();
        let secret = self.look(|state| state.client_secret.clone());
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
        let tag = mac.map(|mac| mac.chain_update(pairs.join("&")).finalize().into_bytes().to_vec());
        hex::encode(tag.unwrap_or_default())
    }
}

fn form(ask: &ShopAsk<'_>) -> ShopAnswer {
    let action = format!("?{}", ask.head.uri.query().unwrap_or_default());
    let scopes = ask.param("scope").unwrap_or_default();
    let scopes: String = scopes.split(',').map(|scope| format!("<li>{}</li>", escape(scope.trim()))).collect();
    let body = format!(
        "<p class=lead>Install the app on <b>{shop}</b>?</p><p>It will be able to:</p><ul>{scopes}</ul>\
         <form method=post action=\"{action}\"><div class=foot>\
         <button name=decision value=cancel id=cancel>Cancel</button>\
         <button name=decision value=install id=install class=main>Install app</button></div></form>",
        shop = escape(ask.shop.as_str()),
        action = escape(&action),
    );
    ShopAnswer::html(200, frame("Install app", &body))
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title} - sandbox</title><link rel=icon href=\"data:,\"><style>{STYLE}</style></head><body><main>\
         <header><span class=mark>s</span><span>{title}</span><em>sandbox</em></header>{body}\
         <p class=note>This is not Shopify. It is the local world of the pagesyncd sandbox: nothing here leaves this \
         machine.</p></main></body></html>",
        title = escape(title),
    )
}
