//! The version of the program, of the changelog and of the documents is one.

use std::process::Command;

use super::{files, read, root};

/// The sections of the changelog: heading and text.
fn sections(changelog: &str) -> Vec<(&str, &str)> {
    let sections = changelog.split("\n## ").skip(1);
    sections.map(|section| section.split_once('\n').unwrap_or((section, ""))).map(|(h, t)| (h, t.trim())).collect()
}

/// The numbers of a version.
fn numbers(version: &str) -> Vec<u64> {
    let numbers: Vec<u64> = version.split('.').map_while(|part| part.parse().ok()).collect();
    assert_eq!(numbers.len(), 3, "{version} is no version of a release");
    numbers
}

#[test]
fn the_newest_version_of_the_changelog_is_the_one_of_cargo() {
    let changelog = read("CHANGELOG.md");
    let mut sections = sections(&changelog);
    assert!(sections.iter().all(|(_, text)| !text.is_empty()), "a section of the changelog is empty");
    if sections[0].0 == "Unreleased" {
        sections.remove(0);
    }
    assert_eq!(sections[0].0, env!("CARGO_PKG_VERSION"), "Cargo.toml and the newest release in CHANGELOG.md differ");
    let versions: Vec<_> = sections.iter().map(|(version, _)| numbers(version)).collect();
    assert!(versions.is_sorted_by(|newer, older| newer > older), "the versions do not fall: {versions:?}");
}

#[test]
fn the_release_notes_are_the_section_of_the_changelog() {
    let changelog = read("CHANGELOG.md");
    for (version, text) in sections(&changelog) {
        let notes = Command::new(root().join("packaging/release-notes")).arg(version).output().expect("bash runs");
        assert_eq!(String::from_utf8_lossy(&notes.stdout).trim(), text, "the notes of {version}");
    }
    let unknown = Command::new(root().join("packaging/release-notes")).arg("9.9.9").output().expect("bash runs");
    assert_eq!((unknown.status.code(), unknown.stdout.len()), (Some(1), 0));
}

#[test]
fn documents_name_the_package_of_this_version() {
    let mut found = 0;
    for path in ["docs", "contrib", "README.md"].iter().flat_map(|name| files(&root().join(name))) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let names = text.split("pagesyncd_").skip(1).chain(text.split("pagesyncd-").skip(1));
        for name in names.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            let version = name.split('-').next().unwrap_or_default();
            assert_eq!(version, env!("CARGO_PKG_VERSION"), "a package in {}", path.display());
            found += 1;
        }
    }
    assert!(found >= 4, "{found} names of packages in documents and contrib");
}
