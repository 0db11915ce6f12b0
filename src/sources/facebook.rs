//! Facebook Pages: the client of the Graph API, logins, what Meta sends, and the page data of an object.

pub(crate) mod delivery;
pub mod graph;
pub(in crate::sources) mod link;
pub mod oauth;
pub mod page_data;
pub mod signature;
pub mod token_check;
pub mod webhook_signature;
