//! The index of a shop's products, made from the rows in the store. It may have megabytes, and each product that changes
//! changes it. So its bytes are not staged: its digest is, and whoever writes it makes it from the rows of that moment. These
//! are the staged ones or newer, and newer ones are due to be written as well.

use crate::context::Context;
use crate::core::catalogue::Row;
use crate::core::ledger::Digest;
use crate::core::model::{Cause, LinkKey, WallTime};
use crate::sources::api::Document;
use crate::sources::shopify::ids::ProductId;
use crate::sources::shopify::index::{self, Entry};
use crate::sources::shopify::object::Envelope;
use crate::store::Unavailable;

fn entry((id, row): (u64, Row)) -> Entry {
    Entry { id: ProductId(id), row }
}

/// The digest of the index as it would be now.
///
/// # Errors
/// [`Unavailable`].
pub async fn digest(context: &Context, link: &LinkKey) -> Result<Digest, Unavailable> {
    context.store.with_rows(link, |rows| index::digest(rows.map(entry))).await
}

/// The index as it is now; `None` for a link that is none of a shop.
///
/// # Errors
/// [`Unavailable`].
pub async fn document(context: &Context, link: &LinkKey) -> Result<Option<Document>, Unavailable> {
    let Some(shop) = link.shop().cloned() else { return Ok(None) };
    let (user, version) = (link.user, context.setup().config.shopify.api_version.clone());
    let made = context.store.with_rows(link, move |rows| {
        let fetched_at = WallTime::now();
        let envelope = Envelope { user, shop: &shop, fetched_at, cause: Cause::Poll, api_version: &version };
        index::document(envelope, rows.map(entry))
    });
    made.await.map(Some)
}
