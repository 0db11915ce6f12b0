//! A moment as each language writes it, in UTC.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::language::Language;
use crate::core::model::WallTime;

const MONTHS: [[&str; 12]; 5] = [
    [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ],
    [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
    [
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ],
    [
        "janeiro",
        "fevereiro",
        "março",
        "abril",
        "maio",
        "junho",
        "julho",
        "agosto",
        "setembro",
        "outubro",
        "novembro",
        "dezembro",
    ],
];

impl Language {
    /// A moment to the minute. Programs find it to the second in the attribute.
    pub(in crate::http) fn moment(self, at: WallTime) -> Markup {
        html! { time datetime=(at.rfc3339()) { (self.moment_text(at)) } }
    }

    fn moment_text(self, at: WallTime) -> String {
        let seconds = i64::try_from(at.0 / 1000).unwrap_or_default();
        let Ok(utc) = OffsetDateTime::from_unix_timestamp(seconds) else { return at.rfc3339() };
        let month = self.among(MONTHS)[usize::from(u8::from(utc.month())) - 1];
        let (day, year) = (utc.day(), utc.year());
        let date = match self {
            Language::English => format!("{day} {month} {year}"),
            Language::German => format!("{day}. {month} {year}"),
            Language::French if day == 1 => format!("1er {month} {year}"),
            Language::French => format!("{day} {month} {year}"),
            Language::Portuguese if day == 1 => format!("1º de {month} de {year}"),
            Language::Spanish | Language::Portuguese => format!("{day} de {month} de {year}"),
        };
        format!("{date}, {:02}:{:02} UTC", utc.hour(), utc.minute())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_each_language_writes_them() {
        let of = |seconds: u64| Language::ALL.map(|language| language.moment_text(WallTime(seconds * 1000 + 999)));
        assert_eq!(
            of(1_772_323_445),
            [
                "1 March 2026, 00:04 UTC",
                "1. März 2026, 00:04 UTC",
                "1er mars 2026, 00:04 UTC",
                "1 de marzo de 2026, 00:04 UTC",
                "1º de março de 2026, 00:04 UTC",
            ]
        );
        assert_eq!(of(1_798_761_599)[0], "31 December 2026, 23:59 UTC");
        assert_eq!(of(1_798_761_599)[3], "31 de diciembre de 2026, 23:59 UTC");
        let page = Language::German.moment(WallTime(1_772_323_445_000)).into_string();
        assert_eq!(page, "<time datetime=\"2026-03-01T00:04:05Z\">1. März 2026, 00:04 UTC</time>");
    }
}
