//! The languages of the HTML pages, and the choice among them by `Accept-Language`.

use http::{HeaderMap, header};

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Language {
    English,
    German,
    French,
    Spanish,
    /// As it is written in Brazil.
    Portuguese,
}

/// The most of the header that is looked at, in bytes. Browsers send less than a hundred.
const MAX_HEADER: usize = 1024;
/// The quality 1, in thousandths.
const WHOLE: u16 = 1000;

impl Language {
    /// In the order of the texts. The first one is for a reader of none of them.
    pub(in crate::http) const ALL: [Language; 5] =
        [Language::English, Language::German, Language::French, Language::Spanish, Language::Portuguese];

    /// The language that the client likes best, by `Accept-Language` (RFC 9110, 12.5.4).
    pub(in crate::http) fn preferred(headers: &HeaderMap) -> Language {
        let values = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
        let mut left = MAX_HEADER;
        let values = values.map_while(|value| {
            left = left.checked_sub(value.len())?;
            Some(value)
        });
        let ranges: Vec<(&str, u16)> = values.flat_map(|value| value.split(',')).filter_map(range).collect();
        choose(&ranges)
    }

    /// The tag of the pages.
    pub(in crate::http) fn tag(self) -> &'static str {
        self.among(["en", "de", "fr", "es", "pt-BR"])
    }

    /// The wording of this language.
    pub(super) fn among<T: Copy>(self, [english, german, french, spanish, portuguese]: [T; 5]) -> T {
        match self {
            Language::English => english,
            Language::German => german,
            Language::French => french,
            Language::Spanish => spanish,
            Language::Portuguese => portuguese,
        }
    }

    /// The language, without a region.
    fn primary(self) -> &'static str {
        self.tag().split('-').next().unwrap_or_default()
    }
}

/// A range with its quality in thousandths. `None` for what is malformed.
fn range(element: &str) -> Option<(&str, u16)> {
    let (name, weight) = match element.split_once(';') {
        Some((name, weight)) => (name, quality(weight.trim())?),
        None => (element, WHOLE),
    };
    let name = name.trim();
    let mut subtags = name.split('-');
    let sound = |text: &str, fits: fn(&u8) -> bool| (1..=8).contains(&text.len()) && text.bytes().all(|b| fits(&b));
    let begins = subtags.next().is_some_and(|first| sound(first, u8::is_ascii_alphabetic));
    let is_range = name == "*" || (begins && subtags.all(|subtag| sound(subtag, u8::is_ascii_alphanumeric)));
    is_range.then_some((name, weight))
}

/// `q=0.8`, in thousandths.
fn quality(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, part) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(WHOLE),
        _ => None,
    }
}

/// The language of the highest quality. Of equal ones a range that names a language goes before `*`, and then the
/// earlier one. A region says nothing: `de-CH` asks for German. A language that only has ranges of quality 0 is refused.
fn choose(ranges: &[(&str, u16)]) -> Language {
    let best = |named: &dyn Fn(&str) -> bool| {
        let found = ranges.iter().enumerate().filter(|(_, (name, _))| named(name));
        // Of equal ones `max_by_key` takes the last.
        found.rev().map(|(at, (_, quality))| (*quality, at)).max_by_key(|(quality, _)| *quality)
    };
    let any = best(&|name| name == "*");
    let ranked = Language::ALL.into_iter().filter_map(|language| {
        let named = best(&|name| {
            let first = name.split('-').next().unwrap_or_default();
            first.eq_ignore_ascii_case(language.primary())
        });
        let (quality, at) = named.or(any)?;
        (quality > 0).then_some((quality, named.is_some(), std::cmp::Reverse(at), language))
    });
    // Under `*` all places are equal, and the first language of the list wins.
    let mut chosen = None;
    for (quality, named, at, language) in ranked {
        if chosen.is_none_or(|(rank, _)| (quality, named, at) > rank) {
            chosen = Some(((quality, named, at), language));
        }
    }
    chosen.map_or(Language::English, |(_, language)| language)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::Language::{English, French, German, Portuguese, Spanish};
    use super::*;

    fn of(values: &[&str]) -> Language {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT_LANGUAGE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Language::preferred(&headers)
    }

    #[test]
    fn the_highest_quality_wins_and_then_the_earlier_place() {
        for (header, wanted) in [
            ("de", German),
            ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", French),
            ("en;q=0.8,es;q=0.9", Spanish),
            ("es,de", Spanish),
            ("de,es", German),
            ("en;q=0.5, de;q=0.5", English),
            ("pt;q=0.001, de;q=0.002", German),
            ("ja, zh;q=0.9, pt-BR;q=0.2", Portuguese),
            ("DE-de ; Q=0.7 , en ; q=0.6", German),
            ("fr;q=1.000, de;q=1", French),
            ("de;q=0.3, fr;q=0.5, de-AT;q=0.9", German),
        ] {
            assert_eq!(of(&[header]), wanted, "{header}");
        }
    }

    #[test]
    fn regions_and_scripts_say_nothing() {
        for (header, wanted) in [
            ("de-CH", German),
            ("de-Latn-CH-1996", German),
            ("pt-PT", Portuguese),
            ("es-419", Spanish),
            ("fr-CA", French),
            ("en-GB, de", English),
            // Other languages that begin with the same letters.
            ("den, fro;q=0.9, esu", English),
        ] {
            assert_eq!(of(&[header]), wanted, "{header}");
        }
    }

    #[test]
    fn a_star_stands_for_all_that_is_not_named() {
        for (header, wanted) in [
            ("*", English),
            ("ja, *;q=0.5", English),
            ("*, de", German),
            ("*, de;q=0.9", English),
            ("en;q=0, *", German),
            ("en;q=0, de;q=0.0, *;q=0.1", French),
            ("*;q=0, es;q=0.1", Spanish),
        ] {
            assert_eq!(of(&[header]), wanted, "{header}");
        }
    }

    #[test]
    fn what_is_refused_is_not_chosen_unless_nothing_is_left() {
        assert_eq!(of(&["de;q=0, fr;q=0.1"]), French);
        assert_eq!(of(&["de;q=0"]), English);
        assert_eq!(of(&["en;q=0"]), English, "English is for the reader of no language of the pages");
        assert_eq!(of(&["*;q=0"]), English);
        assert_eq!(of(&["de-AT;q=0, de;q=0.5, en;q=0.4"]), German);
    }

    #[test]
    fn malformed_elements_are_left_out_and_the_others_count() {
        for bad in [
            "",
            ",",
            " ",
            ";",
            "q=1",
            "de;q=2",
            "de;q=1.001",
            "de;q=0.1234",
            "de;q=",
            "de;q",
            "de;q=-1",
            "de;q=+0.9",
            "de;q=.5",
            "de;q=0.5;x=1",
            "de;level=1",
            "de;q=1;",
            "d e",
            "de_DE",
            "-de",
            "de-",
            "de--CH",
            "deutschland",
            "1de",
            "*-CH",
            "**",
            "de;q=NaN",
            "de;q=0,5x",
            "<script>",
        ] {
            assert_eq!(of(&[bad]), English, "{bad:?}");
            assert_eq!(of(&[&format!("{bad},fr;q=0.4")]), French, "{bad:?}");
        }
        assert_eq!(of(&[]), English);
        assert_eq!(of(&["de;q=1."]), German, "the grammar of RFC 9110 allows it");
    }

    #[test]
    fn several_headers_are_one_list_of_bounded_length() {
        assert_eq!(of(&["en;q=0.5", "de;q=0.7", "fr;q=0.6"]), German);
        assert_eq!(of(&["es", &format!("de,{}", "ja,".repeat(400))]), Spanish);
        assert_eq!(of(&[&"de,".repeat(10_000)]), English, "longer than any browser's");
        assert_eq!(of(&[&format!("{}de", "ja,".repeat(300))]), German);
    }

    #[test]
    fn opaque_bytes_are_no_language() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_bytes(b"de\xff").unwrap());
        assert_eq!(Language::preferred(&headers), English);
    }
}
