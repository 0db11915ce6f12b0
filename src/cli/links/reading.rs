//! Reads the list of links in the daemon's answer, one link after the other, as they arrive.

use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::super::admin::broke_off;
use crate::exit::{self, Failure};

const BUFFER: usize = 64 << 10;

/// Why a list is not printed to its end.
pub(super) enum Broken {
    /// The daemon did not answer to the end.
    Answer(Failure),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Output(error)
    }
}

/// Hands over each link of `{"links":[…]}`, or of the list with another name, as soon as it has arrived. The first link
/// that is refused, or that is enough, ends the reading.
pub(super) fn each(
    arriving: impl Read,
    name: &'static str,
    mut take: impl FnMut(Value) -> io::Result<ControlFlow<()>>,
) -> Result<(), Broken> {
    let mut ended = None;
    let mut pass_on = |link| match take(link) {
        Ok(ControlFlow::Continue(())) => true,
        Ok(ControlFlow::Break(())) => {
            ended = Some(Ok(()));
            false
        }
        Err(error) => {
            ended = Some(Err(error));
            false
        }
    };
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER, arriving));
    let read = json.deserialize_map(Document(name, &mut pass_on)).and_then(|()| json.end());
    match (ended, read) {
        (Some(ended), _) => ended.map_err(Broken::Output),
        (None, Err(error)) if error.is_io() || error.is_eof() => Err(Broken::Answer(broke_off(&error))),
        (None, Err(error)) => {
            let what = format!("the daemon answered something strange: {error}");
            Err(Broken::Answer(Failure::new(exit::INTERNAL, what, "")))
        }
        (None, Ok(())) => Ok(()),
    }
}

/// Reads the document.
struct Document<'a, F>(&'static str, &'a mut F);

impl<'de, F: FnMut(Value) -> bool> Visitor<'de> for Document<'_, F> {
    type Value = ();

    fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        text.write_str("a document with a list of links")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                map.next_value_seed(Links(self.1))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Reads the list in it.
struct Links<'a, F>(&'a mut F);

impl<'de, F: FnMut(Value) -> bool> Visitor<'de> for Links<'_, F> {
    type Value = ();

    fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        text.write_str("a list of links")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pages: A) -> Result<(), A::Error> {
        while let Some(page) = pages.next_element()? {
            if !(self.0)(page) {
                return Err(A::Error::custom("nobody reads on"));
            }
        }
        Ok(())
    }
}

impl<'de, F: FnMut(Value) -> bool> DeserializeSeed<'de> for Links<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, list: D) -> Result<(), D::Error> {
        list.deserialize_seq(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole() -> String {
        json!({"version": 1, "pages": [{"a": 1}, {"b": 2}, {"c": 3}]}).to_string()
    }

    #[test]
    fn a_list_that_breaks_off_is_a_failure() {
        for end in 0..whole().len() {
            let ended = each(&whole().as_bytes()[..end], "pages", |_| Ok(ControlFlow::Continue(())));
            assert!(matches!(ended, Err(Broken::Answer(failure)) if failure.code == exit::UNAVAILABLE), "{end}");
        }
        let ended = each(&b"{\"pages\":7}"[..], "pages", |_| Ok(ControlFlow::Continue(())));
        assert!(matches!(ended, Err(Broken::Answer(failure)) if failure.code == exit::INTERNAL));
    }

    #[test]
    fn a_reader_who_has_seen_enough_ends_the_list() {
        let mut taken = 0;
        let ended = each(whole().as_bytes(), "pages", |_| {
            taken += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        });
        assert!(matches!(ended, Err(Broken::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe));
        let ended = each(whole().as_bytes(), "pages", |_| {
            taken += 1;
            Ok(if taken == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        assert!(ended.is_ok());
        assert_eq!(taken, 3);
    }
}
