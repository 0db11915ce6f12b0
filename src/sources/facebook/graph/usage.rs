//! The usage headers: how much of a budget is spent, in percent.
//!
//! They appear only after enough traffic, one of them is no longer documented, and all are JSON in a header. So they
//! are read leniently: what cannot be read counts as absent, never as an error.

use std::time::Duration;

use serde_json::Value;

use super::json;

/// The longest header that is parsed, in bytes; up to 32 objects are documented.
const MAX_HEADER: usize = 16 * 1024;

/// How much of a page's budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageUsage {
    /// The highest of the percentages given.
    pub percent: u32,
    /// Until when Meta refuses, as time from now; zero when it does not.
    pub regain: Duration,
}

/// The budgets, as an answer's headers report them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The app's, in percent.
    pub app: Option<u32>,
    /// The page's.
    pub page: Option<PageUsage>,
}

impl Usage {
    /// Reads `X-App-Usage`, `X-Business-Use-Case-Usage` and `X-Page-Usage`.
    pub fn read(app: Option<&str>, business: Option<&str>, page: Option<&str>) -> Usage {
        let app = parse(app).as_ref().and_then(percent);
        let flat = parse(page).as_ref().and_then(percent).map(|percent| PageUsage { percent, regain: Duration::ZERO });
        let pages = parse(business).as_ref().and_then(business_usage);
        let worse = |a: PageUsage, b: PageUsage| PageUsage {
            percent: a.percent.max(b.percent),
            regain: a.regain.max(b.regain),
        };
        let page = match (flat, pages) {
            (Some(a), Some(b)) => Some(worse(a, b)),
            (a, b) => a.or(b),
        };
        Usage { app, page }
    }
}

fn parse(header: Option<&str>) -> Option<Value> {
    let header = header.filter(|header| header.len() <= MAX_HEADER)?;
    serde_json::from_str(header).ok()
}

/// The highest of the three percentages.
fn percent(usage: &Value) -> Option<u32> {
    let of = |key: &str| usage.get(key).and_then(Value::as_f64).filter(|p| *p >= 0.0);
    let highest = ["call_count", "total_time", "total_cputime"].into_iter().filter_map(of).reduce(f64::max)?;
    Some(highest.min(1000.0) as u32)
}

/// The worst of the entries about pages. Entries about messenger, instagram and the like are other budgets.
fn business_usage(usage: &Value) -> Option<PageUsage> {
    let lists = usage.as_object()?.values().filter_map(Value::as_array);
    let entries = lists.flatten().take(64);
    let about_pages = entries.filter(|entry| entry.get("type").is_none_or(|kind| kind == "pages"));
    about_pages
        .filter_map(|entry| {
            let minutes = json::integer(entry, "estimated_time_to_regain_access").unwrap_or(0).clamp(0, 24 * 60);
            let regain = Duration::from_secs(minutes as u64 * 60);
            let percent = percent(entry).or((minutes > 0).then_some(100))?;
            Some(PageUsage { percent, regain })
        })
        .reduce(|a, b| PageUsage { percent: a.percent.max(b.percent), regain: a.regain.max(b.regain) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_headers_are_read() {
        let usage = Usage::read(
            Some(r#"{"call_count":28,"total_time":25,"total_cputime":31}"#),
            Some(
                r#"{"123":[{"type":"pages","call_count":97,"total_cputime":23,"total_time":23,"estimated_time_to_regain_access":5},
                    {"type":"messenger","call_count":100,"estimated_time_to_regain_access":600}]}"#,
            ),
            Some(r#"{"call_count":98}"#),
        );
        assert_eq!(usage.app, Some(31));
        assert_eq!(usage.page, Some(PageUsage { percent: 98, regain: Duration::from_secs(300) }));
    }

    #[test]
    fn junk_counts_as_absent() {
        for junk in ["", "no", "[]", "{}", "null", r#"{"1":{}}"#, r#"{"call_count":"x"}"#, r#"{"call_count":-1}"#] {
            assert_eq!(Usage::read(Some(junk), Some(junk), Some(junk)), Usage::default(), "{junk}");
        }
        let far =
            r#"{"1":[{"type":"pages","call_count":1e300,"estimated_time_to_regain_access":9223372036854775807}]}"#;
        let page = Usage::read(None, Some(far), None).page.unwrap();
        assert_eq!((page.percent, page.regain), (1000, Duration::from_secs(86_400)));
    }

    proptest! {
        #[test]
        fn nothing_breaks_the_reading(text in ".{0,100}") {
            Usage::read(Some(&text), Some(&text), Some(&text));
        }
    }
}
