//! The parts of which a daemon has one each, and that show signs of life: their words, and what stands still without
//! each of them.

/// A part that is asked for signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The threads that write the store.
    Store,
    /// The root of the actors.
    Supervisor,
    /// The reader of the store's feed.
    Dispatcher,
    /// The one writer to Spaces.
    Uploader,
    /// The sender of events.
    Notifier,
    /// What is left to do after links are gone.
    Cleanups,
    /// The keeper of the app-level webhook subscriptions.
    Subscriptions,
    /// The keeper of the listener's certificate.
    Certificates,
}

impl Part {
    /// All of them; the others wait for those before them.
    pub const ALL: [Part; 8] = [
        Part::Store,
        Part::Supervisor,
        Part::Dispatcher,
        Part::Uploader,
        Part::Notifier,
        Part::Cleanups,
        Part::Subscriptions,
        Part::Certificates,
    ];

    /// Its word in metrics, logs and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Part::Store => "store",
            Part::Supervisor => "supervisor",
            Part::Dispatcher => "dispatcher",
            Part::Uploader => "uploader",
            Part::Notifier => "notifier",
            Part::Cleanups => "cleanups",
            Part::Subscriptions => "subscriptions",
            Part::Certificates => "certificates",
        }
    }

    /// What stands still while it hangs, for a person.
    pub fn standstill(self) -> &'static str {
        match self {
            Part::Store => "nothing new becomes durable, and webhooks wait",
            Part::Supervisor => "no page begins, and no reload is applied",
            Part::Dispatcher => "no read begins after a webhook",
            Part::Uploader => "no object is written",
            Part::Notifier => "no event is sent",
            Part::Cleanups => "nothing is tidied up after unlinks",
            Part::Subscriptions => "the webhook subscriptions are not watched",
            Part::Certificates => "the certificate of the listener is not renewed",
        }
    }
}
