//! The actions of persons and the changes to pages: their effect and the moment at which pagesyncd finds out, shown
//! before the button is pressed. Also the settings of this daemon that differ from production.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::default_of;
use crate::sandbox::DaemonSetup;

fn act(action: &str, title: &str, does: &str, when: &str) -> Value {
    json!({"action": action, "title": title, "does": does, "when": when})
}

fn time(span: Duration) -> String {
    humantime::format_duration(span).to_string().replace(' ', "")
}

/// The acts of a person.
pub(super) fn of_persons(setup: Option<&DaemonSetup>) -> Vec<Value> {
    let poll = setup.map_or_else(|| "the poll".to_owned(), |s| format!("the poll (every {})", time(s.poll_interval)));
    let found = format!(
        "pagesyncd finds out when it next reads a page: after a webhook, at {poll}, or with “Read again”. Then the \
         links wait for a new login."
    );
    vec![
        act("change_password", "Changes the password", "All tokens of the person end. Webhooks go on.", &found),
        act("expire_tokens", "Tokens expire", "All tokens of the person end, as after sixty days.", &found),
        act(
            "expire_soon",
            "Tokens get an end date in ten days",
            "Nothing stops before that date.",
            "pagesyncd sees the date at its daily look at each token, or with “Read again”. Then the links show as \
             expiring.",
        ),
        act(
            "checkpoint",
            "Held at a checkpoint",
            "Facebook refuses all tokens until the person confirms something there.",
            &found,
        ),
        act(
            "remove_permission",
            "Takes back a permission",
            "pages_read_engagement is gone: the tokens live, reads are refused.",
            "Facebook sends a webhook at once. pagesyncd looks at the tokens within seconds, and the links wait for a \
             new login.",
        ),
        act(
            "remove_app",
            "Removes the app",
            "All tokens end, the pages are unsubscribed, and Facebook calls /facebook/deauthorize.",
            "At once: the links wait for a new login. The objects stay in Spaces.",
        ),
        act(
            "delete_data",
            "Asks for deletion",
            "Removes the app, and Facebook calls /facebook/data-deletion.",
            "At once: links and tokens are gone. Each object is deleted as soon as Spaces answers.",
        ),
    ]
}

/// The changes to a page.
pub(super) fn of_pages(setup: Option<&DaemonSetup>) -> Vec<Value> {
    let poll =
        setup.map_or_else(|| "the next poll".to_owned(), |s| format!("the poll, every {}", time(s.poll_interval)));
    let read = "pagesyncd finds out at its next read, and the links wait for a person.";
    let compared = format!("pagesyncd compares at {poll}, and writes the object anew.");
    vec![
        act(
            "sync",
            "Read again (sync)",
            "pagesyncd reads the page and looks at its token.",
            "At once, as `pagesyncd sync` does.",
        ),
        act("alter_objects", "Alter the object in Spaces", "Somebody else writes over it.", &compared),
        act("delete_objects", "Delete the object in Spaces", "Somebody else deletes it.", &compared),
        act(
            "drop_subscription",
            "Forget its subscription",
            "Facebook sends no webhooks for the page any more, and does not say so.",
            &format!("pagesyncd makes the subscription again at {poll}, or with “Read again”."),
        ),
        act(
            "untick",
            "Untick the page",
            "As in a later login without this page: its tokens end.",
            "Facebook sends a webhook at once. pagesyncd looks at the tokens within seconds, and the links wait for a \
             new login.",
        ),
        act("lose_role", "Everyone loses the role", "All tokens for the page end.", read),
        act("delete", "Delete the page", "Facebook answers that there is no such page.", read),
        act(
            "restore",
            "Restore the page",
            "The page is back, as Facebook allows for a while.",
            "Links that were parked stay parked until the person logs in again.",
        ),
    ]
}

/// The settings that are not as in production, each with the value here, the default, and why.
pub(super) fn differences(setup: Option<&DaemonSetup>) -> Vec<Value> {
    let Some(setup) = setup else { return Vec::new() };
    let rows = [
        ("sync.debounce", time(setup.debounce), "so that an edit shows soon"),
        ("sync.burst", setup.burst.to_string(), "so that you can edit one page many times in a row"),
        ("sync.refill", time(setup.refill), "so that you can edit one page many times in a row"),
        ("sync.poll_interval", time(setup.poll_interval), "so that what no webhook tells shows while you watch"),
    ];
    let differs = rows.into_iter().filter_map(|(key, here, why)| {
        let production = default_of(key)?;
        let span = |text: &str| humantime::parse_duration(text).ok();
        let same = production == here || (span(&here).is_some() && span(&production) == span(&here));
        (!same).then(|| json!({"key": key, "here": here, "production": production, "why": why}))
    });
    differs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_production_is_named_with_both_values() {
        let mut setup = DaemonSetup::new("127.0.0.1:1", std::path::Path::new("/nowhere"));
        setup.poll_interval = Duration::from_secs(24 * 3600);
        let differs = differences(Some(&setup));
        let keys: Vec<&str> = differs.iter().filter_map(|row| row["key"].as_str()).collect();
        assert_eq!(keys, ["sync.debounce", "sync.burst", "sync.refill"]);
        assert_eq!((&differs[0]["here"], &differs[0]["production"]), (&"200ms".into(), &"2s".into()));
        for row in of_persons(Some(&setup)).iter().chain(&of_pages(Some(&setup))) {
            for key in ["action", "title", "does", "when"] {
                assert!(row[key].as_str().is_some_and(|text| !text.is_empty()), "{row}");
            }
        }
    }
}
