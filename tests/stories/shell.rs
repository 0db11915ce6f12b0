//! The scripts with which shells complete the command line, as a shell runs them.

use std::process::Command;

use crate::harness::{Harness, PROGRAM};

/// The script of a shell, from the program.
fn script(shell: &str) -> String {
    let output = Command::new(PROGRAM).args(["completions", shell]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{shell}");
    String::from_utf8(output.stdout).unwrap()
}

/// The words that bash offers for the last of these.
fn offered(words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let before = words[words.len() - 2];
    let last = words[words.len() - 1];
    let asked = format!(
        "{}\nCOMP_WORDS=({}); COMP_CWORD={}; _pagesyncd pagesyncd '{last}' '{before}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script("bash"),
        quoted.join(" "),
        words.len() - 1,
    );
    let output = Command::new("bash").args(["--norc", "-c", &asked]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_completes_verbs_flags_and_the_values_of_flags() {
    assert_eq!(offered(&["pagesyncd", "links", "--source", ""]), ["facebook", "shopify"]);
    assert_eq!(offered(&["pagesyncd", "unlink", "--source", "sh"]), ["shopify"]);
    assert_eq!(offered(&["pagesyncd", "links", "--health", "s"]), ["shop_gone", "scope_missing"]);
    assert!(offered(&["pagesyncd", "sta"]).contains(&"status".to_owned()));
    assert!(offered(&["pagesyncd", "export", "--pass"]).contains(&"--passphrase-file".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shell_has_its_script_and_no_other_word_names_one() {
    for (shell, sign) in [("bash", "complete -F _pagesyncd"), ("zsh", "#compdef pagesyncd"), ("fish", "complete -c")] {
        let script = script(shell);
        for word in [sign, "shopify-toml", "facebook", "passphrase-file"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    let harness = Harness::plan().build().await;
    let output = harness.run(&["completions", "tcsh"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{said}");
    assert!(["bash", "zsh", "fish"].iter().all(|shell| said.contains(shell)), "{said}");
    harness.finish().await;
}
