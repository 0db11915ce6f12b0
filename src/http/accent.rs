//! The platform's colour on HTML pages, and the colour of text that can be read on it.

/// A colour with the style that puts it on the main button and on the edge of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accent(u32);

impl Accent {
    /// `#rrggbb`
    pub(super) fn parse(text: &str) -> Option<Accent> {
        let digits = text.strip_prefix('#')?;
        let sound = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        sound.then(|| u32::from_str_radix(digits, 16).ok().map(Accent)).flatten()
    }

    /// Relative luminance, as WCAG 2 defines it.
    fn luminance(self) -> f64 {
        let [_, red, green, blue] = self.0.to_be_bytes();
        let channel = |byte: u8| {
            let value = f64::from(byte) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue)
    }

    /// Black or white. The better of both has a contrast of at least 4.58 on any colour, and text needs 4.5.
    fn text(self) -> &'static str {
        let light = self.luminance();
        if 1.05 / (light + 0.05) >= (light + 0.05) / 0.05 { "#ffffff" } else { "#000000" }
    }

    /// The rules that follow the style of the pages. Links keep their own colour, which can be read on the page. The
    /// inner edge shows where the button ends on a page of the same colour.
    pub(super) fn style(self) -> String {
        format!(
            ":root{{--accent:#{:06x};--on-accent:{}}}main{{border-top:4px solid var(--accent)}}\
             .button:not(.second){{box-shadow:inset 0 0 0 1px var(--on-accent)}}",
            self.0,
            self.text()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_on_every_colour_can_be_read() {
        let contrast = |one: f64, other: f64| (one.max(other) + 0.05) / (one.min(other) + 0.05);
        let steps = (0..=255_u32).step_by(5);
        let mut least = f64::MAX;
        for colour in steps.clone().flat_map(|r| {
            let steps = steps.clone();
            steps.clone().flat_map(move |g| steps.clone().map(move |b| (r << 16) | (g << 8) | b))
        }) {
            let accent = Accent(colour);
            let text = Accent::parse(accent.text()).unwrap();
            least = least.min(contrast(accent.luminance(), text.luminance()));
        }
        assert!(least >= 4.5, "{least}");
    }

    #[test]
    fn the_text_follows_the_luminance() {
        for (colour, text) in [
            ("#000000", "#ffffff"),
            ("#ffffff", "#000000"),
            ("#FFD400", "#000000"),
            ("#0a5c36", "#ffffff"),
            ("#777777", "#000000"),
            ("#757575", "#ffffff"),
        ] {
            assert_eq!(Accent::parse(colour).unwrap().text(), text, "{colour}");
        }
        assert!(Accent::parse("#0A5c36").unwrap().style().starts_with(":root{--accent:#0a5c36;--on-accent:#ffffff}"));
    }

    #[test]
    fn nothing_but_six_digits_is_a_colour() {
        for bad in ["", "#", "0a5c36", "#0a5c3", "#0a5c366", "#0a5c3g", "#+a5c36", "red", "#fff}*{", "#ääa"] {
            assert_eq!(Accent::parse(bad), None, "{bad}");
        }
    }
}
