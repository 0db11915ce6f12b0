//! The configuration of the app at Shopify, as `shopify app deploy` takes it. Pure.
//!
//! Shopify never deletes subscriptions that stand there, and the privacy topics can stand nowhere else.

use toml::Value;

use super::webhooks::TOPICS;

/// Topics that every app in the App Store must take.
const COMPLIANCE_TOPICS: [&str; 3] = ["customers/data_request", "customers/redact", "shop/redact"];

/// What the configuration says of this daemon.
#[derive(Debug, Clone, Copy)]
pub struct App<'a> {
    /// The client id.
    pub client_id: &'a str,
    /// `YYYY-MM`
    pub api_version: &'a str,
    /// Access scopes that the app needs.
    pub scopes: &'a [String],
    /// Where an installation begins.
    pub install_url: &'a str,
    /// Where the authorize page sends the browser back to.
    pub redirect_url: &'a str,
    /// Where webhooks go.
    pub webhook_url: &'a str,
    /// The subscriptions stand in this file; otherwise the daemon makes those that it can make.
    pub subscribes: bool,
}

/// The file.
pub fn app_toml(app: &App<'_>) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let list =
        |texts: &[&str]| Value::from(texts.iter().map(|text| Value::from(*text)).collect::<Vec<_>>()).to_string();
    let uri = text(app.webhook_url);
    let mut file = format!(
        "client_id = {client_id}\napplication_url = {install}\nembedded = false\n\n\
         [access_scopes]\nscopes = {scopes}\n\n\
         [auth]\nredirect_urls = {redirects}\n\n\
         [webhooks]\napi_version = {version}\n",
        client_id = text(app.client_id),
        install = text(app.install_url),
        scopes = text(&app.scopes.join(",")),
        redirects = list(&[app.redirect_url]),
        version = text(app.api_version),
    );
    if app.subscribes {
        file.push_str(&format!("\n[[webhooks.subscriptions]]\ntopics = {}\nuri = {uri}\n", list(&TOPICS)));
    }
    let compliance = list(&COMPLIANCE_TOPICS);
    file.push_str(&format!("\n[[webhooks.subscriptions]]\ncompliance_topics = {compliance}\nuri = {uri}\n"));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_the_daemon_and_every_topic() {
        let scopes = ["read_products".to_owned(), "read_content".to_owned()];
        let mut app = App {
            client_id: "abc",
            api_version: "2026-10",
            scopes: &scopes,
            install_url: "https://pages.example.com/shopify/install",
            redirect_url: "https://pages.example.com/shopify/callback",
            webhook_url: "https://pages.example.com/shopify/webhook",
            subscribes: true,
        };
        let table: toml::Table = app_toml(&app).parse().unwrap();
        assert_eq!(table["client_id"].as_str(), Some("abc"));
        assert_eq!(table["application_url"].as_str(), Some(app.install_url));
        assert_eq!(table["embedded"].as_bool(), Some(false));
        assert_eq!(table["access_scopes"]["scopes"].as_str(), Some("read_products,read_content"));
        assert_eq!(table["auth"]["redirect_urls"][0].as_str(), Some(app.redirect_url));
        let of = |table: &toml::Table| table["webhooks"]["subscriptions"].as_array().unwrap().clone();
        let [topics, compliance] = &of(&table)[..] else { panic!("two kinds of subscriptions") };
        assert_eq!(topics["topics"].as_array().unwrap().len(), TOPICS.len());
        assert_eq!(compliance["compliance_topics"].as_array().unwrap().len(), 3);
        assert!([topics, compliance].iter().all(|block| block["uri"].as_str() == Some(app.webhook_url)));
        app.subscribes = false;
        let table: toml::Table = app_toml(&app).parse().unwrap();
        assert_eq!(of(&table).len(), 1, "the privacy topics can stand nowhere else");
    }
}
