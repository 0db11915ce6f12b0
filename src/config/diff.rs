//! What a reload changes: the names of the keys, whether they may change in a running process, and who is touched.
//! Pure: two configurations in, a list out. Values are compared and never shown.

use std::collections::BTreeSet;

use super::Config;
use super::keys::{KEYS, REDIRECT_URI, WEBHOOK_ADDRESS};

/// A part of the daemon that lives by some of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The address of the public listener: a new socket.
    Address,
    /// Sizes, counts and times of the public listener.
    Limits,
    /// What the public routes answer by: app id, secrets, addresses, permissions asked for.
    Door,
    /// The Graph client.
    Graph,
    /// The app-level webhook subscription.
    Subscription,
    /// The pages: intervals, fields read, fields subscribed.
    Pages,
    /// The Spaces client and the uploader's limits.
    Uploader,
    /// Log level and format.
    Log,
    /// Browser sessions and login state.
    Sessions,
    /// The receiver of events.
    Notify,
    /// The keys that seal the store's records.
    StoreKeys,
    /// The loopback address of the admin door.
    Admin,
}

/// What differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The dotted names of all keys that differ, in the order of the example file.
    pub keys: Vec<&'static str>,
    /// Those among them that cannot change in a running process. Not empty: the reload is to be refused, by name.
    pub refused: Vec<&'static str>,
    /// Who is touched by the keys that can.
    pub parts: BTreeSet<Part>,
}

impl Changes {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Is this part touched?
    pub fn touches(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    fn note(&mut self, name: &'static str, touches: &[Part]) {
        self.keys.push(name);
        if touches.is_empty() {
            self.refused.push(name);
        }
        self.parts.extend(touches);
    }
}

/// Names the keys of the list whose values differ.
macro_rules! differing {
    ($old:ident, $new:ident: $($section:ident { $($leaf:ident)* })*) => {
        [$($((concat!(stringify!($section), ".", stringify!($leaf)), $old.$section.$leaf != $new.$section.$leaf),)*)*]
    };
}

/// What differs between `old` and `new`.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let differing = differing!(old, new:
        http { listen public_url return_url platform_name trusted_proxies max_body_bytes max_connections header_timeout
            body_timeout }
        facebook { app_id app_secret previous_app_secret verify_token graph_version graph_url dialog_url scopes
            page_fields webhook_fields accept_sha1 max_in_flight request_timeout }
        sync { poll_interval debounce burst refill }
        spaces { region bucket endpoint access_key secret_key path_style max_in_flight request_timeout
            ca_file }
        store { path key previous_keys }
        session { state_secret previous_state_secret ttl allow_new max_new_users max_new_users_per_address }
        notify { url secret previous_secret max_in_flight request_timeout ca_file }
        admin { socket listen }
        log { level format });
    let mut changes = Changes::default();
    for key in KEYS {
        if differing.contains(&(key.name, true)) {
            changes.note(key.name, key.touches);
        }
    }
    if old.facebook.redirect_uri != new.facebook.redirect_uri {
        changes.note(REDIRECT_URI, &[Part::Door]);
    }
    if old.facebook.webhook_address != new.facebook.webhook_address {
        changes.note(WEBHOOK_ADDRESS, &[Part::Subscription]);
    }
    changes
}
