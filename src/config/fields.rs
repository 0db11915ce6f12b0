//! Facebook's names in the configuration: page fields, webhook fields, permissions.
//!
//! Graph refuses a whole request for one field that it does not know, so names that are known not to exist are
//! refused here. What is merely unheard of is let through with a warning, or none: Graph grows, and the daemon drops a
//! refused field by itself. Webhook fields and page fields are different lists with different names.

use super::findings::{Report, shown};
use super::spelling::nearest;
use super::table::Facebook;

/// The `page` object's webhook fields.
const WEBHOOK_FIELDS: &[&str] = &[
    "affiliation",
    "attire",
    "awards",
    "bio",
    "birthday",
    "category",
    "checkins",
    "company_overview",
    "culinary_team",
    "current_location",
    "description",
    "email",
    "feed",
    "follow",
    "founded",
    "general_info",
    "general_manager",
    "group_feed",
    "hometown",
    "hours",
    "inbox_labels",
    "leadgen",
    "live_videos",
    "location",
    "members",
    "mention",
    "message_deliveries",
    "message_echoes",
    "message_edits",
    "message_reactions",
    "message_reads",
    "messages",
    "messaging_account_linking",
    "messaging_handovers",
    "messaging_optins",
    "messaging_policy_enforcement",
    "messaging_postbacks",
    "messaging_referrals",
    "mission",
    "name",
    "page_about_story",
    "page_change_proposal",
    "page_upcoming_change",
    "parking",
    "payment_options",
    "personal_info",
    "personal_interests",
    "phone",
    "picture",
    "price_range",
    "product_review",
    "products",
    "public_transit",
    "ratings",
    "standby",
    "videos",
    "website",
];

/// Permissions that the daemon cannot do without, and what fails without them.
const SCOPES: &[(&str, &str)] = &[
    ("pages_show_list", "pages cannot be listed"),
    ("pages_manage_metadata", "pages cannot be subscribed to webhooks"),
    ("pages_read_engagement", "pages cannot be read"),
    ("business_management", "pages held through a business portfolio stay hidden"),
];

/// Page fields that Graph has retired for newer pages.
const RETIRED: &[&str] = &["current_location", "genre", "network", "parking", "start_info"];

pub(super) fn check(facebook: &Facebook, report: &mut Report) {
    check_scopes(&facebook.scopes, report);
    check_page_fields(&facebook.page_fields, report);
    check_webhook_fields(facebook, report);
}

fn check_scopes(scopes: &[String], report: &mut Report) {
    for (scope, harm) in SCOPES {
        if !scopes.iter().any(|given| given == scope) {
            report.warning("facebook.scopes", format!("lacks {scope}: {harm}"), format!("add {scope:?}"));
        }
    }
    for (n, scope) in scopes.iter().enumerate() {
        if !scope.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            let hint = "write one permission a string, such as \"pages_show_list\"";
            report.error(&format!("facebook.scopes[{n}]"), "is not the name of a permission", hint);
        }
    }
}

fn check_page_fields(fields: &[String], report: &mut Report) {
    const KEY: &str = "facebook.page_fields";
    if fields.is_empty() {
        report.error(KEY, "is empty", "take the line out to have the default");
    }
    for field in fields {
        let base: &str = field.split(['.', '{', '(']).next().unwrap_or_default();
        let (message, hint) = if !is_field(field) {
            (
                "which is not the name of a field",
                "write one field a string, such as \"name\" or \"location{city,country}\"",
            )
        } else if field.contains("access_token") {
            ("which would put tokens where page data belongs", "take it out; the daemon asks for tokens itself")
        } else if base == "email" {
            (
                "which a page does not have; Graph would refuse every read",
                "write \"emails\", as the page's field is called",
            )
        } else if base == "created_time" {
            ("which a page does not have; Graph would refuse every read", "take it out")
        } else if RETIRED.contains(&base) {
            report.warning(KEY, format!("names {base}, which newer pages do not have"), "take it out");
            continue;
        } else {
            continue;
        };
        report.error(KEY, format!("names {}, {message}", shown(field)), hint);
    }
}

/// A field as Graph writes it: a name, perhaps with modifiers and fields of its own in balanced brackets.
fn is_field(text: &str) -> bool {
    let mut open = Vec::new();
    for byte in text.bytes() {
        let fits = match byte {
            b'{' | b'(' => {
                open.push(byte);
                true
            }
            b'}' => open.pop() == Some(b'{'),
            b')' => open.pop() == Some(b'('),
            b',' => !open.is_empty(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => true,
            _ => false,
        };
        if !fits {
            return false;
        }
    }
    open.is_empty() && text.len() <= 500 && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
}

fn check_webhook_fields(facebook: &Facebook, report: &mut Report) {
    const KEY: &str = "facebook.webhook_fields";
    let fields = &facebook.webhook_fields;
    if fields.is_empty() {
        report.warning(KEY, "is empty: changes are found by polling alone", "take the line out to have the default");
    }
    for (n, field) in fields.iter().enumerate() {
        if !field.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            let hint = "write one field a string, such as \"name\"";
            report.error(&format!("{KEY}[{n}]"), "is not the name of a webhook field", hint);
        } else if !WEBHOOK_FIELDS.contains(&field.as_str()) {
            let near = nearest(field, WEBHOOK_FIELDS.iter().copied()).unwrap_or("name");
            let message = format!("names {}, which is not known as a webhook field", shown(field));
            report.warning(KEY, message, format!("the nearest known one is {near}; one wrong field fails them all"));
        }
    }
    let messaging = fields.iter().any(|field| field.starts_with("messag"));
    if messaging && !facebook.scopes.iter().any(|scope| scope == "pages_messaging") {
        let hint = "add \"pages_messaging\" to facebook.scopes, or take the message fields out";
        report.warning(KEY, "names message fields, which need the permission pages_messaging", hint);
    }
}
