//! Alert rules, their tests, their runbook and the dashboard, held together: each alert has a severity, texts and a
//! section of `docs/alerts.md`, and every expression is PromQL over metrics that the reference has.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;

use serde_json::Value;

use super::{REFERENCE, anchors, quoted, read};

const RULES: &str = "contrib/prometheus/pagesyncd.rules.yml";
const TESTS: &str = "contrib/prometheus/pagesyncd.test.yml";
const DASHBOARD: &str = "contrib/grafana/pagesyncd.json";
const ALERTS: &str = "docs/alerts.md";

/// The rules of one kind (`alert`, `record`): the name of each, and its text.
fn rules<'a>(text: &'a str, kind: &str) -> Vec<(&'a str, &'a str)> {
    let starts = ["alert", "record"].map(|kind| format!("\n      - {kind}: "));
    let start = format!("\n      - {kind}: ");
    let rest = text.match_indices(&start).map(|(at, _)| &text[at + start.len()..]);
    rest.map(|rest| {
        let end = starts.iter().filter_map(|start| rest.find(start)).min().unwrap_or(rest.len());
        let (name, body) = rest[..end].split_once('\n').expect("a rule has lines");
        (name, body)
    })
    .collect()
}

/// The text of one key of a rule, which may go over several lines.
fn key<'a>(rule: &'a str, indent: usize, key: &str) -> &'a str {
    let start = format!("{}{key}:", " ".repeat(indent));
    let Some(at) = rule.find(&start) else { return "" };
    let rest = &rule[at + start.len()..];
    // The next key, or a comment beside the keys, is indented as far.
    let lines = rest.match_indices('\n').map(|(at, _)| (at, &rest[at + 1..]));
    let mut ends = lines.filter(|(_, line)| line.len() - line.trim_start_matches(' ').len() <= indent);
    rest[..ends.next().map_or(rest.len(), |(at, _)| at)].trim()
}

/// The names of metrics and of recorded series in an expression.
fn metrics_in(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.contains("pagesyncd_") || word.starts_with("process_")).collect()
}

/// The names of the samples that the rows of the reference stand for.
fn samples(reference: &str) -> BTreeSet<String> {
    let rows = reference.lines().filter(|row| row.starts_with("| `pagesyncd_") || row.starts_with("| `process_"));
    let named = rows.filter_map(|row| {
        let (name, kind) = row.strip_prefix("| `")?.split_once("` | ")?;
        Some((name.split('{').next()?, kind.split(" |").next()?))
    });
    let parts = |(name, kind): (&str, &str)| match kind {
        "histogram" => ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")).to_vec(),
        _ => vec![name.to_owned()],
    };
    named.flat_map(parts).collect()
}

/// The expressions of the panels of a dashboard, rows that are collapsed included.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(values) => values.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON")
}

/// Prometheus' verdict on a file of rules, where its tool is installed (Debian package `prometheus`).
fn check_rules(rules: &str) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(rules.as_bytes()).expect("it is written");
    let Ok(output) = Command::new("promtool").args(["check", "rules"]).arg(file.path()).output() else {
        let required = std::env::var("PAGESYNCD_PROMTOOL_TESTS").is_ok_and(|v| v == "require");
        assert!(!required, "promtool is not installed");
        eprintln!("no promtool: its verdict on the rules is left out");
        return;
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}\n{rules}");
}

#[test]
fn each_alert_has_a_severity_texts_tests_and_a_section_of_its_own() {
    let (text, tests, document) = (read(RULES), read(TESTS), read(ALERTS));
    let alerts = rules(&text, "alert");
    assert!(alerts.len() >= 20, "{alerts:?}");
    for (name, rule) in &alerts {
        let severity = key(rule, 10, "severity");
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: severity {severity:?}");
        for text in ["summary", "description"] {
            assert!(key(rule, 10, text).len() > 15, "{name} lacks a {text}");
        }
        let anchor = name.to_lowercase();
        assert_eq!(key(rule, 10, "runbook"), format!("{ALERTS}#{anchor}"), "{name}");
        assert!(anchors(&document).contains(&anchor), "{ALERTS} has no section {name}");
        assert!(tests.contains(&format!("{{alertname=\"{name}\"}}")), "{TESTS}: {name} fires nowhere");
    }
    let names: BTreeSet<&str> = alerts.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), alerts.len(), "a name stands for one alert");
    let headings = document.lines().filter_map(|line| line.strip_prefix("## Pagesyncd"));
    let lost: Vec<&str> = headings.filter(|name| !names.contains(format!("Pagesyncd{name}").as_str())).collect();
    assert!(lost.is_empty(), "{ALERTS} has sections of alerts that do not exist: {lost:?}");
    let tested = tests.split("{alertname=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let lost: BTreeSet<&str> = tested.filter(|name| !names.contains(name)).collect();
    assert!(lost.is_empty(), "{TESTS} names alerts that do not exist: {lost:?}");
    let silent = tests.matches("exp_samples: []").count();
    assert!(silent >= names.len(), "{TESTS} has {silent} moments without an alert");
}

#[test]
fn rules_and_dashboard_name_metrics_that_exist() {
    let (text, tests, reference) = (read(RULES), read(TESTS), read(REFERENCE));
    let samples = samples(&reference);
    let source = read("src/metrics.rs");
    let registered: Vec<String> = source
        .split("r.register(")
        .skip(1)
        .map(|call| format!("pagesyncd_{}", quoted(call)[0]))
        .chain(quoted(&read("src/metrics/process.rs")).into_iter().filter(|name| name.starts_with("process_")))
        .collect();
    let is_registered = |sample: &String| registered.iter().any(|name| sample.starts_with(name.as_str()));
    let lost: Vec<&String> = samples.iter().filter(|sample| !is_registered(sample)).collect();
    assert!(lost.is_empty(), "{REFERENCE} has metrics that the daemon does not export: {lost:?}");
    let records: BTreeSet<&str> = rules(&text, "record").into_iter().map(|(name, _)| name).collect();
    let is_known = |name: &&str| samples.contains(*name) || records.contains(name);
    for (name, rule) in rules(&text, "alert").into_iter().chain(rules(&text, "record")) {
        let expression = key(rule, 8, "expr");
        assert!(!expression.is_empty(), "{name} has no expression");
        let unknown: Vec<&str> = metrics_in(expression).into_iter().filter(|name| !is_known(name)).collect();
        assert!(unknown.is_empty(), "{RULES}, {name}: {unknown:?}");
    }
    let series: String = tests.lines().filter(|line| line.contains("- series:")).collect();
    let unknown: Vec<&str> = metrics_in(&series).into_iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{TESTS}: {unknown:?}");
    // A dashboard works without the rules.
    let expressions = expressions(&dashboard());
    assert!(expressions.len() >= 30, "{expressions:?}");
    for expression in &expressions {
        let unknown: Vec<&str> = metrics_in(expression).into_iter().filter(|name| !samples.contains(*name)).collect();
        assert!(unknown.is_empty(), "{DASHBOARD}: {unknown:?} in {expression}");
    }
    let shown: BTreeSet<&str> = expressions.iter().flat_map(|expression| metrics_in(expression)).collect();
    let is_shown = |name: &&String| shown.iter().any(|shown| shown.starts_with(name.as_str()));
    let hidden: Vec<&String> = registered.iter().filter(|name| !is_shown(name)).collect();
    assert!(hidden.is_empty(), "{DASHBOARD} does not show {hidden:?}");
}

#[test]
fn rules_and_dashboard_are_promql() {
    check_rules(&read(RULES));
    let variables = [("$__rate_interval", "5m"), ("$job", ".*"), ("$instance", ".*"), ("${source:raw}", "|facebook")];
    let rules = expressions(&dashboard()).into_iter().enumerate().map(|(number, expression)| {
        let filled = variables.iter().fold(expression, |text, (name, value)| text.replace(name, value));
        assert!(!filled.contains('$'), "a variable that is not known: {filled}");
        // A text in JSON is one in YAML.
        format!("      - record: dashboard:panel:{number}\n        expr: {}\n", Value::from(filled))
    });
    check_rules(&format!("groups:\n  - name: dashboard\n    rules:\n{}", rules.collect::<String>()));
}

#[test]
fn the_search_in_rules_finds_names_and_expressions() {
    let text = "rules:\n      - record: job:x:max\n        expr: max(pagesyncd_due)\n\n      - alert: A\n        # a\n        \
                expr: >-\n          job:pagesyncd_x:max > 1\n          and process_a_b{job=\"c\"} == 0\n        for: 5m\n        \
                labels:\n          severity: info\n";
    let [(name, rule)] = rules(text, "alert")[..] else { panic!("one alert") };
    assert_eq!((name, key(rule, 10, "severity"), key(rule, 8, "for")), ("A", "info", "5m"));
    assert_eq!(metrics_in(key(rule, 8, "expr")), ["job:pagesyncd_x:max", "process_a_b"].into());
    assert_eq!(rules(text, "record")[0].0, "job:x:max");
    let reference =
        "| `pagesyncd_a{b}` | gauge | c |\n| `process_d_total` | counter | e |\n| `pagesyncd_f` | histogram | g |";
    let wanted = ["pagesyncd_a", "pagesyncd_f_bucket", "pagesyncd_f_count", "pagesyncd_f_sum", "process_d_total"];
    assert_eq!(samples(reference), wanted.map(str::to_owned).into());
}
