//! Looks for barriers in the page that a browser shows, with axe-core (`axe/README.md`).

use serde_json::{Value, json};

use super::webdriver::Browser;

const ENGINE: &str = include_str!("axe/axe.min.js");
/// Gives each violation as a text: its rule, and the elements that break it. The rules are those of WCAG 2.0 to 2.2,
/// levels A and AA, and the engine's own best practices.
const RUN: &str = "return axe.run(document, {resultTypes: ['violations']}).then(result => result.violations.map(one => \
                   `${one.id}: ${one.help}: ${one.nodes.slice(0, 4).map(node => node.target + ' ' + node.html.slice(0, 120) + ' ' + node.failureSummary).join(' | ')}`))";

/// The page has no barrier that the engine finds.
pub(super) async fn has_no_barrier(browser: &Browser, scene: &str) {
    if browser.run("return typeof axe === 'undefined'").await == true {
        browser.run(ENGINE).await;
    }
    let found: Value = browser.run(RUN).await;
    assert_eq!(found, json!([]), "{scene}");
}
