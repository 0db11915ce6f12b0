//! `/metrics` as a scraper meets it: Prometheus text for everybody, OpenMetrics for those who ask for it.

use std::process::Stdio;

use pagesyncd::sandbox::fault::Fault;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::harness::{Answer, Harness, delivery, free_port, until};

const PROMETHEUS: &str = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

async fn scrape(harness: &Harness, address: &str, accept: Option<&str>) -> Answer {
    let request = harness.http.get(format!("http://{address}/metrics"));
    harness.send(if let Some(accept) = accept { request.header("accept", accept) } else { request }).await
}

/// Prometheus' own reader and linter, where it is installed (Debian package `prometheus`).
async fn promtool(text: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        let required = std::env::var("PAGESYNCD_PROMTOOL_TESTS").is_ok_and(|v| v == "require");
        assert!(!required, "promtool is not installed");
        eprintln!("no promtool: its verdict on the metrics is left out");
        return;
    };
    let mut input = child.stdin.take().unwrap();
    input.write_all(text.as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_prometheus_text_unless_openmetrics_is_asked_for() {
    let address = format!("127.0.0.1:{}", free_port());
    let harness = Harness::plan().daemon(|setup| setup.admin_listen = address.clone()).start().await;
    let user = harness.linked().await;
    // Something of everything: deliveries good and bad, a reload, a failed write.
    let page = harness.nth(0);
    assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    assert_eq!(harness.post_hook("{}", &[]).await.status, 401);
    harness.reload("applied").await;
    harness.world().set_fault(Fault::SpacesSlowDown, true);
    harness.world().edit_page(&page, "name", "Not written yet".into()).unwrap();
    until("a write has failed", async || harness.status().await["outbox"] == 1).await;
    harness.world().clear_faults();
    harness.until_true(user, &[page]).await;

    let answer = scrape(&harness, &address, None).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for line in [
        "# TYPE pagesyncd_build_info gauge",
        "# TYPE pagesyncd_links gauge",
        "# TYPE pagesyncd_webhook_deliveries_total counter",
        "pagesyncd_webhook_deliveries_total{result=\"bad_signature\"} 1",
        "# TYPE pagesyncd_webhook_ack_seconds histogram",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT") && !text.contains(" info\n"), "{text}");
    promtool(&text).await;
    assert_eq!(
        scrape(&harness, &address, Some(PROMETHEUS)).await.header("content-type"),
        answer.header("content-type")
    );

    let open = scrape(&harness, &address, Some(OPENMETRICS)).await;
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let open = open.text();
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE pagesyncd_build info\n"), "{open}");
    let samples = |text: &str| -> Vec<String> {
        let names = text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0.to_owned());
        names.collect()
    };
    assert_eq!(samples(&open), samples(&text), "the same samples under the same names");
    harness.finish().await;
}
