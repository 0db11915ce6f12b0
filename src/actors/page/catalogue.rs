//! The catalogue of a linked shop: products, collections and their index, each an object of its own. It is followed by a
//! task of the shop's page, beside the jobs that the page's machine decides on.
//!
//! | loop | what it does |
//! |---|---|
//! | [`changes`] | reads the parts that are marked, and stages what is new |
//! | [`walks`] | asks which products changed, and sweeps over all of them by bulk operation; marks what it finds |
//! | [`objects`] | at the end of a sweep, compares the objects in Spaces with what was written there |
//! | [`listing`] | writes the index when its products are written, and deletes the object of a product that is gone when the index does not name it any more |
//!
//! A mark is durable, and stands until a read has answered for it. So each loop may end at any moment and begin again: what
//! it had in hand is marked, or found by the next walk.
//!
//! The task holds no token. Each call takes the shop's token of that moment. Where the shop refuses it, the page is asked to
//! check the link, which parks it or finds a good token; a page that is parked has no such task.

mod changes;
mod listing;
mod objects;
mod subject;
mod walks;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use ractor::ActorRef;
use tokio::sync::watch;

use self::subject::Catalogue;
use super::message::PageMsg;
use crate::actors::Owned;
use crate::context::Context;
use crate::core::lease::bucket_of;
use crate::core::model::{Generation, LinkKey};

/// The task that follows a catalogue. It ends when this is dropped.
pub(super) struct Follower {
    /// The generation of the link's token for which it began.
    pub(super) generation: Generation,
    wake: watch::Sender<u64>,
    hurry: Arc<AtomicBool>,
    _task: Owned,
}

impl Follower {
    /// Follows the catalogue of this link; `None` for a link that is none of a shop or is worked on elsewhere. The page gets
    /// [`PageMsg::CatalogueBroke`] if the task panics.
    pub(super) fn begin(
        context: &Arc<Context>,
        link: &LinkKey,
        generation: Generation,
        page: &ActorRef<PageMsg>,
    ) -> Option<Follower> {
        let shop = link.shop()?.clone();
        let work = context.leases.begin_work(bucket_of(link))?;
        let (wake, hurry) = (watch::Sender::new(0), Arc::new(AtomicBool::new(false)));
        let catalogue = Catalogue {
            context: context.clone(),
            link: link.clone(),
            shop,
            generation,
            page: page.clone(),
            wake: wake.clone(),
            hurry: hurry.clone(),
            is_sweeping: AtomicBool::new(false),
            gone: Mutex::default(),
        };
        let page = page.clone();
        let task = async move {
            let ended = AssertUnwindSafe(follow(&catalogue)).catch_unwind().await;
            drop(work);
            if ended.is_err() {
                // A page that is gone needs no answer.
                let _ = page.cast(PageMsg::CatalogueBroke(generation));
            }
        };
        Some(Follower { generation, wake, hurry, _task: Owned(tokio::spawn(task)) })
    }

    /// Something may be due.
    pub(super) fn wake(&self) {
        self.wake.send_modify(|times| *times += 1);
    }

    /// Somebody waits for the newest state: what changed is asked for now.
    pub(super) fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
        self.wake();
    }
}

async fn follow(catalogue: &Catalogue) {
    tokio::join!(changes::follow(catalogue), walks::follow(catalogue), listing::follow(catalogue));
}
