//! Compares the objects in Spaces with what was written there: at the end of each sweep, by lists of a thousand. An object
//! that is missing or altered is read and written again; one of which nothing is known, or which the index does not name, is
//! read, and deleted if the shop has it no more. The index is made anew, and written if that makes a difference.
//!
//! A comparison that Spaces does not let end is made again from its beginning, by itself: the sweep does not take its file
//! again for that.
//!
//! A list may be older than what is written meanwhile. So an object that looks wrong is asked for once more by itself.

use super::subject::{Catalogue, Retry};
use crate::core::catalogue::{Piece, Row};
use crate::core::model::{Cause, ObjectKey, PartKey};
use crate::spaces::Listing;

/// Parts that are marked in one go.
const AT_ONCE: usize = 256;

/// What the lists show.
#[derive(Default)]
struct Seen {
    /// Numbers of products.
    products: Vec<u64>,
    has_collections: bool,
    has_index: bool,
    /// Missing or altered.
    wrong: usize,
}

pub(super) async fn compare(catalogue: &Catalogue) -> Result<(), Retry> {
    let mut seen = Seen::default();
    let mut after: Option<String> = None;
    loop {
        let spaces = catalogue.context.setup().spaces.clone();
        let listed = spaces.list(&catalogue.link, after.as_deref()).await;
        catalogue.context.note_spaces(&listed);
        let Listing { objects, next } = match listed {
            Ok(listing) => listing,
            Err(error) => {
                let (link, shop) = (&catalogue.link, &catalogue.shop);
                tracing::warn!(
                    %link,
                    %error,
                    "shop [{shop}]: the objects in Spaces cannot be listed ({error}), they are compared after the next sweep; \
                     the access key needs the right to list the bucket"
                );
                return Ok(());
            }
        };
        take(catalogue, objects, &mut seen).await?;
        if next.is_none() || next <= after {
            break;
        }
        after = next;
    }
    missing(catalogue, seen).await
}

async fn take(catalogue: &Catalogue, objects: Vec<(ObjectKey, Option<String>)>, seen: &mut Seen) -> Result<(), Retry> {
    let store = &catalogue.context.store;
    let parts = objects.into_iter().filter_map(|(key, etag)| Some((key.part()?, etag)));
    let pieces = parts.filter_map(|(part, etag)| Some((Piece::of(&part.part)?, part, etag)));
    let (mut etags, mut parts) = (Vec::new(), Vec::new());
    for (piece, part, etag) in pieces.filter(|(_, part, _)| part.link == catalogue.link) {
        match piece {
            Piece::Product(id) => seen.products.push(id),
            Piece::Collections => seen.has_collections = true,
            Piece::Index => seen.has_index = true,
        }
        etags.push(etag);
        parts.push(part);
    }
    let (mut altered, mut unknown) = (Vec::new(), Vec::new());
    for ((part, synced), etag) in store.synced_of(parts).await?.into_iter().zip(etags) {
        match synced {
            Some(synced) if synced.digest.is_none() => unknown.push(part),
            Some(synced) if etag.is_none() || synced.etag == etag => {}
            Some(_) => altered.push(part),
            None => unknown.push(part),
        }
    }
    seen.wrong += repair(catalogue, altered).await?;
    for parts in unknown.chunks(AT_ONCE) {
        store.mark_parts(parts.to_vec(), Cause::Poll).await?;
    }
    Ok(())
}

/// Objects that were written, and that no list has.
async fn missing(catalogue: &Catalogue, mut seen: Seen) -> Result<(), Retry> {
    let store = &catalogue.context.store;
    seen.products.sort_unstable();
    let listed = std::mem::take(&mut seen.products);
    let compared = move |rows: &mut dyn Iterator<Item = (u64, Row)>| {
        let named: Vec<u64> = rows.map(|(id, _)| id).collect();
        (lacking(&listed, &named), lacking(&named, &listed))
    };
    let (mut missing, unnamed) = store.with_rows(&catalogue.link, compared).await?;
    missing.extend((!seen.has_collections).then_some(Piece::Collections));
    missing.extend((!seen.has_index).then_some(Piece::Index));
    let part = |piece: Piece| PartKey::new(catalogue.link.clone(), piece.part());
    let missing = missing.into_iter().map(part).collect();
    let wrong = seen.wrong + repair(catalogue, missing).await?;
    read_unnamed(catalogue, unnamed.into_iter().map(part).collect()).await?;
    store.mark_parts(vec![part(Piece::Index)], Cause::Poll).await?;
    let (link, shop) = (&catalogue.link, &catalogue.shop);
    if wrong > 0 {
        (0..wrong).for_each(|_| catalogue.context.metrics.object_repaired());
        tracing::warn!(%link, wrong, "shop [{shop}]: {wrong} objects in Spaces are missing or altered, writing them again");
    }
    catalogue.wake();
    Ok(())
}

/// The products of the second list that the first one lacks; both are in order.
fn lacking(first: &[u64], second: &[u64]) -> Vec<Piece> {
    second.iter().filter(|id| first.binary_search(id).is_err()).map(|id| Piece::Product(*id)).collect()
}

/// Objects of products that have no row: each is read, and written so that it has one, or deleted.
async fn read_unnamed(catalogue: &Catalogue, parts: Vec<PartKey>) -> Result<(), Retry> {
    let (store, mut unnamed) = (&catalogue.context.store, Vec::new());
    for part in parts {
        // What is on its way comes to its row, or has left it.
        if store.expectation(&part).await?.outbox || store.mark(&part).await?.is_some() {
            continue;
        }
        let head = catalogue.context.setup().spaces.head(&part.object_key()).await;
        catalogue.context.note_spaces(&head);
        let Ok(head) = head else { return Err(Retry::Soon) };
        unnamed.extend(head.map(|_| part));
    }
    for parts in unnamed.chunks(AT_ONCE) {
        store.distrust(parts).await?;
    }
    Ok(())
}

/// Has those of these parts written again whose objects are wrong. Returns how many these are.
async fn repair(catalogue: &Catalogue, parts: Vec<PartKey>) -> Result<usize, Retry> {
    let (store, mut wrong) = (&catalogue.context.store, Vec::new());
    for part in parts {
        let expected = store.expectation(&part).await?;
        // One that was never written, or is on its way, is not missed.
        if expected.digest.is_none() || expected.outbox {
            continue;
        }
        let head = catalogue.context.setup().spaces.head(&part.object_key()).await;
        catalogue.context.note_spaces(&head);
        let Ok(head) = head else { return Err(Retry::Soon) };
        let is_same = head.map(|head| head.etag) == expected.etag;
        // A write that was completed meanwhile makes the comparison void.
        if !is_same && store.expectation(&part).await? == expected {
            wrong.push(part);
        }
    }
    for parts in wrong.chunks(AT_ONCE) {
        store.distrust(parts).await?;
    }
    Ok(wrong.len())
}
