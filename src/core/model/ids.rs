//! Identifiers: the users of the platform, and the ids that sources give out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why an identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// Not a UUID in one of the usual spellings.
    #[error("user is not a UUID (expected something like 6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10)")]
    User,
    /// Not a Graph node id.
    #[error("{0} is not a Graph id (expected 1 to 32 decimal digits)")]
    Graph(&'static str),
}

/// A user of the platform: the UUID under whose prefix the objects lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub Uuid);

impl UserId {
    /// A fresh random (version 4) user.
    pub fn random() -> Self {
        UserId(crate::random::uuid())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for UserId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::parse_str(text.trim()).map(UserId).map_err(|_| BadId::User)
    }
}

fn graph_id(text: &str, what: &'static str) -> Result<Arc<str>, BadId> {
    let text = text.trim();
    let sound = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if sound { Ok(text.into()) } else { Err(BadId::Graph(what)) }
}

macro_rules! graph_id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as Graph writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                graph_id(text, $what).map($name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

graph_id_type!(
    /// A Facebook Page: a Graph node id, 1 to 32 decimal digits.
    PageId,
    "page id"
);
graph_id_type!(
    /// A person as this app sees them: the app-scoped user id.
    AppUserId,
    "app-scoped user id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_could_leave_its_folder() {
        for bad in ["", "..", "1/2", "12a", "１２", "1".repeat(33).as_str(), "-1", "1\0"] {
            assert!(bad.parse::<PageId>().is_err(), "{bad:?} was taken");
        }
        assert!("not-a-uuid".parse::<UserId>().is_err());
        assert_eq!(" 123 ".parse::<PageId>().unwrap().as_str(), "123");
    }
}
