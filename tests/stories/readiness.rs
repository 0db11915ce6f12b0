//! Readiness is a matter of reads and writes: a cleanup that fails for days leaves the daemon ready.

use pagesyncd::sandbox::fault::{Call, Fault, Scope};

use crate::town::{Town, until};

async fn is_ready(town: &Town) {
    let answer = town.get("/readyz").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_that_fails_leaves_the_daemon_ready() {
    let town = Town::plan().set("spaces.request_timeout", "1s").start().await;
    town.linked().await;
    is_ready(&town).await;

    // At Facebook.
    town.world().set_fault_for(Fault::GraphUnavailable, Scope::call(Call::Unsubscribe));
    town.run(&["unlink", &town.nth(0)]).await;
    until("it is tried twice", async || town.world().calls(Call::Unsubscribe) >= 2).await;
    is_ready(&town).await;
    assert_eq!(town.status().await["chores"]["unsubscribe"], 1, "it is still shown");
    town.world().clear_faults();
    until("it is done", async || town.status().await["chores"].as_object().unwrap().is_empty()).await;

    // In Spaces: a delete whose earlier answer was lost is repeated.
    town.world().set_fault(Fault::SpacesRefused, true);
    town.run(&["unlink", &town.nth(1)]).await;
    town.crash().await;
    town.world().clear_faults();
    until("the delete is to be repeated", async || town.status().await["chores"]["delete_again"] == 1).await;
    let before = town.world().calls(Call::Delete);
    town.world().set_fault_for(Fault::SpacesWrongSignature, Scope::call(Call::Delete));
    until("it is tried twice", async || town.world().calls(Call::Delete) >= before + 2).await;
    is_ready(&town).await;
    town.world().clear_faults();
    until("it is done", async || town.status().await["chores"].as_object().unwrap().is_empty()).await;
    town.finish().await;
}
