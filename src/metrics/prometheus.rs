//! The inventory as Prometheus text (format 0.0.4), made from the OpenMetrics text that the library writes.
//!
//! The two agree in their samples and differ in what surrounds them: Prometheus has no type `info`, names a counter's
//! family by its samples (`_total`), and has neither units nor an end mark, nor exemplars or moments of creation.

use std::fmt::Write;

/// The content type of what [`from_openmetrics`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Prometheus text of OpenMetrics text.
pub fn from_openmetrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // `# HELP` precedes `# TYPE` and needs the name that the type decides.
    let mut help = None;
    let mut family = Family::default();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name)) => help = Some((name, words.next().unwrap_or_default())),
            (Some("#"), Some("TYPE"), Some(name)) => {
                family = Family::new(name, words.next().unwrap_or_default());
                if let Some((_, text)) = help.take().filter(|(helped, _)| *helped == name) {
                    // Quotes are escaped in OpenMetrics alone.
                    let _ = writeln!(out, "# HELP {} {}", family.name, text.replace("\\\"", "\""));
                }
                let _ = writeln!(out, "# TYPE {} {}", family.name, family.kind);
            }
            // Units and the end mark.
            (Some("#"), ..) => {}
            _ => {
                let sample = without_exemplar(line);
                if !sample.is_empty() && !family.is_creation(sample) {
                    let _ = writeln!(out, "{sample}");
                }
            }
        }
    }
    out
}

/// A family in Prometheus' words.
#[derive(Default)]
struct Family {
    name: String,
    kind: &'static str,
    /// The sample with the start of the family's count, which Prometheus would take for another metric.
    created: String,
}

impl Family {
    fn new(name: &str, kind: &str) -> Family {
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "gauge" | "stateset" => ("", "gauge"),
            "histogram" => ("", "histogram"),
            "summary" => ("", "summary"),
            _ => ("", "untyped"),
        };
        Family { name: format!("{name}{suffix}"), kind, created: format!("{name}_created") }
    }

    fn is_creation(&self, sample: &str) -> bool {
        let rest = sample.strip_prefix(self.created.as_str());
        !self.created.is_empty() && rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    }
}

/// The sample alone. `#` begins an exemplar only outside of the labels' quotes.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line.trim_end()
}

/// Does this `Accept` prefer OpenMetrics? Prometheus text is the answer to everybody who does not ask.
pub fn prefers_openmetrics(accept: &str) -> bool {
    let quality = |types: &[&str]| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next()?.to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok())?;
            types.contains(&name.as_str()).then_some(quality)
        });
        ranges.fold(0.0, f64::max)
    };
    let open = quality(&["application/openmetrics-text"]);
    open > 0.0 && open >= quality(&["text/plain"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_told_in_prometheus_words() {
        let open = "# HELP a_build The version.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                    # HELP a_hits Hits, \\\"all\\\" of them\\nand more.\n# TYPE a_hits counter\n\
                    a_hits_total{at=\"x # \\\" {y\"} 3 # {trace=\"1\"} 0.5\na_hits_created{at=\"x\"} 1.5\n\
                    # HELP a_wait_seconds Waits.\n# TYPE a_wait_seconds histogram\n# UNIT a_wait_seconds seconds\n\
                    a_wait_seconds_sum 1.5\na_wait_seconds_count 2\na_wait_seconds_bucket{le=\"1.0\"} 1 # {} 0.3\n\
                    a_wait_seconds_bucket{le=\"+Inf\"} 2\n\
                    # TYPE a_created gauge\na_created 7\n# TYPE a_odd unknown\na_odd 1\n# EOF\n";
        let expected = "# HELP a_build_info The version.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
                        # HELP a_hits_total Hits, \"all\" of them\\nand more.\n# TYPE a_hits_total counter\n\
                        a_hits_total{at=\"x # \\\" {y\"} 3\n\
                        # HELP a_wait_seconds Waits.\n# TYPE a_wait_seconds histogram\n\
                        a_wait_seconds_sum 1.5\na_wait_seconds_count 2\na_wait_seconds_bucket{le=\"1.0\"} 1\n\
                        a_wait_seconds_bucket{le=\"+Inf\"} 2\n\
                        # TYPE a_created gauge\na_created 7\n# TYPE a_odd untyped\na_odd 1\n";
        assert_eq!(from_openmetrics(open), expected);
        assert_eq!(from_openmetrics(""), "");
    }

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        for (accept, open) in [
            ("", false),
            ("*/*", false),
            ("text/plain", false),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", false),
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; version=1.0.0", true),
            ("application/openmetrics-text;version=1.0.0;q=0", false),
            // Prometheus 2.42, with OpenMetrics and in its text-only mode.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", false),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.5", false),
        ] {
            assert_eq!(prefers_openmetrics(accept), open, "{accept:?}");
        }
    }
}
