//! JSON bodies of operators' requests. A body that cannot be read, or has a key that is not known, is refused with the
//! name of that key: a misspelt `passphrase` must not cost the seal, nor a misspelt `dry_run` the records.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The longest unknown key that is repeated to its sender.
const LONGEST_KEY: usize = 40;

/// The body as a form. `T` denies unknown fields; `known` names its keys, and `example` shows it whole.
///
/// # Errors
/// One sentence for the sender. It repeats no value, because a value may be a secret.
pub(super) fn read<T: DeserializeOwned>(body: &[u8], known: &[&str], example: &str) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|_| complaint(body, known, example))
}

fn complaint(body: &[u8], known: &[&str], example: &str) -> String {
    let Ok(Value::Object(given)) = serde_json::from_slice(body) else {
        return format!("the body is not {example}");
    };
    let Some(unknown) = given.keys().find(|key| !known.contains(&key.as_str())) else {
        return format!("the body is not {example}");
    };
    let alike = known.iter().map(|key| (strsim::jaro_winkler(unknown, key), *key));
    let nearest = alike.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > 0.7);
    let plain = unknown.len() <= LONGEST_KEY && unknown.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    match nearest {
        Some((_, nearest)) if plain => format!("unknown key {unknown}; is {nearest} meant?"),
        _ if plain => format!("unknown key {unknown}; known are {}", known.join(", ")),
        _ => format!("unknown key; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        #[expect(dead_code, reason = "read alone")]
        passphrase: Option<String>,
    }

    #[test]
    fn a_form_is_read_whole_or_refused_by_name() {
        let form = |body: &str| read::<Form>(body.as_bytes(), &["passphrase"], "{\"passphrase\": \"…\"}").err();
        assert_eq!((form("{}"), form("{\"passphrase\":\"x\"}"), form("{\"passphrase\":null}")), (None, None, None));
        for (body, said) in [
            ("{\"passphrse\":\"hunter2\"}", "unknown key passphrse; is passphrase meant?"),
            ("{\"key\":\"hunter2\"}", "unknown key key; known are passphrase"),
            ("{\"Hunter2 hunter2\":1}", "unknown key; known are passphrase"),
            ("{\"passphrase\":222222}", "the body is not {\"passphrase\": \"…\"}"),
            ("{\"passphrase\":\"hunter2\"", "the body is not {\"passphrase\": \"…\"}"),
            ("\"hunter2\"", "the body is not {\"passphrase\": \"…\"}"),
            ("", "the body is not {\"passphrase\": \"…\"}"),
        ] {
            assert_eq!(form(body).as_deref(), Some(said), "{body}");
        }
    }
}
