//! What a round is made of: faults that stand for a while, and incidents.

use std::time::Duration;

use pagesyncd::sandbox::fault::Fault;
use pagesyncd::sandbox::shopify::state::ShopFault;

use crate::fixture::MINUTES_TO_LIVE;

pub const GRAPH: &[Fault] = &[
    Fault::GraphReset,
    Fault::GraphUnavailable,
    Fault::GraphHang,
    Fault::GraphSlow,
    Fault::GraphLostAnswer,
    Fault::GraphResetMidBody,
    Fault::JunkHtml,
    Fault::JunkEmpty,
    Fault::JunkTruncated,
    Fault::JunkFalse,
    Fault::JunkOtherPage,
];

/// They hold the daemon back for minutes, by Graph's own word.
pub const THROTTLES: &[Fault] = &[Fault::ThrottleApp, Fault::ThrottlePage, Fault::ThrottleBusiness, Fault::UsageHigh];

pub const SPACES: &[Fault] = &[
    Fault::SpacesRefused,
    Fault::SpacesReset,
    Fault::SpacesSlowDown,
    Fault::SpacesBadGateway,
    Fault::SpacesHang,
    Fault::SpacesSlow,
    Fault::SpacesResetMidBody,
    Fault::SpacesLostAnswer,
];

pub const SHOPIFY: &[ShopFault] = &[
    ShopFault::Refused,
    ShopFault::Reset,
    ShopFault::Unavailable,
    ShopFault::Throttled,
    ShopFault::Truncated,
    ShopFault::Empty,
    ShopFault::RefreshFailed,
    ShopFault::RefreshLost,
    ShopFault::RefreshLost,
    ShopFault::BulkBusy,
    ShopFault::BulkFailed,
    ShopFault::BulkCutOff,
    ShopFault::BulkShort,
    ShopFault::BulkBrokenLine,
];

/// Between two polls and between two sweeps of a shop: so short that they fall into everything else, or so long that
/// none of them makes good what was lost.
pub const WALKS: &[[&str; 2]] = &[SHORT_WALKS, ["1h", "24h"]];
pub const SHORT_WALKS: [&str; 2] = ["2s", "6s"];

/// How long the access tokens of shops live that are given out from now on: so long that each is exchanged before its
/// use and would do without, and so short that each must be exchanged.
pub const TOKEN_LIVES: &[Duration] = &[MINUTES_TO_LIVE, SECONDS_TO_LIVE];
pub const SECONDS_TO_LIVE: Duration = Duration::from_secs(20);

/// Something that stands for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Graph(Fault),
    Throttle(Fault),
    Shopify(ShopFault),
    Spaces(Fault),
    /// Spaces takes other keys than the daemon has, until the daemon is given them.
    Keys,
    DiskFull,
    /// The daemon's wall clock is off by so many seconds.
    Clock(i64),
}

/// Something that happens at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    Kill,
    /// Killed again while it starts.
    KillTwice,
    Term,
    ReloadGood,
    ReloadBad,
    DrillPage,
    DrillShop,
    DrillUploader,
    DrillListener,
    WorldClock,
}

pub const MINUTE: i64 = 60;
pub const DAY: i64 = 24 * 60 * MINUTE;

pub const INCIDENTS: &[Incident] = &[
    Incident::Kill,
    Incident::Kill,
    Incident::KillTwice,
    Incident::Term,
    Incident::ReloadGood,
    Incident::ReloadBad,
    Incident::DrillPage,
    Incident::DrillShop,
    Incident::DrillUploader,
    Incident::DrillListener,
    Incident::WorldClock,
];
