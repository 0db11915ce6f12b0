//! The two lists of links: their names, their addresses and the columns that name a link.

use crate::core::model::Source;

/// Which list it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum List {
    /// Facebook Pages.
    Pages,
    /// Links of every source, or of one.
    Links(Option<Source>),
}

impl List {
    /// The list's name in its document.
    pub(super) fn name(self) -> &'static str {
        match self {
            List::Pages => "pages",
            List::Links(_) => "links",
        }
    }

    /// The address of the list at the admin socket.
    pub(super) fn path(self) -> String {
        match self {
            List::Links(Some(source)) => format!("/v1/links?source={}", source.as_str()),
            _ => format!("/v1/{}", self.name()),
        }
    }

    /// The heads of the columns that name a link.
    pub(super) fn heads(self) -> &'static [&'static str] {
        match self {
            List::Pages => &["PAGE"],
            List::Links(_) => &["SOURCE", "ID"],
        }
    }

    /// The keys of the same columns.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            List::Pages => &["page_id"],
            List::Links(_) => &["source", "id"],
        }
    }
}
