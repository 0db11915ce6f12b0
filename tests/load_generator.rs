//! Tests of the benches' measuring: latencies, CPU times, ratios and counts. A bench has a `main` of its own, so that its
//! tests run from here.
#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests; the bench uses the rest")]

#[path = "../benches/cluster/figures.rs"]
mod figures;
#[path = "../benches/webhooks/load.rs"]
mod load;
#[path = "../benches/webhooks/process.rs"]
mod process;
#[path = "../benches/webhooks/report.rs"]
mod report;

mod load_tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;
    use std::time::Duration;

    use crate::load::{LONGEST, Plan, Target, head, histogram, run};

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const REQUEST: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n";

    /// A server that answers one connection, and stalls once, before this answer.
    fn server(stall_at: usize, stall: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut piece = [0; 512];
            for number in 0.. {
                if stream.read(&mut piece).unwrap_or(0) == 0 {
                    break;
                }
                if number == stall_at {
                    thread::sleep(stall);
                }
                stream.write_all(OK).unwrap();
            }
        });
        address
    }

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        assert_eq!(head(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 7\r\n"), None);
        let whole = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
        assert_eq!(head(whole), Some((401, whole.len())));
        assert_eq!(head(&whole[..whole.len() - 3]), Some((401, whole.len())));
        assert_eq!(head(b"HTTP/1.1 204 No Content\r\n\r\n"), Some((204, 27)));
        assert_eq!(head(b"nonsense\r\n\r\n"), None);
    }

    #[test]
    fn a_stall_counts_for_every_request_that_was_due_in_it() {
        // 200 requests in 200 ms, and an answer that takes 100 ms: about a hundred requests are due in the stall, and
        // the mean of their latencies is half of it. A closed loop would see one slow answer.
        let target = Target { address: server(20, Duration::from_millis(100)), connections: 1, expected: 200 };
        let outcome = run(target, &vec![REQUEST.to_vec(); 200], Plan::Paced(1000)).unwrap();
        assert_eq!((outcome.answered, outcome.unexpected), (200, 0));
        let slow = outcome.latencies.count_between(20_000, LONGEST);
        assert!(slow >= 60, "{slow} requests were slow");
    }

    #[test]
    fn each_request_is_sent_once_and_in_a_closed_loop_a_stall_counts_once() {
        let target = Target { address: server(20, Duration::from_millis(100)), connections: 1, expected: 200 };
        let outcome = run(target, &vec![REQUEST.to_vec(); 200], Plan::Each).unwrap();
        assert_eq!((outcome.answered, outcome.latencies.len()), (200, 200));
        assert!(outcome.latencies.max() >= 100_000 && outcome.took >= Duration::from_millis(100));
    }

    #[test]
    fn a_histogram_holds_long_latencies() {
        let mut latencies = histogram();
        latencies.saturating_record(2_000_000);
        assert!(latencies.max() >= 2_000_000, "{}", latencies.max());
    }

    #[test]
    fn another_status_is_counted_apart() {
        let target = Target { address: server(9, Duration::ZERO), connections: 1, expected: 401 };
        let outcome = run(target, &[REQUEST.to_vec()], Plan::For(Duration::from_millis(50))).unwrap();
        assert!(outcome.answered == 0 && outcome.unexpected > 0);
    }
}

mod process_tests {
    use std::path::Path;

    use crate::process::{Pinning, cpu_time, ticks};

    #[test]
    fn cpu_ticks_are_found_behind_any_program_name() {
        let rest = "S 1 1 1 0 -1 4194560 10 20 30 40 250 50 7 8 20 0 1 0 100 200 300";
        assert_eq!(ticks(&format!("42 (pagesyncd) {rest}")), Some(300));
        assert_eq!(ticks(&format!("42 (a) b ) (c) {rest}")), Some(300));
        assert_eq!(ticks("42 (short) S 1"), None);
    }

    #[test]
    fn the_cpu_time_of_this_process_can_be_read() {
        assert!(cpu_time(std::process::id()).is_ok());
    }

    #[test]
    fn a_server_that_is_not_pinned_runs_as_it_is() {
        let unpinned = Pinning::Unpinned("no taskset".to_owned());
        assert_eq!(unpinned.server(Path::new("/bin/true")).get_program(), "/bin/true");
        assert_eq!(unpinned.wrapper(Path::new("/bin/true"), Path::new("/")).unwrap(), Path::new("/bin/true"));
    }
}

mod report_tests {
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use crate::load::Outcome;
    use crate::report::{Latency, Measure, Row, table};

    fn measure(per_second: f64, cpu: f64, load_busy: f64, unexpected: u64) -> Measure {
        let latency = Latency { p50: 0.5, p99: cpu / 10.0, max: 9.0 };
        Measure { per_second, cpu, busy: 0.5, load_busy, latency, unexpected }
    }

    #[test]
    fn a_table_shows_ratios_beside_the_target_and_notes_below() {
        let yardstick = ("bare", measure(20_000.0, 10.0, 0.99, 0));
        let daemon = measure(15_000.0, 13.0, 0.4, 3);
        let row = Row::Compared { case: "storm", daemon, yardstick, target: "rate ≥ 0.70" };
        let text = table(&[row, Row::Absolute { case: "object", latency: Latency { p50: 1.0, p99: 2.0, max: 3.0 } }]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(lines[..5].iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        assert!(lines[3].contains("| 0.75 ") && lines[3].contains("| 1.30 ") && lines[3].contains("rate ≥ 0.70"));
        assert!(lines[5].contains("load generator used 99 % of a core and limits bare"), "{text}");
        assert!(lines[6].contains("pagesyncd gave 3 answers"), "{text}");
    }

    #[test]
    fn cpu_and_rate_count_every_delivery() {
        let mut latencies = Histogram::new(3).unwrap();
        latencies.record_n(1000, 100).unwrap();
        let outcome = Outcome { answered: 90, unexpected: 10, took: Duration::from_secs(2), latencies };
        let measure = Measure::of(&outcome, Duration::from_secs(1), Duration::from_millis(500));
        assert_eq!((measure.per_second, measure.cpu), (50.0, 10_000.0));
        assert_eq!((measure.busy, measure.load_busy, measure.latency.p50), (0.5, 0.25, 1.0));
    }
}

mod figures_tests {
    use std::time::Duration;

    use crate::figures::{median, median_and_worst, statements_of, table};

    #[test]
    fn a_median_is_found_in_any_order() {
        let seconds = [5, 1, 9].map(Duration::from_secs);
        assert_eq!(median_and_worst(&seconds), (Duration::from_secs(5), Duration::from_secs(9)));
        assert_eq!(median_and_worst(&[]), (Duration::ZERO, Duration::ZERO));
        assert_eq!((median(&[0.9, 0.1, 0.3]), median(&[])), (0.3, 0.0));
    }

    #[test]
    fn messages_of_daemons_are_counted_once_each() {
        let log = "pagesyncd daemon-0|LOG:  statement: begin; set local lock_timeout = 1\n\
                   pagesyncd daemon-0|LOG:  execute <unnamed>: select a\n\tfrom b\n\
                   pagesyncd daemon-1|DETAIL:  parameters: $1 = '...'\n\
                   |LOG:  execute <unnamed>: select pg_database_size(current_database())\n\
                   pagesyncd daemon-1|LOG:  statement: commit\n|LOG:  checkpoint starting: time\n";
        assert_eq!(statements_of(log, "pagesyncd "), 3);
        assert_eq!(statements_of(log, "pagesyncd daemon-1"), 1);
    }

    #[test]
    fn a_plain_table_has_a_rule_below_its_heads() {
        assert_eq!(table(&["a", "b"], &[vec!["1".into(), "2".into()]]), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
