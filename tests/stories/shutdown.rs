//! The end: requests under way get their answer, what is owed stays owed, and the exit code says that all is well.

use std::time::{Duration, Instant};

use pagesyncd::sandbox::fault::Fault;
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Harness, delivery, until};

/// A delivery that the daemon is reading, and of which the last byte is missing.
async fn half_sent(harness: &Harness, body: &str) -> (TcpStream, String) {
    let address = harness.base.strip_prefix("http://").unwrap();
    let signature = harness.world().sign(body.as_bytes());
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /facebook/webhook HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: {signature}\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The daemon says that it began to read the body.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (most, last) = body.split_at(body.len() - 1);
    stream.write_all(most.as_bytes()).await.unwrap();
    (stream, last.to_owned())
}

async fn door_is_closed(harness: &Harness) {
    let address = harness.base.strip_prefix("http://").unwrap();
    until("the listener is closed", async || TcpStream::connect(address).await.is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_gets_its_answer_and_is_kept() {
    for signal in [SIGTERM, SIGINT] {
        let harness = Harness::plan().start().await;
        let user = harness.linked().await;
        let page = harness.nth(0);
        harness.world().set_fault(Fault::WebhooksLost, true);
        harness.world().edit_page(&page, "name", "Edited at the last moment".into()).unwrap();
        let (mut stream, last) = half_sent(&harness, &delivery(&[&page])).await;
        harness.daemon.signal(signal).unwrap();
        door_is_closed(&harness).await;
        stream.write_all(last.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        assert_eq!(harness.daemon.wait().await, Some(0));
        harness.daemon.start().await.unwrap();
        until("the announced change is written", async || harness.is_true(user, &page)).await;
        harness.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_ends_well_and_loses_nothing() {
    let harness = Harness::plan().pages(10).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    for round in 0..3 {
        let accepted = "pagesyncd_webhook_deliveries_total{result=\"accepted\"}";
        let before = harness.metric(accepted).await;
        let (world, edited) = (harness.world().clone(), pages.clone());
        let editing = tokio::spawn(async move {
            for number in 0..30 {
                for page in &edited {
                    world.edit_page(page, "name", format!("Round {round}, edit {number} of {page}").into()).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        until("some were taken", async || harness.metric(accepted).await >= before + 3.0).await;
        let started = Instant::now();
        harness.restart().await;
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        editing.await.unwrap();
    }
    until("every webhook is delivered", async || harness.world().undelivered() == 0).await;
    harness.until_true(user, &pages).await;
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_graph_and_spaces_that_hang() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.world().set_fault(Fault::SpacesHang, true);
    for page in &pages[..3] {
        harness.world().edit_page(page, "name", format!("Hangs in Spaces {page}").into()).unwrap();
    }
    until("three writes hang", async || harness.status().await["outbox"] == 3).await;
    harness.world().set_fault(Fault::GraphHang, true);
    for page in &pages[3..] {
        harness.world().edit_page(page, "name", format!("Hangs in Graph {page}").into()).unwrap();
    }
    until("three reads hang", async || harness.status().await["due"] == 3).await;
    let started = Instant::now();
    assert_eq!(harness.daemon.stop().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    harness.world().clear_faults();
    harness.daemon.start().await.unwrap();
    harness.until_true(user, &pages).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.world().set_fault(Fault::SpacesRefused, true);
    harness.world().edit_page(&page, "name", "Owed at the end".into()).unwrap();
    until("a write is owed", async || harness.status().await["outbox"] == 1).await;
    // A request that does not end keeps the first stop busy.
    let (_stream, _) = half_sent(&harness, &delivery(&[&page])).await;
    harness.daemon.signal(SIGTERM).unwrap();
    door_is_closed(&harness).await;
    harness.daemon.signal(SIGTERM).unwrap();
    assert_eq!(harness.daemon.wait().await, Some(143));
    harness.world().clear_faults();
    harness.daemon.start().await.unwrap();
    until("what was owed is written", async || harness.is_true(user, &page)).await;
    harness.finish().await;
}

/// systemd hears a wish for more time before READY, and READY once everything is started.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_is_asked_for_time_until_everything_is_started() {
    let harness = Harness::plan().build().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = tokio::net::UnixDatagram::bind(dir.path().join("notify")).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pagesyncd"));
    command.arg("run").arg("--config").arg(&harness.config).env("NOTIFY_SOCKET", dir.path().join("notify"));
    command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null()).kill_on_drop(true);
    let mut daemon = command.spawn().unwrap();
    let hear = async || {
        let mut message = vec![0; 4096];
        let heard = tokio::time::timeout(crate::harness::LIMIT, socket.recv(&mut message)).await;
        message.truncate(heard.expect("nothing is said").unwrap());
        String::from_utf8(message).unwrap()
    };
    let mut asked = 0;
    let ready = loop {
        let message = hear().await;
        if message.contains("READY=1") {
            break message;
        }
        asked += usize::from(message.starts_with("EXTEND_TIMEOUT_USEC="));
    };
    assert!(asked > 0 && ready.contains("STATUS=0 links"), "{ready}");
    assert_eq!(harness.get("/healthz").await.status, 200, "what is ready answers");
    let pid = daemon.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    while !hear().await.contains("STOPPING=1") {}
    assert_eq!(daemon.wait().await.unwrap().code(), Some(0));
    harness.finish().await;
}

/// A shell that allows core files of any size, and then becomes this command.
fn dumping(script: &str, arguments: &[&std::ffi::OsStr], dir: &std::path::Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(format!("ulimit -c unlimited; {script}")).args(arguments).current_dir(dir).kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_leaves_no_core_file_with_keys_in_it() {
    use std::os::unix::process::ExitStatusExt;
    let harness = Harness::plan().build().await;
    let dir = harness.scratch_dir();
    let control = dumping("kill -ABRT $$", &[], &dir).status().await.unwrap();
    assert_eq!(control.signal(), Some(signal_hook::consts::SIGABRT));
    if !control.core_dumped() {
        println!("skipped: this machine writes no core files");
        return harness.finish().await;
    }
    let program = env!("CARGO_BIN_EXE_pagesyncd").as_ref();
    let mut daemon = dumping("exec \"$0\" run --config \"$1\"", &[program, harness.config.as_os_str()], &dir)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("it answers", async || harness.daemon.ask(http::Method::GET, "/v1/status", "").await.is_some()).await;
    let pid = rustix::process::Pid::from_raw(daemon.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    let ended = daemon.wait().await.unwrap();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(signal_hook::consts::SIGABRT), false));
    harness.finish().await;
}
