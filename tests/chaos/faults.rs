//! What a round is made of: faults that stand for a while, and incidents.

use pagesyncd::sandbox::fault::Fault;

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

/// Something that stands for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Graph(Fault),
    Throttle(Fault),
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
    Incident::DrillUploader,
    Incident::DrillListener,
    Incident::WorldClock,
];
