use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const SECRETS: &[&str] =
    &[KEY, "the-app-secret-of-this-app", "spaces-secret-key", "thirty-two-characters-and-more-of-state"];
const HOUR: u64 = 3_600_000_000;

/// A daemon's files: a configuration, and the store's folder.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(TempDir::new().unwrap());
        std::fs::create_dir(files.store()).unwrap();
        files
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn text(&self, key: &str) -> String {
        format!(
            "[facebook]\napp_id = \"1234\"\napp_secret = \"the-app-secret-of-this-app\"\nverify_token = \"verify-this-token\"\n\
             [spaces]\nbucket = \"pages\"\naccess_key = \"DO00ACCESS\"\nsecret_key = \"spaces-secret-key\"\n\
             [store]\npath = \"{}\"\nkey = {key}\n\
             [session]\nstate_secret = \"thirty-two-characters-and-more-of-state\"\n",
            self.store().display()
        )
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    /// A daemon with this text in force.
    fn runs(&self, text: &str) -> (Keeper, Loaded) {
        self.write(text);
        let loaded = Config::load(&self.path(), &nothing).unwrap();
        let keyring = Keyring::new(*decode_store_key(&loaded.config.store.key).unwrap(), Vec::new());
        (Keeper::keep(&self.path(), &loaded, &keyring).unwrap(), loaded)
    }

    fn choose(&self) -> Result<Chosen, Findings> {
        choose(&self.path(), &nothing, Some(9 * HOUR))
    }
}

fn nothing(_: &str) -> Option<String> {
    None
}

fn literal() -> String {
    format!("{KEY:?}")
}

#[test]
fn a_start_after_a_crash_takes_the_kept_configuration_in_place_of_a_bad_file() {
    let files = Files::new();
    let good = files.text(&literal());
    let (keeper, loaded) = files.runs(&good);
    let chosen = files.choose().unwrap();
    assert!(chosen.instead.is_none() && chosen.loaded == loaded, "a good file wins");
    for bad in [good.replace("app_id", "app_idd"), good.replace("[facebook]", "[facebook"), good.replace("pages", "")] {
        files.write(&bad);
        let mistakes = Config::load(&files.path(), &nothing).unwrap_err().summary();
        let chosen = files.choose().unwrap();
        let instead = chosen.instead.unwrap();
        assert_eq!((chosen.loaded.config, &instead.error), (loaded.config.clone(), &mistakes));
        assert!(!instead.mistakes.is_empty() && instead.since == keeper.record.since);
        // And after the next crash.
        Keeper::go_on(instead, &loaded.config).unwrap();
        assert!(files.choose().unwrap().instead.is_some());
    }
    files.write(&good);
    assert!(files.choose().unwrap().instead.is_none());
}

#[test]
fn a_start_after_an_orderly_stop_shows_the_mistake_unless_the_machine_was_booted_since() {
    let files = Files::new();
    let good = files.text(&literal());
    let (mut keeper, _) = files.runs(&good);
    keeper.stopped(Some(5 * HOUR)).unwrap();
    files.write(&good.replace("app_id", "app_idd"));
    let at = |clock| choose(&files.path(), &nothing, clock);
    let findings = at(Some(5 * HOUR + 1)).unwrap_err();
    assert!(findings.0.iter().all(|finding| !finding.message.contains("kept")), "{findings}");
    assert!(at(None).is_err());
    assert!(at(Some(60_000_000)).unwrap().instead.is_some());
    // A clock that could not be read at the stop says nothing.
    keeper.stopped(None).unwrap();
    assert!(at(Some(60_000_000)).is_err());
}

#[test]
fn what_the_running_process_refused_is_not_put_in_force_by_a_crash() {
    let files = Files::new();
    let good = files.text(&literal());
    let (mut keeper, before) = files.runs(&good);
    let moved = format!("{good}ttl = \"9d\"\n");
    files.write(&moved);
    let refused = Config::load(&files.path(), &nothing).unwrap();
    keeper.refused(Some(&refused.effective), "some reason").unwrap();
    let chosen = files.choose().unwrap();
    assert_eq!((chosen.loaded.config, chosen.instead.unwrap().error.as_str()), (before.config, "some reason"));
    // Another good file was never refused.
    files.write(&format!("{good}ttl = \"8d\"\n"));
    assert!(files.choose().unwrap().instead.is_none());
    // After an orderly stop the file is followed.
    files.write(&moved);
    keeper.stopped(Some(HOUR)).unwrap();
    let chosen = files.choose().unwrap();
    assert!(chosen.instead.is_none() && chosen.loaded.config == refused.config);
    // A file that could not be used, and can be used now, is used.
    keeper.record.process = Process::Running;
    keeper.refused(None, "a secret's file was empty").unwrap();
    assert!(files.choose().unwrap().instead.is_none());
}

#[test]
fn the_store_key_is_had_from_its_source_or_from_the_broken_file() {
    let files = Files::new();
    std::fs::write(files.0.path().join("key"), KEY).unwrap();
    let good = files.text("{ file = \"key\" }");
    files.runs(&good);
    let state = files.store().display().to_string();
    let env = move |name: &str| (name == "STATE_DIRECTORY").then(|| state.clone());
    let choose = || choose(&files.path(), &env, None);
    // The source is known without the file.
    for bad in ["", "[store]\npath = 3\n"] {
        files.write(bad);
        assert!(choose().unwrap().instead.is_some(), "{bad}");
    }
    std::fs::remove_file(files.path()).unwrap();
    assert!(choose().unwrap().instead.is_some());
    // A key that was replaced is still known to the file.
    std::fs::write(files.0.path().join("key"), OTHER_KEY).unwrap();
    files.write(&good.replace("app_id", "app_idd"));
    let findings = choose().unwrap_err();
    let last = findings.0.last().unwrap();
    assert!(last.message.contains("sealed with key") && last.message.contains("kept configuration"), "{last}");
    let previous =
        good.replace("app_id", "app_idd").replace("[session]", &format!("previous_keys = [{KEY:?}]\n[session]"));
    files.write(&previous);
    assert!(choose().unwrap().instead.is_some());
    // A key that stood in the file goes with it.
    files.runs(&files.text(&literal()));
    files.write("");
    let findings = choose().unwrap_err();
    assert!(findings.0.last().unwrap().message.contains("the store key cannot be read"), "{findings}");
}

#[test]
fn its_folder_is_made_where_the_store_lies_elsewhere() {
    let files = Files::new();
    std::fs::remove_dir(files.store()).unwrap();
    let good = files.text(&literal());
    files.runs(&good);
    assert_eq!(std::fs::metadata(files.store()).unwrap().permissions().mode() & 0o777, 0o700);
    files.write(&good.replace("app_id", "app_idd"));
    assert!(files.choose().unwrap().instead.is_some());
}

#[test]
fn another_configuration_file_does_not_take_it() {
    let files = Files::new();
    let good = files.text(&literal());
    files.runs(&good);
    let other = files.0.path().join("other.toml");
    std::fs::write(&other, good.replace("app_id", "app_idd")).unwrap();
    assert!(choose(&other, &nothing, None).is_err());
}

#[test]
fn the_copy_shows_no_secret_and_survives_what_is_no_copy() {
    let files = Files::new();
    let good = files.text(&literal());
    let (mut keeper, _) = files.runs(&good);
    let file = files.store().join(FILE);
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in SECRETS {
        assert!(!text.contains(secret) && !text.contains(&STANDARD.encode(secret)), "{secret} is in {text}");
    }
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    files.write(&good.replace("app_id", "app_idd"));
    for damage in ["", "{}", "[1]", &text.replace("\"version\":1", "\"version\":2"), &text[..text.len() / 2]] {
        std::fs::write(&file, damage).unwrap();
        assert!(files.choose().is_err(), "{damage}");
    }
    // Bytes that were changed do not open.
    keeper.record.sealed = STANDARD.encode([7; 100]);
    keeper.write().unwrap();
    assert!(files.choose().is_err());
}
