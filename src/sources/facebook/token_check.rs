//! Judges the answer of `debug_token` about a link's token. Pure.
//!
//! The answer is evidence and no proof: `is_valid: false` with a token error is believed. A page that is missing among
//! the granted ids, or a permission that is missing among the scopes, is only *suspicious*, because portfolios give
//! access that these lists do not show; one read of the page decides.

use super::graph::{DebugToken, Expiry};
use crate::core::health::ParkReason;
use crate::core::model::PageId;
use crate::core::token_check::{Seen, Verdict};

/// The permissions without which a page cannot be read.
const NEEDED: [&str; 2] = ["pages_show_list", "pages_read_engagement"];

/// Judges the token of this page.
pub fn judge(seen: &DebugToken, page: &PageId) -> Verdict {
    if seen.is_valid != Some(true) {
        return seen.dead().map_or(Verdict::Unclear, |reason| Verdict::Dead(reason.park_reason()));
    }
    let lacks = |needed: &&&str| !seen.scopes.is_empty() && !seen.scopes.iter().any(|scope| scope == **needed);
    if NEEDED.iter().any(|needed| lacks(&needed)) {
        return Verdict::Suspect(ParkReason::PermissionLost);
    }
    // No ids at all means all pages, not none.
    let limited = seen.granular_scopes.iter().filter(|g| NEEDED.contains(&&*g.scope) && !g.target_ids.is_empty());
    let unticked = limited.into_iter().any(|granted| !granted.target_ids.iter().any(|id| id == page.as_str()));
    if unticked { Verdict::Suspect(ParkReason::Unticked) } else { Verdict::Sound }
}

/// What is kept of the answer.
pub fn seen(token: &DebugToken) -> Seen {
    let date = |expiry| match expiry {
        Expiry::At(at) => Some(at),
        Expiry::Never | Expiry::Unknown => None,
    };
    Seen {
        expires_at: date(token.expires_at),
        data_access_expires_at: date(token.data_access_expires_at),
        scopes: token.scopes.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::{GranularScope, TokenError};
    use super::*;
    use crate::core::token_check::confirmed;

    fn page() -> PageId {
        "123".parse().unwrap()
    }

    fn sound() -> DebugToken {
        let scopes = NEEDED.map(str::to_owned).to_vec();
        DebugToken { is_valid: Some(true), scopes, expires_at: Expiry::Never, ..DebugToken::default() }
    }

    fn granted(scope: &str, ids: &[&str]) -> GranularScope {
        GranularScope { scope: scope.into(), target_ids: ids.iter().map(|id| (*id).to_owned()).collect() }
    }

    fn dead(code: Option<i64>, subcode: Option<i64>, message: &str) -> DebugToken {
        let error = Some(TokenError { code, subcode, message: message.into() });
        DebugToken { is_valid: Some(false), error, ..DebugToken::default() }
    }

    #[test]
    fn a_dead_token_is_dead_for_its_reason_and_other_trouble_is_not_death() {
        for (seen, wanted) in [
            (dead(Some(190), Some(460), ""), Verdict::Dead(ParkReason::PasswordChanged)),
            (dead(Some(190), Some(458), ""), Verdict::Dead(ParkReason::AppRemoved)),
            (dead(Some(190), None, ""), Verdict::Dead(ParkReason::Invalid)),
            (
                dead(Some(190), Some(0), "must be granted before impersonating a user's page."),
                Verdict::Dead(ParkReason::Unticked),
            ),
            (dead(Some(2), None, "Service temporarily unavailable"), Verdict::Unclear),
            (dead(None, None, "?"), Verdict::Unclear),
            (DebugToken { is_valid: Some(false), ..DebugToken::default() }, Verdict::Dead(ParkReason::Invalid)),
            (DebugToken::default(), Verdict::Unclear),
            (sound(), Verdict::Sound),
        ] {
            assert_eq!(judge(&seen, &page()), wanted, "{seen:?}");
        }
    }

    #[test]
    fn a_page_that_is_not_among_the_granted_ones_is_suspicious() {
        let with = |granular_scopes| DebugToken { granular_scopes, ..sound() };
        for (scopes, wanted) in [
            (vec![], Verdict::Sound),
            (vec![granted("pages_show_list", &[])], Verdict::Sound),
            (vec![granted("pages_show_list", &["9", "123"])], Verdict::Sound),
            (vec![granted("pages_show_list", &["9"])], Verdict::Suspect(ParkReason::Unticked)),
            (
                vec![granted("pages_show_list", &["123"]), granted("pages_read_engagement", &["9"])],
                Verdict::Suspect(ParkReason::Unticked),
            ),
            (vec![granted("business_management", &["9"])], Verdict::Sound),
        ] {
            assert_eq!(judge(&with(scopes.clone()), &page()), wanted, "{scopes:?}");
        }
        let fewer = DebugToken { scopes: vec!["pages_show_list".into()], ..sound() };
        assert_eq!(judge(&fewer, &page()), Verdict::Suspect(ParkReason::PermissionLost));
        let untold = DebugToken { scopes: Vec::new(), ..sound() };
        assert_eq!(judge(&untold, &page()), Verdict::Sound);
        assert_eq!(confirmed(ParkReason::Unticked, ParkReason::Invalid), ParkReason::Unticked);
        assert_eq!(confirmed(ParkReason::Unticked, ParkReason::RoleLost), ParkReason::RoleLost);
    }
}
