//! The texts of the HTML pages, in every language of [`language::Language`].
//!
//! Each file below has the texts of one kind of page. A text is a method of `Language`, so that a text without a
//! translation, or a call without a value for a placeholder, does not compile. Tests compare the placeholders of the
//! translations.

mod catalogue;
pub(super) mod date;
mod dead_ends;
mod deletion;
mod installation;
pub(super) mod language;
mod layout;
mod login;
mod login_result;
mod stopped;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::catalogue::Entry;
    use super::language::Language;
    use super::{dead_ends, deletion, installation, layout, login, login_result, stopped};

    fn all() -> Vec<&'static Entry> {
        let files = [
            dead_ends::ALL,
            deletion::ALL,
            installation::ALL,
            layout::ALL,
            login::ALL,
            login_result::ALL,
            stopped::ALL,
        ];
        files.into_iter().flatten().collect()
    }

    /// The names in braces, each as often as it stands there.
    fn placeholders(text: &str) -> Vec<&str> {
        let mut found: Vec<_> = text.split('{').skip(1).map(|rest| rest.split_once('}').expect("a brace").0).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn every_translation_has_exactly_the_placeholders_of_its_text() {
        for Entry { name, slots, texts } in all() {
            let mut wanted = slots.to_vec();
            wanted.sort_unstable();
            for (language, text) in Language::ALL.iter().zip(texts) {
                assert_eq!(placeholders(text), wanted, "{name} in {language:?}: {text}");
            }
        }
    }

    #[test]
    fn every_text_is_translated_once_and_written_with_care() {
        let entries = all();
        assert!(entries.len() > 60, "{}", entries.len());
        let names: BTreeSet<_> = entries.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), entries.len(), "a name stands twice");
        for Entry { name, texts, .. } in entries {
            for text in texts {
                assert!(!text.trim().is_empty() && !text.contains("  "), "{name}: {text}");
                assert_eq!(text.trim_end(), *text, "{name}: {text}");
                let end = |text: &str| text.trim_end_matches(['"', '”', '“', '»', '\u{a0}']).chars().next_back();
                let stop = |text: &str| end(text).filter(|c| ".:?!".contains(*c));
                assert_eq!(stop(text), stop(texts[0]), "{name} ends otherwise than in English: {text}");
            }
            let distinct: BTreeSet<_> = texts.iter().collect();
            assert_eq!(distinct.len(), texts.len(), "{name} is not translated: {texts:?}");
        }
    }

    #[test]
    fn each_language_keeps_one_form_of_address() {
        // German "Sie", French "vous", Spanish "usted", Portuguese "você".
        let informal: [&[&str]; 5] = [
            &[],
            &["du", "dir", "dich", "dein", "deine", "deiner", "deinen", "euch", "eure"],
            &["tu", "te", "toi", "ton", "ta", "tes"],
            &["tú", "te", "ti", "tu", "tus", "vosotros", "puedes", "inténtalo"],
            &["tu", "te", "teu", "tua", "vós"],
        ];
        for Entry { name, texts, .. } in all() {
            for (text, forbidden) in texts.iter().zip(informal) {
                let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
                let found: Vec<_> = words.filter(|word| forbidden.contains(&word.as_str())).collect();
                assert!(found.is_empty(), "{name}: {found:?} in {text}");
            }
        }
    }
}
