//! Readiness is a matter of reads and writes: a cleanup that fails for days leaves the daemon ready.

use pagesyncd::sandbox::fault::{Call, Fault, Scope};

use crate::harness::{Harness, until};

async fn is_ready(harness: &Harness) {
    let answer = harness.get("/readyz").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_that_fails_leaves_the_daemon_ready() {
    let harness = Harness::plan().set("spaces.request_timeout", "1s").start().await;
    harness.linked().await;
    is_ready(&harness).await;

    // At Facebook.
    harness.world().set_fault_for(Fault::GraphUnavailable, Scope::call(Call::Unsubscribe));
    harness.run(&["unlink", &harness.nth(0)]).await;
    until("it is tried twice", async || harness.world().calls(Call::Unsubscribe) >= 2).await;
    is_ready(&harness).await;
    assert_eq!(harness.status().await["cleanups"]["unsubscribe"], 1, "it is still shown");
    harness.world().clear_faults();
    until("it is done", async || harness.status().await["cleanups"].as_object().unwrap().is_empty()).await;

    // In Spaces: a delete whose earlier answer was lost is repeated.
    harness.world().set_fault(Fault::SpacesRefused, true);
    harness.run(&["unlink", &harness.nth(1)]).await;
    harness.crash().await;
    harness.world().clear_faults();
    until("the delete is to be repeated", async || harness.status().await["cleanups"]["delete_again"] == 1).await;
    let before = harness.world().calls(Call::Delete);
    harness.world().set_fault_for(Fault::SpacesWrongSignature, Scope::call(Call::Delete));
    until("it is tried twice", async || harness.world().calls(Call::Delete) >= before + 2).await;
    is_ready(&harness).await;
    harness.world().clear_faults();
    until("it is done", async || harness.status().await["cleanups"].as_object().unwrap().is_empty()).await;
    harness.finish().await;
}
