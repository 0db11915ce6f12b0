//! Mistakes of an operator: the program finds them, names their lines, and never guesses.

use std::process::{Output, Stdio};

use http::Method;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::world::state::TokenKind;
use serde_json::{Value, json};

use crate::harness::{ADA, Harness, LIMIT, until};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ada's tokens for pages, as she had them from Facebook.
fn tokens(harness: &Harness) -> Vec<(String, String)> {
    harness.world().look(|s| {
        let alive = s.tokens.iter().filter(|(_, t)| t.kind == TokenKind::Page && t.person == ADA && t.expires_at == 0);
        alive.map(|(text, t)| (t.page.clone().unwrap(), text.clone())).collect()
    })
}

/// Runs `import` over these lines, with the daemon as it is.
async fn import(harness: &Harness, lines: &[Value], more: &[&str]) -> Output {
    let text: String =
        lines.iter().map(|line| format!("{}\n", line.as_str().map_or(line.to_string(), str::to_owned))).collect();
    let file = harness.scratch_dir().join("links.jsonl");
    std::fs::write(&file, text).unwrap();
    let arguments: Vec<&str> = ["import", file.to_str().unwrap()].iter().chain(more).copied().collect();
    harness.run(&arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_names_each_unknown_key_and_ends_with_65() {
    let harness = Harness::plan().pages(3).start().await;
    harness.linked().await;
    let tokens = tokens(&harness);
    for running in [true, false] {
        if !running {
            assert_eq!(harness.daemon.stop().await, Some(0));
        }
        let user = UserId::random();
        let line = |n: usize| json!({"user": user, "page_id": tokens[n].0, "access_token": tokens[n].1});
        let mut misspelt = line(1);
        misspelt["facebook_userid"] = ADA.into();
        let output = import(&harness, &[line(0), misspelt, line(2)], &[]).await;
        assert_eq!(code(&output), 65, "{}", err(&output));
        let said = err(&output);
        for word in ["line 2", "facebook_userid", "facebook_user_id", "1 of 3 lines", "pagesyncd: "] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(out(&output).contains("2 links imported, 1 bad"), "{}", out(&output));
        // The same as a document.
        let output = import(&harness, &[line(0), json!("nonsense")], &["--json"]).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((code(&output), &answer["imported"], &answer["bad"][0]["line"]), (65, &1.into(), &2.into()));
        // Nothing good in it is no other thing.
        assert_eq!(code(&import(&harness, &[json!({})], &[]).await), 65);
        assert_eq!(code(&import(&harness, &[line(0)], &[]).await), 0);
    }
    harness.daemon.start().await.unwrap();
    assert_eq!(harness.status().await["links"], 3 + 2 * 2);
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_given_twice_counts_once_and_the_later_line_counts() {
    let harness = Harness::plan().pages(3).start().await;
    harness.linked().await;
    let tokens = tokens(&harness);
    for running in [true, false] {
        if !running {
            assert_eq!(harness.daemon.stop().await, Some(0));
        }
        let user = UserId::random();
        let line = |n: usize, token: &str| json!({"user": user, "page_id": tokens[n].0, "access_token": token});
        // Within one request, and across several.
        let mut lines = vec![line(0, "EAAPanearlierone"), line(1, "EAAPanearlierone"), line(0, &tokens[0].1)];
        lines.extend((0..2000).map(|_| json!("")));
        lines.extend([line(1, &tokens[1].1), line(2, &tokens[2].1)]);
        let output = import(&harness, &lines, &["--json"]).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((code(&output), &answer["imported"]), (0, &3.into()), "{answer}");
        let repeated = json!([{"line": 1, "by": 3}, {"line": 2, "by": 2004}]);
        assert_eq!((&answer["bad"], &answer["repeated"]), (&json!([]), &repeated));
        // Once more: the links work by now, and the earlier line of the second request does not replace such a token.
        let output = import(&harness, &lines, &[]).await;
        assert!(err(&output).contains("line 1: has the link of line 3"), "{}", err(&output));
        assert!(err(&output).contains("line 2: left as it is"), "{}", err(&output));
        assert!(out(&output).contains("3 links imported, 1 left as they are"), "{}", out(&output));
        if !running {
            harness.daemon.start().await.unwrap();
        }
        harness.until_true(user, &harness.pages()).await;
    }
    harness.complete().await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_people_with_bad_lines_ends_with_65_and_the_good_ones_are_forgotten() {
    let harness = Harness::plan().pages(2).start().await;
    harness.linked().await;
    let list = harness.scratch_dir().join("people.csv");
    for (lines, good) in [("not a number\n990000000000000001\n", 1), ("not a number\n", 0)] {
        std::fs::write(&list, lines).unwrap();
        for more in [&["--json"][..], &["--json", "--dry-run"]] {
            let arguments: Vec<&str> = ["purge", list.to_str().unwrap()].iter().chain(more).copied().collect();
            let output = harness.run(&arguments).await;
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((code(&output), &answer["totals"]["people"]), (65, &good.into()), "{}", err(&output));
            assert!(err(&output).contains("1 lines"), "{}", err(&output));
        }
    }
    std::fs::write(&list, format!("nobody at all\n{ADA}\n")).unwrap();
    let output = harness.run(&["purge", list.to_str().unwrap()]).await;
    assert_eq!((code(&output), err(&output).contains("line 1")), (65, true), "{}", err(&output));
    until("she is forgotten", async || harness.status().await["links"] == 0).await;
    harness.complete().await;
    harness.finish().await;
}

/// A harness in which two users link each of the pages; the users.
async fn shared(harness: &Harness) -> [UserId; 2] {
    let first = harness.linked().await;
    let second = UserId::random();
    let lines: Vec<Value> = tokens(harness)
        .iter()
        .map(|(page, token)| json!({"user": second, "page_id": page, "access_token": token}))
        .collect();
    assert_eq!(code(&import(harness, &lines, &[]).await), 0);
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlink_that_could_mean_several_users_lists_them_and_changes_nothing() {
    let harness = Harness::plan().pages(4).start().await;
    let users = shared(&harness).await;
    let pages = harness.pages();
    let output = harness.run(&["unlink", &pages[0]]).await;
    assert_eq!(code(&output), 64, "{}", out(&output));
    for word in [users[0].to_string(), users[1].to_string(), "2 users".into(), "--user".into(), "--all".into()] {
        assert!(err(&output).contains(&word), "{word}: {}", err(&output));
    }
    let output = harness.run(&["unlink", &pages[0], "--json", "--yes"]).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), answer["links"].as_array().unwrap().len()), (64, 2));
    // The admin API has the same rule, and refuses unknown parameters.
    let path = |query: &str| format!("/v1/pages/{}{query}", pages[0]);
    let (status, answer) = harness.admin(Method::DELETE, &path("?keep_object=true"), "").await;
    assert_eq!((status, &answer["error"]["code"]), (409, &"several_users".into()));
    let listed: Vec<&Value> = answer["links"].as_array().unwrap().iter().map(|link| &link["user"]).collect();
    assert!(users.iter().all(|user| listed.contains(&&json!(user))), "{answer}");
    for query in
        ["?usr=x", "?all=yes", "?all=true&keepobject=1", "?all=true&keep_object=yes", "?all=true&revoke=perhaps"]
    {
        assert_eq!(harness.admin(Method::DELETE, &path(query), "").await.0, 400, "{query}");
    }
    assert_eq!(harness.status().await["links"], 8);
    // One of them, all of them, and a page that has one left.
    let output = harness.run(&["unlink", &pages[0], "--user", &users[0].to_string()]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(code(&harness.run(&["unlink", &pages[0]]).await), 0);
    assert_eq!(code(&harness.run(&["unlink", &pages[1], "--all"]).await), 0);
    assert_eq!(harness.admin(Method::DELETE, &format!("/v1/pages/{}?all=true", pages[2]), "").await.0, 200);
    let both = ["unlink", &pages[3], "--all", "--user", &users[0].to_string()];
    assert_eq!(code(&harness.run(&both).await), 64);
    assert_eq!(harness.status().await["links"], 2);
    harness.complete().await;
    harness.finish().await;
}

/// Runs a verb at a terminal of its own, types the answer, and gives the terminal's content and the exit code.
async fn at_a_terminal(harness: &Harness, arguments: &str, answer: &str) -> (String, i32) {
    let call = format!("{} {arguments} --config {}", env!("CARGO_BIN_EXE_pagesyncd"), harness.config.display());
    let mut command = tokio::process::Command::new("script");
    command.args(["--quiet", "--return", "--command", &call, "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut input, answer.as_bytes()).await.unwrap();
    // The terminal stays open until the verb is over.
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    drop(input);
    (out(&output), code(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_is_asked_before_an_unlink() {
    let harness = Harness::plan().pages(4).start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    for no in ["\n", "n\n", "what?\n"] {
        let (shown, code) = at_a_terminal(&harness, &format!("unlink {}", pages[0]), no).await;
        assert!(shown.contains("[y/N]") && shown.contains(&user.to_string()), "{shown}");
        assert_eq!((code, shown.contains("stays linked")), (64, true), "{shown}");
        assert_eq!(harness.status().await["links"], 4);
    }
    let (shown, code) = at_a_terminal(&harness, &format!("unlink {}", pages[0]), "y\n").await;
    assert_eq!((code, shown.contains("1 unlinked")), (0, true), "{shown}");
    // Its output may go elsewhere: the question still comes to the terminal.
    let quiet = format!("unlink {} >/dev/null 2>&1", pages[1]);
    let (shown, code) = at_a_terminal(&harness, &quiet.replace("unlink", "unlink --all"), "yes\n").await;
    assert_eq!((code, shown.contains("[y/N]")), (0, true), "{shown}");
    let (shown, code) = at_a_terminal(&harness, &format!("unlink {} --yes", pages[2]), "").await;
    assert_eq!((code, shown.contains("[y/N]")), (0, false), "{shown}");
    assert_eq!(harness.status().await["links"], 1);
    // Without a terminal nobody is asked.
    assert_eq!(code_of(&harness, &["unlink", &pages[3]]).await, 0);
    assert_eq!(harness.status().await["links"], 0);
    harness.complete().await;
    harness.finish().await;
}

async fn code_of(harness: &Harness, arguments: &[&str]) -> i32 {
    code(&harness.run(arguments).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_refused_outside_the_bounds_and_with_keys_that_are_unknown() {
    let harness = Harness::plan().start().await;
    let user = UserId::random().to_string();
    for ttl in ["400000d", "401d", "0s", "999ms"] {
        let output = harness.run(&["session", "--user", &user, "--ttl", ttl]).await;
        assert_eq!(code(&output), 64, "{ttl}");
        assert!(err(&output).contains("1s to 400d"), "{ttl}: {}", err(&output));
        let (status, answer) =
            harness.admin(Method::POST, "/v1/sessions", &json!({"user": user, "ttl": ttl}).to_string()).await;
        assert_eq!(
            (status, answer["error"]["message"].as_str().unwrap().contains("1s to 400d")),
            (400, true),
            "{answer}"
        );
    }
    for body in
        [json!({"user": user, "tll": "1h"}), json!({"user": user, "ttl": 3600}), json!({"user": user, "ttl": "long"})]
    {
        assert_eq!(harness.admin(Method::POST, "/v1/sessions", &body.to_string()).await.0, 400, "{body}");
    }
    let output = harness.run(&["session", "--user", &user, "--ttl", "400d", "--json"]).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    harness.keep_secret(answer["session_id"].as_str().unwrap());
    harness.keep_secret(answer["login_url"].as_str().unwrap().split_once("login=").unwrap().1);
    assert_eq!(code(&output), 0);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_name_the_program_that_runs_and_its_configuration() {
    let harness = Harness::plan().pages(2).start().await;
    let call =
        |verb: &str| format!("`{} {verb} --config {}`", env!("CARGO_BIN_EXE_pagesyncd"), harness.config.display());
    let output = harness.run(&["pages"]).await;
    assert!(err(&output).contains(&call("session --user UUID")), "{}", err(&output));
    let output = harness.run(&["sync", "4711"]).await;
    assert!(err(&output).contains(&call("links")), "{}", err(&output));
    harness.finish().await;
}
