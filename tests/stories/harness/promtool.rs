//! Prometheus' own tool, where it is installed (Debian package `prometheus`).

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Whether it succeeded, and all that it wrote; `None` where it is not installed and not required.
pub async fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        let required = std::env::var("PAGESYNCD_PROMTOOL_TESTS").is_ok_and(|v| v == "require");
        assert!(!required, "promtool is not installed");
        eprintln!("no promtool: its verdict on `promtool {}` is left out", arguments.join(" "));
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    // It may end before it has read everything.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Some((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}
