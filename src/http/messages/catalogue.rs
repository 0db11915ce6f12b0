//! The declaration of texts: a text has a name, placeholders, and one wording for each language.

use maud::{Markup, PreEscaped, Render as _};

/// A declared text, for the tests.
#[cfg(test)]
pub(super) struct Entry {
    pub name: &'static str,
    pub slots: &'static [&'static str],
    /// In the order of [`Language::ALL`](super::language::Language::ALL).
    pub texts: [&'static str; 5],
}

/// The text with the values in the place of `{name}`. The text is escaped; a value was escaped when it was rendered.
pub(super) fn fill(text: &str, slots: &[(&str, Markup)]) -> Markup {
    let (mut whole, mut rest) = (String::with_capacity(text.len() + 64), text);
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(before, behind)| Some((before, behind.split_once('}')?)))
    {
        before.render_to(&mut whole);
        if let Some((_, value)) = slots.iter().find(|(slot, _)| *slot == name) {
            whole.push_str(&value.0);
        }
        rest = after;
    }
    rest.render_to(&mut whole);
    PreEscaped(whole)
}

/// Declares texts: `name(placeholder, ...)`, and a wording for each language. Every text becomes a method of
/// [`Language`](super::language::Language) that takes a value for each placeholder.
macro_rules! catalogue {
    ($(
        $name:ident($($slot:ident),*)
            en $en:literal
            de $de:literal
            fr $fr:literal
            es $es:literal
            pt $pt:literal
    )*) => {
        impl $crate::http::messages::language::Language {
            $(
                #[doc = $en]
                pub(in crate::http) fn $name(self $(, $slot: impl maud::Render)*) -> maud::Markup {
                    let text = self.among([$en, $de, $fr, $es, $pt]);
                    $crate::http::messages::catalogue::fill(text, &[$((stringify!($slot), maud::html! { ($slot) })),*])
                }
            )*
        }

        #[cfg(test)]
        pub(super) const ALL: &[$crate::http::messages::catalogue::Entry] = &[$(
            $crate::http::messages::catalogue::Entry {
                name: stringify!($name),
                slots: &[$(stringify!($slot)),*],
                texts: [$en, $de, $fr, $es, $pt],
            }
        ),*];
    };
}

pub(super) use catalogue;

#[cfg(test)]
mod tests {
    use maud::html;

    use super::*;

    #[test]
    fn values_stand_in_their_places_and_all_is_escaped_once() {
        let slots = [("a", html! { strong { "<1>" } }), ("b", html! { "x & y" })];
        let text = fill("{b} < {a}, {b}", &slots).into_string();
        assert_eq!(text, "x &amp; y &lt; <strong>&lt;1&gt;</strong>, x &amp; y");
        // A value is not searched for placeholders.
        assert_eq!(fill("{a}!", &[("a", html! { "{b}" }), ("b", html! { "no" })]).into_string(), "{b}!");
        assert_eq!(fill("plain", &[]).into_string(), "plain");
    }
}
