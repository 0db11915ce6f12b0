//! The shipped alert rules over the metrics of a daemon as it really is: a link that waits for a person raises a ticket
//! and nothing else, and a bucket that refuses writes raises an alarm.

use std::fmt::Write;
use std::path::Path;

use pagesyncd::sandbox::fault::{Call, Fault, Scope};

use crate::harness::promtool::promtool;
use crate::harness::{Harness, delivery, until};

/// The series of a scrape, as they are when nothing changes for an hour and a half, in the form of a test of rules.
fn lasting(scrape: &str) -> String {
    let mut series = String::new();
    let up = "up 1";
    for sample in scrape.lines().filter(|line| !line.starts_with('#')).chain([up]) {
        let (name, value) = sample.rsplit_once(' ').unwrap();
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let comma = if labels == "}" { "" } else { "," };
        let name = format!("{name}{{job=\"pagesyncd\",instance=\"a:9464\"{comma}{labels}").replace('\'', "''");
        writeln!(series, "      - series: '{name}'\n        values: '{value}x120'").unwrap();
    }
    series
}

/// Lets the rules see this scrape for an hour and a half. These alerts and no others must fire then.
pub async fn fires(harness: &Harness, scrape: &str, alerts: &[&str]) {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/prometheus/pagesyncd.rules.yml");
    let mut test = format!("rule_files:\n  - {}\nevaluation_interval: 1m\ntests:\n", rules.display());
    write!(test, "  - interval: 1m\n    input_series:\n{}", lasting(scrape)).unwrap();
    test += "    promql_expr_test:\n      - expr: count by (alertname, severity) (ALERTS{alertstate=\"firing\"})\n        \
             eval_time: 90m\n        exp_samples:\n";
    if alerts.is_empty() {
        test = test.trim_end().to_owned() + " []\n";
    }
    for alert in alerts {
        let (name, severity) = alert.split_once(' ').unwrap();
        let labels = format!("{{alertname=\"{name}\", severity=\"{severity}\"}}");
        writeln!(test, "          - labels: '{labels}'\n            value: 1").unwrap();
    }
    let file = harness.scratch_dir().join("alerts.test.yml");
    std::fs::write(&file, &test).unwrap();
    if let Some((passed, said)) = promtool(&["test", "rules", file.to_str().unwrap()], "").await {
        assert!(passed, "{said}\n{scrape}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_waits_for_a_person_is_a_ticket_and_a_bucket_that_refuses_writes_is_an_alarm() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    harness.until_true(user, &harness.pages()).await;
    fires(&harness, &harness.metrics().await, &[]).await;

    // The person changed the password, and the Page changes.
    let page = harness.nth(0);
    let dead = Fault::Code { code: 190, subcode: 460 };
    harness.world().set_fault_for(dead, Scope { call: Some(Call::ReadPage), ..Scope::page(&page) });
    harness.sync(&page).await;
    until("the link is parked", async || harness.health(&page).await == "needs_relink").await;
    assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    until("its read waits", async || harness.metric("pagesyncd_due_parked").await == 1.0).await;
    let ticket = "PagesyncdLinksWaitForPerson info";
    fires(&harness, &harness.metrics().await, &[ticket]).await;

    harness.world().set_fault(Fault::SpacesRefused, true);
    harness.world().edit_page(&harness.nth(1), "name", "Not written yet".into()).unwrap();
    harness.sync(&harness.nth(1)).await;
    let spaces = "pagesyncd_dependency_up{dependency=\"spaces\"}";
    assert_eq!(harness.metric("pagesyncd_dependency_up{dependency=\"store\"}").await, 1.0);
    until("a write has failed", async || {
        let metrics = harness.metrics().await;
        [format!("{spaces} 0"), "pagesyncd_outbox 1".into()].iter().all(|line| metrics.lines().any(|l| l == line))
    })
    .await;
    let alarms = ["PagesyncdNotReady critical", "PagesyncdSpacesFailing critical", ticket];
    fires(&harness, &harness.metrics().await, &alarms).await;
    harness.world().clear_faults();
    harness.finish().await;
}
