//! Pure decisions: plain types, with time and randomness as arguments, and no runtime, network, disk or clock.

pub mod backoff;
pub mod catalogue;
pub mod certificate;
pub mod cleanup;
pub mod disposition;
pub mod event;
pub mod event_queue;
pub mod fields;
pub mod grant;
pub mod health;
pub mod late_writes;
pub mod lease;
pub mod ledger;
pub mod link;
pub mod login_limits;
pub mod model;
pub mod park_reason;
pub mod part;
pub mod priority;
pub mod problem;
pub mod restart;
pub mod shop_pair;
pub mod shop_refresh;
pub mod token_check;
pub mod turns;
pub mod upload_queue;
