//! Tries tokens: does a token open its page? One read tells, and asks no more than the page's actor will.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use tokio::time::timeout;

use crate::context::Context;
use crate::core::grant::{Ticket, Tried};
use crate::core::health::ParkReason;
use crate::core::model::{AppUserId, PageId, Secret};
use crate::core::priority::Priority;
use crate::sources::facebook::graph::GraphError;
use crate::store::Unavailable;
use crate::store::imports::LinkLine;

/// Lines whose tokens are tried at once, and how long all of that may take. An operator waits for it.
const AT_ONCE: usize = 8;
const WITHIN: Duration = Duration::from_secs(60);

/// Reads a page with a token, in the name of its person where known. `Ok` when that works; otherwise why the token is
/// of no use, or `None` when Facebook did not say.
pub async fn try_token(
    context: &Context,
    page: &PageId,
    token: &Secret,
    person: Option<&AppUserId>,
    priority: Priority,
) -> Result<(), Option<ParkReason>> {
    let graph = context.setup().graph.in_name_of(person);
    let answer = graph.read_page(page, token, &[], priority).await;
    context.note_graph(&answer);
    answer.map(|_| ()).map_err(|error: GraphError| error.kind.park_reason())
}

/// Tries the tokens of those lines of an import that may not replace what stands without it.
///
/// # Errors
/// [`Unavailable`]; no token was tried then.
pub async fn try_lines(
    context: &Arc<Context>,
    ticket: Ticket,
    lines: &[LinkLine],
) -> Result<BTreeMap<usize, Tried>, Unavailable> {
    let mut wanted = Vec::new();
    for line in lines {
        if context.store.wants_trial(ticket, line).await? {
            wanted.push(line.clone());
        }
    }
    // A try that is not over in time counts as one that Facebook did not answer.
    let mut tried: BTreeMap<usize, Tried> = wanted.iter().map(|line| (line.line, Tried::Unknown)).collect();
    let mut tries = Vec::with_capacity(wanted.len());
    for line in wanted {
        tries.push(try_line(context.clone(), line).boxed());
    }
    let trying = stream::iter(tries).buffer_unordered(AT_ONCE).for_each(|(line, outcome)| {
        tried.insert(line, outcome);
        std::future::ready(())
    });
    let _ = timeout(WITHIN, trying).await;
    Ok(tried)
}

async fn try_line(context: Arc<Context>, line: LinkLine) -> (usize, Tried) {
    let person = line.link.facebook_user.as_ref();
    let outcome = match try_token(&context, &line.link.page, &line.link.token, person, Priority::Background).await {
        Ok(()) => Tried::Works,
        Err(Some(_)) => Tried::Refused,
        Err(None) => Tried::Unknown,
    };
    (line.line, outcome)
}
