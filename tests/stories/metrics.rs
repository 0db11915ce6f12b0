//! `/metrics` as a scraper meets it: Prometheus text for everybody, OpenMetrics for those who ask for it.

use pagesyncd::sandbox::fault::Fault;

use crate::harness::promtool::promtool;
use crate::harness::{Answer, Harness, delivery, free_port, until};

const PROMETHEUS: &str = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

async fn scrape(harness: &Harness, address: &str, accept: Option<&str>) -> Answer {
    let request = harness.http.get(format!("http://{address}/metrics"));
    harness.send(if let Some(accept) = accept { request.header("accept", accept) } else { request }).await
}

/// The samples that the reference has, by the rows of its table.
fn documented(sample: &str) -> bool {
    let reference = include_str!("../../docs/reference.md");
    let name = sample.split(['{', ' ']).next().unwrap();
    let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| name.strip_suffix(part));
    let is_row = |name: &str| ["`", "{"].iter().any(|end| reference.contains(&format!("\n| `{name}{end}")));
    is_row(name) || parts.into_iter().any(is_row)
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
    if let Some((passed, said)) = promtool(&["check", "metrics"], &text).await {
        assert!(passed && said.is_empty(), "{said}\n{text}");
    }
    let lost: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !documented(line)).collect();
    assert!(lost.is_empty(), "the reference lacks {lost:?}");
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
