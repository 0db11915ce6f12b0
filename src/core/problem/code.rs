//! The codes of problems, and how much each matters.

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The daemon does not do its work, or may stop doing it at any moment.
    Critical,
    /// It does its work, and somebody should look today.
    Warning,
    /// A person outside must act, and the daemon is healthy.
    Info,
}

impl Severity {
    /// Its word, which is that of the alerts.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// Which problem. The order is that of the list, within one severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// A part makes no progress.
    PartHangs,
    /// The disk of the store has no space left.
    DiskFull,
    /// The store takes no writes.
    StoreDown,
    /// The daemon was started again and again.
    CrashLoop,
    /// The certificate of the public listener is not valid.
    CertificateInvalid,
    /// The authority issues no certificate, and there is none to show.
    CertificateMissing,
    /// Spaces fails.
    SpacesFailing,
    /// Graph fails.
    GraphFailing,
    /// The configuration file is refused, and an earlier configuration is in force.
    ConfigRefused,
    /// The disk of the store is about to be full.
    DiskLow,
    /// The certificate of the public listener expires soon.
    CertificateExpires,
    /// The authority that issues certificates fails.
    AcmeFailing,
    /// An actor fails again and again.
    ActorFails,
    /// Shopify fails.
    ShopifyFailing,
    /// The receiver of events fails.
    NotifyFailing,
    /// A read or a write has waited too long.
    Behind,
    /// Personal data that was to be deleted is still there.
    DeletionOverdue,
    /// The daemons that share the database are not set up alike.
    ClusterWarning,
    /// The run before this one did not end in order.
    UncleanEnd,
    /// Damage of the store was mended.
    StoreMended,
    /// Links wait for a person.
    LinksWait,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 21] = [
        Code::PartHangs,
        Code::DiskFull,
        Code::StoreDown,
        Code::CrashLoop,
        Code::CertificateInvalid,
        Code::CertificateMissing,
        Code::SpacesFailing,
        Code::GraphFailing,
        Code::ConfigRefused,
        Code::DiskLow,
        Code::CertificateExpires,
        Code::AcmeFailing,
        Code::ActorFails,
        Code::ShopifyFailing,
        Code::NotifyFailing,
        Code::Behind,
        Code::DeletionOverdue,
        Code::ClusterWarning,
        Code::UncleanEnd,
        Code::StoreMended,
        Code::LinksWait,
    ];

    /// The code in JSON, in the reference and for `explain`.
    pub fn word(self) -> &'static str {
        match self {
            Code::PartHangs => "part_hangs",
            Code::DiskFull => "disk_full",
            Code::StoreDown => "store_down",
            Code::CrashLoop => "crash_loop",
            Code::CertificateInvalid => "certificate_invalid",
            Code::CertificateMissing => "certificate_missing",
            Code::SpacesFailing => "spaces_failing",
            Code::GraphFailing => "graph_failing",
            Code::ConfigRefused => "config_refused",
            Code::DiskLow => "disk_low",
            Code::CertificateExpires => "certificate_expires",
            Code::AcmeFailing => "acme_failing",
            Code::ActorFails => "actor_fails",
            Code::ShopifyFailing => "shopify_failing",
            Code::NotifyFailing => "notify_failing",
            Code::Behind => "behind",
            Code::DeletionOverdue => "deletion_overdue",
            Code::ClusterWarning => "cluster_warning",
            Code::UncleanEnd => "unclean_end",
            Code::StoreMended => "store_mended",
            Code::LinksWait => "links_wait",
        }
    }

    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Code::PartHangs
            | Code::DiskFull
            | Code::StoreDown
            | Code::CrashLoop
            | Code::CertificateInvalid
            | Code::CertificateMissing
            | Code::SpacesFailing
            | Code::GraphFailing => Severity::Critical,
            Code::ConfigRefused
            | Code::DiskLow
            | Code::CertificateExpires
            | Code::AcmeFailing
            | Code::ActorFails
            | Code::ShopifyFailing
            | Code::NotifyFailing
            | Code::Behind
            | Code::DeletionOverdue
            | Code::ClusterWarning => Severity::Warning,
            Code::UncleanEnd | Code::StoreMended | Code::LinksWait => Severity::Info,
        }
    }
}
