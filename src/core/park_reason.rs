//! The reasons to park a link: a word for dashboards, the cause and the remedy for a person.

use serde::{Deserialize, Serialize};

/// The end of a token's usefulness for its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkReason {
    /// The session ran out (190/463).
    Expired,
    /// The password was changed or Facebook reset the session (190/460).
    PasswordChanged,
    /// The person must confirm something on facebook.com (190/459).
    Checkpoint,
    /// The person's account is not confirmed (190/464).
    Unconfirmed,
    /// The token is not valid for another reason (190, 190/467, 102).
    Invalid,
    /// The token is not one of a page (190/2069032).
    WrongToken,
    /// The page was not ticked in a later login.
    Unticked,
    /// A permission was not granted or was taken back (10, 200 to 299).
    PermissionLost,
    /// The person has no role on the page any more (190/492).
    RoleLost,
    /// The person removed the app (190/458) or sent a deauthorization.
    AppRemoved,
    /// The page does not exist or is out of reach (100/33).
    PageGone,
    /// The app was blocked from this for breaking a policy (368).
    Blocked,
    /// The shop's refresh token is spent or expired.
    RefreshEnded,
    /// The shop's old token, which did not expire, was exchanged for a pair, and the answer with the pair was lost.
    OldTokenEnded,
    /// The app was uninstalled from the shop, or its tokens were revoked (401).
    Uninstalled,
    /// The shop does not exist any more (404).
    ShopGone,
    /// The shop was closed or flagged (`SHOP_INACTIVE`, 403).
    ShopInactive,
    /// The shop has not paid (402).
    ShopFrozen,
    /// Shopify locked the shop (423).
    ShopLocked,
    /// An access scope was not granted or was taken back.
    ScopeMissing,
}

impl ParkReason {
    /// The word in `health`, for scripts and dashboards.
    pub fn word(self) -> &'static str {
        match self {
            ParkReason::Expired
            | ParkReason::PasswordChanged
            | ParkReason::Checkpoint
            | ParkReason::Unconfirmed
            | ParkReason::Invalid
            | ParkReason::WrongToken
            | ParkReason::Unticked => "needs_relink",
            ParkReason::PermissionLost => "revoked",
            ParkReason::RoleLost => "lost_role",
            ParkReason::AppRemoved => "app_removed",
            ParkReason::PageGone => "page_gone",
            ParkReason::Blocked => "blocked",
            ParkReason::RefreshEnded | ParkReason::OldTokenEnded => "needs_login",
            ParkReason::Uninstalled => "uninstalled",
            ParkReason::ShopGone | ParkReason::ShopInactive => "shop_gone",
            ParkReason::ShopFrozen => "frozen",
            ParkReason::ShopLocked => "locked",
            ParkReason::ScopeMissing => "scope_missing",
        }
    }

    /// It may end without a new token, so that the source is asked once a day.
    pub fn may_pass(self) -> bool {
        matches!(self, ParkReason::ShopInactive | ParkReason::ShopFrozen | ParkReason::ShopLocked)
    }

    /// The cause, in one sentence for a person.
    pub fn reason(self) -> &'static str {
        match self {
            ParkReason::Expired => "the login expired",
            ParkReason::PasswordChanged => "the person changed the Facebook password, or Facebook reset the session",
            ParkReason::Checkpoint => "Facebook wants the person to confirm something on facebook.com",
            ParkReason::Unconfirmed => "the person's Facebook account is not confirmed",
            ParkReason::Invalid => {
                "Facebook does not accept the token any more, or the page was unticked in a later login"
            }
            ParkReason::WrongToken => "the token is a person's and not the page's",
            ParkReason::Unticked => "the page was not ticked in a later login",
            ParkReason::PermissionLost => "a permission was not granted or was taken back",
            ParkReason::RoleLost => "the person has no role on the page any more",
            ParkReason::AppRemoved => "the person removed the app on Facebook",
            ParkReason::PageGone => "the page does not exist any more, or is out of reach",
            ParkReason::Blocked => "Facebook blocked the app from this page for breaking a policy",
            ParkReason::RefreshEnded => "the app was not used in the shop for so long that its access ended",
            ParkReason::OldTokenEnded => {
                "the imported token of the shop ended when it was exchanged for one that expires, and Shopify's answer \
                 was lost"
            }
            ParkReason::Uninstalled => "the app was uninstalled from the shop",
            ParkReason::ShopGone => "the shop was closed, or does not exist any more",
            ParkReason::ShopInactive => "the shop was closed, or Shopify flagged it",
            ParkReason::ShopFrozen => "Shopify froze the shop because it has not paid",
            ParkReason::ShopLocked => "Shopify locked the shop",
            ParkReason::ScopeMissing => "the shop does not grant the app an access scope that it needs",
        }
    }

    /// The remedy, in one sentence for a person.
    pub fn remedy(self) -> &'static str {
        match self {
            ParkReason::Expired | ParkReason::PasswordChanged => "the person logs in again and ticks the page",
            ParkReason::Invalid | ParkReason::Unticked => {
                "the person logs in again and ticks this page together with all others"
            }
            ParkReason::Checkpoint => "the person follows the instructions on facebook.com, then logs in again",
            ParkReason::Unconfirmed => "the person confirms the account on facebook.com, then logs in again",
            ParkReason::WrongToken => "link the page by a login, or import it with a page's token",
            ParkReason::PermissionLost => {
                "the person logs in again through /facebook/login?rerequest=1 and grants every permission; if that does \
                 not help, see which permissions the app has in the Meta dashboard"
            }
            ParkReason::RoleLost => "somebody with a role on the page links it, or unlink it",
            ParkReason::AppRemoved => "unlink the page if that was meant; otherwise the person logs in again",
            ParkReason::PageGone => "unlink the page; if it is back, link it again",
            ParkReason::RefreshEnded | ParkReason::OldTokenEnded => "the merchant opens the app in the shop's admin",
            ParkReason::Uninstalled => {
                "unlink the shop if that was meant; otherwise the merchant installs the app again"
            }
            ParkReason::ShopGone => "unlink the shop; if it is back, install the app again",
            ParkReason::ShopInactive => {
                "unlink the shop if it stays closed; the shop is asked once a day, or at once when the merchant opens the app"
            }
            ParkReason::ShopFrozen => {
                "the merchant pays Shopify; the shop is asked once a day, or at once when the merchant opens the app"
            }
            ParkReason::ShopLocked => {
                "the merchant asks Shopify's support; the shop is asked once a day, or at once when the merchant opens \
                 the app"
            }
            ParkReason::ScopeMissing => "the merchant opens the app and agrees to its access",
            ParkReason::Blocked => "resolve the app's alerts in the Meta dashboard, then link the page again",
        }
    }
}
