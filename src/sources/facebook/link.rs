//! What the daemon does about the link of one page: reads it, keeps its webhook subscription in place, checks its
//! token, and cleans up after it. Answers in the words of no source ([`api`](crate::sources::api)).

use std::collections::BTreeSet;

use super::graph::{DeadReason, GraphClient, GraphError, GraphErrorKind};
use super::{page_data, token_check};
use crate::core::cleanup::Cleanup;
use crate::core::disposition::Disposition;
use crate::core::model::{Cause, PageId, Secret, WallTime};
use crate::core::priority::Priority;
use crate::core::token_check::{Verdict, confirmed};
use crate::sources::api::{Document, Reading, SourceError, Subscription, Target, TokenState};

impl From<&GraphError> for SourceError {
    fn from(error: &GraphError) -> Self {
        SourceError {
            disposition: error.kind.disposition(),
            answered: error.status.is_some(),
            is_general: error.kind.is_general(),
            is_reached: false,
            text: error.to_string(),
        }
    }
}

impl From<GraphError> for SourceError {
    fn from(error: GraphError) -> Self {
        SourceError::from(&error)
    }
}

/// The page that a call is about.
fn page_of<'a>(target: &Target<'a>) -> Result<&'a PageId, SourceError> {
    target.link.page().ok_or_else(|| SourceError {
        disposition: Disposition::Rejected,
        answered: false,
        is_general: false,
        is_reached: false,
        text: format!("{} is not the link of a page", target.link),
    })
}

pub(in crate::sources) async fn read(
    graph: &GraphClient,
    target: Target<'_>,
    fields: &[String],
    cause: Cause,
    priority: Priority,
) -> Result<Reading, SourceError> {
    let graph = graph.in_name_of(target.person);
    let page = graph.read_page(page_of(&target)?, target.token, fields, priority).await?;
    let name = page.data.get("name").and_then(|name| name.as_str()).map(str::to_owned);
    let digest = page_data::digest(&page.data);
    let body = page_data::object(target.link, page.data, cause, graph.version(), WallTime::now()).into();
    Ok(Reading { document: Document { digest, body }, name, refused_fields: page.refused_fields })
}

pub(in crate::sources) async fn ensure_subscription(
    graph: &GraphClient,
    target: Target<'_>,
    wanted: &BTreeSet<String>,
) -> Result<Subscription, SourceError> {
    let (graph, page) = (graph.in_name_of(target.person), page_of(&target)?);
    let standing = graph.subscribed_fields(page, target.token).await.map_err(not_subscribed)?.unwrap_or_default();
    if wanted.is_subset(&standing) {
        return Ok(Subscription { confirmed: standing.clone(), standing, refused: BTreeSet::new() });
    }
    // A post replaces the set, so what others of this app subscribed goes along.
    let union: Vec<String> = wanted.union(&standing).cloned().collect();
    let subscribed = graph.subscribe_page(page, target.token, &union).await;
    let subscribed = subscribed.map_err(|error| after_another(not_subscribed(error)))?;
    Ok(Subscription { standing, confirmed: subscribed.accepted, refused: subscribed.refused })
}

/// The error of a call before which another one succeeded.
fn after_another(error: SourceError) -> SourceError {
    SourceError { is_reached: true, ..error }
}

/// A permission that a subscription lacks is not missing for reads: only a dead token parks the link.
fn not_subscribed(error: GraphError) -> SourceError {
    let is_refused = matches!(error.kind.disposition(), Disposition::Park(_))
        && !matches!(error.kind, GraphErrorKind::TokenDead { .. });
    let error = SourceError::from(error);
    if is_refused { SourceError { disposition: Disposition::Rejected, ..error } } else { error }
}

/// Where the answer only raises a suspicion, one read of the page decides.
pub(in crate::sources) async fn check_token(
    graph: &GraphClient,
    target: Target<'_>,
) -> Result<TokenState, SourceError> {
    let page = page_of(&target)?;
    let answer = graph.debug_token(target.token, Priority::Background).await?;
    let seen = token_check::seen(&answer);
    match token_check::judge(&answer, page) {
        Verdict::Sound => Ok(TokenState::Works { seen, unlisted: false }),
        Verdict::Dead(why) => Ok(TokenState::Dead(why)),
        Verdict::Unclear => {
            let why = answer.error.map_or_else(|| "no error given".to_owned(), |error| error.message);
            Ok(TokenState::Unclear(why))
        }
        Verdict::Suspect(suspected) => {
            let graph = graph.in_name_of(target.person);
            match graph.read_page(page, target.token, &[], Priority::Background).await {
                Ok(_) => Ok(TokenState::Works { seen, unlisted: true }),
                Err(error) => match error.kind.park_reason() {
                    Some(found) => Ok(TokenState::Dead(confirmed(suspected, found))),
                    None => Err(after_another(error.into())),
                },
            }
        }
    }
}

pub(in crate::sources) async fn clean_up(
    graph: &GraphClient,
    cleanup: &Cleanup,
    token: &Secret,
) -> Result<(), SourceError> {
    let answer = match cleanup {
        Cleanup::Unsubscribe(page) => graph.unsubscribe_page(page, token).await,
        Cleanup::Revoke(person) => graph.revoke(person, token).await,
        Cleanup::DeleteAgain(_) | Cleanup::ForgetParts(_) | Cleanup::Uninstall(_) | Cleanup::Redact(_) => Ok(()),
    };
    match answer {
        // With the app removed from the account Facebook has ended both, the tokens and the subscription.
        Err(error) if matches!(error.kind, GraphErrorKind::TokenDead { reason: DeadReason::AppRemoved }) => Ok(()),
        answer => Ok(answer?),
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::fake::{Fake, Reply};
    use super::*;
    use crate::core::health::ParkReason;
    use crate::core::model::{LinkKey, UserId};
    use serde_json::json;

    async fn with<T>(replies: Vec<Reply>, call: impl AsyncFnOnce(&GraphClient, Target<'_>) -> T) -> T {
        let fake = Fake::script(replies).await;
        let (link, token) = (LinkKey::new(UserId::random(), "123".parse().unwrap()), Secret::new("EAApage"));
        call(&fake.client(), Target { link: &link, token: &token, person: None }).await
    }

    fn token(scopes: &[&str]) -> Reply {
        Reply::Json(200, json!({"data": {"is_valid": true, "scopes": scopes}}))
    }

    #[tokio::test]
    async fn a_subscription_that_is_refused_parks_no_link_and_a_dead_token_does() {
        let wanted = BTreeSet::from(["name".to_owned()]);
        for (error, disposition) in [
            (Reply::error(403, 10, "(#10) permission"), Disposition::Rejected),
            (Reply::error(400, 190, "bad token"), Disposition::Park(ParkReason::Invalid)),
            (Reply::error(500, 2, "try again"), Disposition::Retry),
        ] {
            let answer = with(vec![error], async |graph, target| ensure_subscription(graph, target, &wanted).await);
            assert_eq!(answer.await.unwrap_err().disposition, disposition);
        }
    }

    #[tokio::test]
    async fn a_suspicion_is_decided_by_one_read() {
        let page = || Reply::Json(200, json!({"id": "123", "name": "A"}));
        let check = |replies| with(replies, async |graph, target| check_token(graph, target).await);
        let all = ["pages_show_list", "pages_read_engagement"];
        let listed = check(vec![token(&all)]).await;
        assert!(matches!(listed, Ok(TokenState::Works { unlisted: false, .. })), "{listed:?}");
        let read = check(vec![token(&all[..1]), page()]).await;
        assert!(matches!(read, Ok(TokenState::Works { unlisted: true, .. })), "{read:?}");
        let dead = check(vec![token(&all[..1]), Reply::error(400, 190, "bad token")]).await;
        assert_eq!(dead, Ok(TokenState::Dead(ParkReason::PermissionLost)));
        let away = check(vec![token(&all[..1]), Reply::error(500, 2, "try again")]).await;
        let away = away.unwrap_err();
        assert_eq!((away.disposition, away.is_reached), (Disposition::Retry, true));
        let down = check(vec![Reply::error(500, 2, "try again")]).await.unwrap_err();
        assert_eq!((down.disposition, down.is_reached), (Disposition::Retry, false));
    }

    #[tokio::test]
    async fn with_the_app_removed_nothing_is_left_to_clean_up() {
        let cleanup = Cleanup::Unsubscribe("123".parse().unwrap());
        let removed = json!({"error": {"message": "m", "code": 190, "error_subcode": 458}});
        for (reply, is_done) in [(Reply::Json(400, removed), true), (Reply::error(400, 190, "m"), false)] {
            let answer = with(vec![reply], async |graph, target| clean_up(graph, &cleanup, target.token).await).await;
            assert_eq!(answer.is_ok(), is_done);
        }
    }
}
