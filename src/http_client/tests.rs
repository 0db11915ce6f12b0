use super::*;

const DAY: &str = "Sun, 22 Nov 2026";

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, text)| (name.clone(), text.parse().unwrap())).collect()
}

#[test]
fn a_wait_in_seconds_is_read_and_bounded() {
    let asked = |text: &str| retry_after(&headers(&[(RETRY_AFTER, text)]));
    assert_eq!(asked(" 7 "), Some(Duration::from_secs(7)));
    assert_eq!(asked("99999999999"), Some(LONGEST_HINT));
    assert_eq!((asked("-1"), asked("soon"), asked("")), (None, None, None));
    assert_eq!(asked("0"), None, "no wait is no hint: the caller's own backoff holds");
    assert_eq!(retry_after(&HeaderMap::new()), None);
}

#[test]
fn a_wait_until_a_date_is_read_against_the_answers_own_clock() {
    let asked = |until: &str, date: &str| retry_after(&headers(&[(RETRY_AFTER, until), (DATE, date)]));
    let date = format!("{DAY} 10:00:00 GMT");
    assert_eq!(asked(&format!("{DAY} 10:00:07 GMT"), &date), Some(Duration::from_secs(7)));
    assert_eq!(asked("Sunday, 22-Nov-26 10:01:00 GMT", &date), Some(Duration::from_secs(60)), "RFC 850");
    assert_eq!(asked("Sun Nov 22 10:02:00 2026", &date), Some(Duration::from_secs(120)), "asctime");
    assert_eq!(asked("Sun, 22 Nov 2099 10:00:00 GMT", &date), Some(LONGEST_HINT));
    assert_eq!((asked(&date, &date), asked(&format!("{DAY} 09:00:00 GMT"), &date)), (None, None));
    let in_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
    let without_date = retry_after(&headers(&[(RETRY_AFTER, &in_a_minute)])).unwrap();
    assert!((50..=60).contains(&without_date.as_secs()), "{without_date:?}");
}

#[test]
fn the_difference_between_two_clocks_is_in_minutes() {
    let now = httpdate::parse_http_date(&format!("{DAY} 10:00:00 GMT")).unwrap();
    let off = |date: &str| clock_difference(&headers(&[(DATE, date)]), now);
    assert_eq!(off(&format!("{DAY} 07:57:30 GMT")).as_deref(), Some("2h 2m ahead of"));
    assert_eq!(off(&format!("{DAY} 10:20:00 GMT")).as_deref(), Some("20m behind"));
    assert_eq!(off("yesterday"), None);
}

#[tokio::test]
async fn the_address_is_left_out() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = client(Duration::from_secs(5), &Trust::default()).build().unwrap();
    let error = client.get(format!("http://{free}/x?secret=hush")).send().await.unwrap_err();
    let text = describe("out of reach", error);
    assert!(text.starts_with("out of reach: ") && !text.contains("hush"), "{text}");
}
