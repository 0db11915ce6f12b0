//! HTML pages: one layout, and the dead ends of a login.
//!
//! A page is written with maud, which escapes all text that is put into it. The policy of a page allows its own style
//! and, where there is one, its own script, both by their hashes; nothing is loaded from elsewhere.
//!
//! A page is in the language that the browser asks for; the texts are in [`super::messages`].
//!
//! A dead end is an answer for both kinds of client: a page for a person, with the way to a new start, or JSON.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::accent::Accent;
use super::messages::language::Language;
use super::responses;
use super::server::Answer;
use crate::config::Http;
use crate::store::Unavailable;

const STYLE: &str = include_str!("pages.css");
/// Puts the page's own address in place of the callback's, and fetches the page again while a login is under way.
const SCRIPT: &str = include_str!("pages.js");

/// A page.
pub(super) struct Page<'a> {
    pub status: StatusCode,
    pub title: Markup,
    /// An address under which the page can be fetched again.
    pub address: Option<&'a str>,
    /// The page is not complete: it fetches itself from there.
    pub under_way: bool,
    /// How things stand in one sentence; read out when it changes.
    pub standing: Option<Markup>,
    pub body: Markup,
}

/// The form of an answer, HTML or JSON, its language, and the way back to the platform.
pub(super) struct Site<'a> {
    html: bool,
    /// The language of a page. JSON is in English.
    pub language: Language,
    http: &'a Http,
}

/// Where a login ends without a result.
pub(super) struct DeadEnd<'a> {
    pub status: StatusCode,
    /// `error.code`.
    pub code: &'a str,
    /// `error.message`, for programs and operators.
    pub message: &'a str,
    pub title: Markup,
    /// The message to the person.
    pub words: Markup,
    pub way: Way,
}

/// The way on from a dead end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// This browser can start the login again.
    StartAgain,
    /// Only the platform has a way in: a new login link.
    NewLink,
    /// The same address works in a while.
    Reload,
}

impl<'a> Page<'a> {
    /// A page without an address of its own.
    pub(super) fn complete(status: StatusCode, title: Markup, body: Markup) -> Self {
        Page { status, title, address: None, under_way: false, standing: None, body }
    }
}

impl<'a> Site<'a> {
    pub(super) fn new(http: &'a Http, headers: &HeaderMap) -> Self {
        Site { html: responses::wants_html(headers), language: Language::preferred(headers), http }
    }

    /// For an address that has no JSON.
    pub(super) fn html_only(http: &'a Http, headers: &HeaderMap) -> Self {
        Site { html: true, ..Site::new(http, headers) }
    }

    /// Does the client want HTML?
    pub(super) fn wants_page(&self) -> bool {
        self.html
    }

    /// The platform's name. Texts have another wording where it has none.
    pub(super) fn platform(&self) -> Option<&'a str> {
        self.http.platform_name.as_deref()
    }

    /// `at Fern`, with a space before it, or nothing.
    pub(super) fn at_platform(&self) -> Markup {
        html! { @if let Some(name) = self.platform() { (self.language.at_platform(name)) } }
    }

    /// Where a login starts.
    pub(super) fn login_url(&self, rerequest: bool) -> String {
        let query = if rerequest { "?rerequest=1" } else { "" };
        format!("{}/facebook/login{query}", self.http.public_url)
    }

    /// The way back to the platform, as the page's main button or beside another one.
    pub(super) fn way_back(&self, main: bool) -> Markup {
        let label = self.platform().map_or_else(|| self.language.go_back(), |name| self.language.back_to(name));
        html! {
            @if let Some(url) = &self.http.return_url {
                a.button[main].quiet[!main] href=(url) rel="noreferrer" { (label) }
            }
        }
    }

    /// A page, whatever the client asked for.
    pub(super) fn page(&self, page: Page<'_>) -> Answer {
        let Page { status, title, address, under_way, standing, body } = page;
        let (platform, language) = (self.platform(), self.language.tag());
        let accent = self.http.accent_color.as_deref().and_then(Accent::parse);
        let style = accent.map_or_else(|| STYLE.to_owned(), |accent| format!("{STYLE}{}", accent.style()));
        let whole = html! {
            (DOCTYPE)
            html lang=(language) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    @if let Some(url) = address.filter(|_| under_way) {
                        noscript { meta http-equiv="refresh" content={ "3;url=" (url) }; }
                    }
                    title { (title) @if let Some(name) = platform { " · " (name) } }
                    style { (PreEscaped(&style)) }
                }
                body {
                    main data-at=[address] data-refresh[under_way] {
                        @if let Some(name) = platform { p.platform { bdi { (name) } } }
                        h1 { (title) }
                        p #standing role="status" { @if let Some(standing) = standing { (standing) } }
                        div #rest { (body) }
                    }
                    @if address.is_some() { script { (PreEscaped(SCRIPT)) } }
                }
            }
        };
        let mut answer = responses::html(status, whole.into_string());
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, policy(&style, address.is_some()));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Language"));
        answer
    }

    /// A dead end, as a page or as JSON.
    pub(super) fn dead_end(&self, end: DeadEnd<'_>) -> Answer {
        let DeadEnd { status, code, message, title, words, way } = end;
        let (return_url, language) = (self.http.return_url.as_deref(), self.language);
        if self.html {
            let body = html! {
                p { (words) }
                @match way {
                    Way::StartAgain => div.ways {
                        a.button href=(self.login_url(false)) { (language.start_again()) } (self.way_back(false))
                    },
                    Way::Reload => div.ways { a.button href="" { (language.try_again()) } (self.way_back(false)) },
                    Way::NewLink => {
                        p { (self.way_to_a_link()) }
                        div.ways { (self.way_back(true)) }
                    }
                }
            };
            return self.page(Page::complete(status, title, body));
        }
        let mut error = json!({"code": code, "message": message});
        if way == Way::StartAgain {
            error["login_url"] = self.login_url(false).into();
        }
        if let Some(url) = return_url {
            error["return_url"] = url.into();
        }
        responses::json(status, &json!({"error": error}))
    }

    /// Where the person gets a new login link.
    fn way_to_a_link(&self) -> Markup {
        match (self.platform(), self.http.return_url.is_some()) {
            (Some(name), true) => self.language.go_back_for_a_link(name),
            (Some(name), false) => self.language.ask_for_a_link(name),
            (None, true) => self.language.go_back_to_the_site_for_a_link(),
            (None, false) => self.language.ask_the_site_for_a_link(),
        }
    }

    /// The store cannot keep a login at the moment.
    pub(super) fn unavailable(&self, error: &Unavailable, way: Way) -> Answer {
        const AFTER: u32 = 30;
        tracing::warn!(%error, "login: refused, the store is not available; the person may try again in {AFTER} s");
        if !self.html {
            return responses::unavailable("the login cannot be kept at the moment; try again in a minute", AFTER);
        }
        let mut answer = self.dead_end(DeadEnd {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "unavailable",
            message: "",
            title: self.language.title_in_a_minute(),
            words: self.language.login_not_kept(),
            way,
        });
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(AFTER));
        answer
    }

    /// This browser has no session. Without one only the platform has a way in.
    pub(super) fn no_session(&self) -> Answer {
        self.dead_end(DeadEnd {
            status: StatusCode::BAD_REQUEST,
            code: "no_session",
            message: "this browser has no session here; open the login link that the platform gave you, or ask for a \
                      new one",
            title: self.language.title_no_session(),
            words: match self.platform() {
                Some(name) => self.language.begins_with_a_link(name),
                None => self.language.begins_with_a_link_of_the_site(),
            },
            way: Way::NewLink,
        })
    }
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

fn policy(style: &str, with_script: bool) -> HeaderValue {
    let (style, script) = (hash(style), if with_script { SCRIPT_SOURCES.as_str() } else { "" });
    let text = format!("default-src 'none'; style-src {style}; {script}base-uri 'none'; frame-ancestors 'none'");
    // Base64 and fixed words are fit for a header.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

/// The part of a policy that lets the script run and fetch the page.
static SCRIPT_SOURCES: LazyLock<String> =
    LazyLock::new(|| format!("script-src {}; connect-src 'self'; ", hash(SCRIPT)));

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, as WCAG 2 defines it.
    fn luminance(colour: &str) -> f64 {
        let digits = colour.trim_start_matches('#');
        let wide = if digits.len() == 3 { digits.chars().flat_map(|c| [c, c]).collect() } else { digits.to_owned() };
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&wide[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn all_text_can_be_read_in_both_schemes() {
        assert!((contrast("#fff", "#000") - 21.0).abs() < 1e-9);
        let schemes: Vec<&str> = STYLE.match_indices(":root{").map(|(at, _)| &STYLE[at..]).collect();
        assert_eq!(schemes.len(), 2, "light and dark");
        for scheme in schemes {
            let colour = |name: &str| {
                let (_, rest) = scheme.split_once(&format!("--{name}:")).unwrap_or_else(|| panic!("no {name}"));
                rest.split([';', '}']).next().unwrap().trim()
            };
            for name in ["ink", "soft", "good", "bad", "go"] {
                for background in ["card", "note"] {
                    let ratio = contrast(colour(name), colour(background));
                    assert!(ratio >= 4.5, "{name} on {background}: {ratio:.2}");
                }
            }
            let button = contrast(colour("on-go"), colour("go"));
            assert!(button >= 4.5, "the text of a button: {button:.2}");
        }
    }

    #[test]
    fn text_is_escaped_and_the_policy_names_what_the_page_holds() {
        let http = crate::config::Config::load_text(
            std::path::Path::new("config.toml"),
            include_str!("../../fuzz/corpus/config_text/least"),
            &|_| None,
        );
        let mut http = http.expect("the least that a configuration needs").config.http;
        http.platform_name = Some("<b>Fern</b>".to_owned());
        http.return_url = Some("https://fern.example/?a=1&b=\"2\"".to_owned());
        http.accent_color = Some("#FFD400".to_owned());
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static("fr-CH, en;q=0.5"));
        let site = Site::new(&http, &headers);
        let page = Page {
            status: StatusCode::OK,
            title: html! { "A <title>" },
            address: Some("/x?\"y"),
            under_way: true,
            standing: None,
            body: html! { (site.way_back(true)) },
        };
        let answer = site.page(page);
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert_eq!(answer.headers()[header::CONTENT_LANGUAGE], "fr");
        assert_eq!(answer.headers()[header::VARY], "Accept-Language");
        let text = String::from_utf8(answer.into_body().into_bytes().unwrap_or_default().to_vec()).unwrap();
        assert!(!text.contains("<b>Fern") && !text.contains("A <title>") && !text.contains("\"y\""), "{text}");
        assert!(text.contains("href=\"https://fern.example/?a=1&amp;b=&quot;2&quot;\""), "{text}");
        let between = |tag: &str| {
            let start = text.find(&format!("<{tag}>")).unwrap() + tag.len() + 2;
            &text[start..text[start..].find(&format!("</{tag}>")).unwrap() + start]
        };
        assert!(policy.contains(&hash(between("style"))) && policy.contains(&hash(between("script"))), "{policy}");
        assert!(!policy.contains("unsafe"));
        assert!(text.contains("<html lang=\"fr\">") && text.contains("Revenir à &lt;b&gt;Fern&lt;/b&gt;"), "{text}");
        assert!(between("style").contains("--accent:#ffd400;--on-accent:#000000"), "{text}");
    }
}
