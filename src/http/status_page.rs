//! The status page: one document and its parts, all of them in the program. The routes serve it to operators, and the
//! sandbox's console serves the same parts with the world around them.
//!
//! The page reads and changes nothing. Its scripts ask `/v1/links`, `/v1/links/{source}/{id}` and `/v1/events` of the
//! address that it came from. Without scripts it is a summary.

use maud::{Markup, html};
use serde_json::Value;

use crate::core::health;

/// The policy of the page and its parts: nothing from elsewhere, and no script or style in the document.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' \
                          data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

const PAGE: &str = include_str!("status_page/page.html");
const VIEWS: &str = include_str!("status_page/views.html");
const SECTIONS: &str = include_str!("status_page/sections.html");
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
/// The parts by their names below `/assets/`.
const ASSETS: [(&str, &str, &str); 13] = [
    ("page.css", CSS, include_str!("status_page/page.css")),
    ("base.js", JS, include_str!("status_page/base.js")),
    ("detail.js", JS, include_str!("status_page/detail.js")),
    ("links.js", JS, include_str!("status_page/links.js")),
    ("overview.js", JS, include_str!("status_page/overview.js")),
    ("page.js", JS, include_str!("status_page/page.js")),
    ("paging.js", JS, include_str!("status_page/paging.js")),
    ("pending.js", JS, include_str!("status_page/pending.js")),
    ("recent.js", JS, include_str!("status_page/recent.js")),
    ("status.js", JS, include_str!("status_page/status.js")),
    ("views.js", JS, include_str!("status_page/views.js")),
    ("waiting.js", JS, include_str!("status_page/waiting.js")),
    ("why.js", JS, include_str!("status_page/why.js")),
];

/// The content type and the text of a part.
pub fn asset(name: &str) -> Option<(&'static str, &'static str)> {
    ASSETS.iter().find(|(known, ..)| *known == name).map(|(_, content_type, text)| (*content_type, *text))
}

/// A document with the tabs and the sections of the page filled in.
pub fn with_sections(document: &str) -> String {
    let option = |word: &&str| format!("<option value=\"{word}\">{}</option>", word.replace('_', " "));
    let healths: String = health::WORDS.iter().map(option).collect();
    let sections = SECTIONS.replace("{{healths}}", &healths);
    document.replace("{{views}}", VIEWS).replace("{{sections}}", &sections)
}

/// The whole page. `status` is the document of `/v1/status`.
pub fn document(status: &Value) -> String {
    with_sections(PAGE).replace("{{summary}}", &summary(status).into_string())
}

/// The figures, for a browser without scripts.
fn summary(status: &Value) -> Markup {
    let figure = |pointer: &str| match status.pointer(pointer) {
        None | Some(Value::Null) => "unknown".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let works = |pointer: &str| match status.pointer(pointer).and_then(Value::as_bool) {
        Some(true) => "works".to_owned(),
        Some(false) => format!("fails: {}", figure(&pointer.replace("/ok", "/error"))),
        None => "not used yet".to_owned(),
    };
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let healths = status["health"].as_object().into_iter().flatten();
    let healths: Vec<String> = healths.map(|(word, count)| format!("{} {count}", word.replace('_', " "))).collect();
    let rows = [
        ("Version", figure("/version")),
        ("Links", figure("/links")),
        ("By health", healths.join(", ")),
        ("Pending reads", figure("/due")),
        ("Reads that wait for a person", figure("/due_parked")),
        ("Pending writes", figure("/outbox")),
        ("Oldest pending, in seconds", figure("/oldest_owed_seconds")),
        ("Store", works("/store/ok")),
        ("Graph", works("/graph/health/ok")),
        ("Spaces", works("/spaces/ok")),
    ];
    html! {
        noscript {
            section.card.summary {
                p { "Without scripts this page is a summary of the moment at which it was loaded. "
                    code { "pagesyncd links" } " lists the links." }
                @for problem in status["problems"].as_array().into_iter().flatten() {
                    p { b { (text(problem, "severity")) ": " } (text(problem, "message")) ". " (text(problem, "remedy")) }
                }
                table {
                    @for (name, value) in rows { tr { td { (name) } td { (value) } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_is_filled_in_and_escapes_what_it_is_given() {
        let status = json!({"version": "1.2", "links": 7, "health": {"needs_relink": 3}, "due": null,
                            "spaces": {"ok": false, "error": "<b>refused</b>"}});
        let page = document(&status);
        assert!(!page.contains("{{"), "{page}");
        for wanted in ["needs relink 3", "fails: &lt;b&gt;refused&lt;/b&gt;", "id=\"link-rows\"", "id=\"tab-waiting\""]
        {
            assert!(page.contains(wanted), "{wanted} is missing");
        }
        for word in health::WORDS {
            assert!(page.contains(&format!("<option value=\"{word}\">")), "{word}");
        }
        // The policy lets no script and no style of the document run.
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("<script>"), "{page}");
    }

    #[test]
    fn every_part_that_a_script_asks_for_is_there() {
        for (name, content_type, text) in ASSETS {
            let imported = text.split(" from '").skip(1).filter_map(|rest| rest.split('\'').next());
            for part in imported {
                let part = part.trim_start_matches("./").trim_start_matches("/assets/");
                assert!(asset(part).is_some(), "{name} imports {part}");
            }
            assert_eq!(content_type == CSS, name.ends_with(".css"));
        }
        assert!(asset("../Cargo.toml").is_none() && asset("").is_none());
        assert!(PAGE.contains("/assets/page.css") && PAGE.contains("/assets/page.js"));
    }
}
