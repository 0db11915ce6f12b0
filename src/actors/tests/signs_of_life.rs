//! Each part shows that it is at work when the supervisor is asked, and so does one that was started again.

use std::time::Duration;

use super::clock::{pass, until};
use super::harness::Harness;
use crate::control::Target;

const ASKED: [&str; 6] = ["dispatcher", "uploader", "notifier", "cleanups", "subscriptions", "certificates"];

#[tokio::test]
async fn every_part_answers_when_the_supervisor_is_asked() {
    let harness = Harness::with_links(1).await;
    harness.until_complete().await;
    pass(Duration::from_secs(60)).await;
    for part in ASKED {
        assert!(harness.silence(part) >= 60.0, "nobody asked the {part}");
    }
    harness.ping().await;
    for part in ASKED {
        until(&format!("the {part} answers"), || harness.silence(part) < 1.0).await;
    }
}

#[tokio::test]
async fn a_part_that_was_started_again_answers() {
    let harness = Harness::with_links(1).await;
    harness.until_complete().await;
    let targets = [
        Target::Dispatcher,
        Target::Uploader,
        Target::Notifier,
        Target::Cleanups,
        Target::Subscriptions,
        Target::Certificates,
    ];
    for (target, part) in targets.into_iter().zip(ASKED) {
        harness.drill(target, part).await;
        // The question is lost with the dead one, or its successor answers it.
        harness.ping().await;
        pass(Duration::from_secs(60)).await;
        harness.ping().await;
        until(&format!("the next {part} answers"), || harness.silence(part) < 1.0).await;
    }
}
