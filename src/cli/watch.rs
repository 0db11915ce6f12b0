//! `status --watch`: the state of the daemon again and again, until Ctrl-C. A terminal is drawn anew each time. A pipe
//! gets a block each time, or a JSON document in a line of its own. A daemon that goes away is reported, and awaited.

use std::io::{ErrorKind, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use signal_hook::consts::signal::{SIGINT, SIGTERM};

use super::admin::AdminClient;
use super::output::{self, Paint, Tone};
use super::show::status_text;
use crate::core::model::WallTime;
use crate::exit::{self, Failure};

/// Home, and clear to the end of a line and of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K\n";
const REST_OF_SCREEN: &str = "\x1b[J";

/// The reader of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Screen,
    Pipe,
    Program,
}

pub(super) fn watch(client: &AdminClient, every: Duration, as_json: bool) -> Result<(), Failure> {
    // Ctrl-C is how it ends, so that it is no failure.
    for signal in [SIGINT, SIGTERM] {
        let ends = Arc::new(AtomicBool::new(true));
        let taken = signal_hook::flag::register_conditional_shutdown(signal, i32::from(exit::OK), ends);
        taken.map_err(|e| Failure::new(exit::INTERNAL, format!("signals cannot be handled: {e}"), ""))?;
    }
    let reader = match (as_json, std::io::stdout().is_terminal()) {
        (true, _) => Reader::Program,
        (false, true) => Reader::Screen,
        (false, false) => Reader::Pipe,
    };
    let (paint, mut is_first) = (Paint::of_stdout(), true);
    loop {
        let state = match client.call(Method::GET, "/v1/status", "") {
            Err(failure) if is_first || ![exit::UNAVAILABLE, exit::TRY_AGAIN].contains(&failure.code) => {
                return Err(failure);
            }
            state => state.map_err(|failure| failure.what),
        };
        let text = block(&state, reader, every, paint, is_first);
        match output::write(text.as_bytes()) {
            // The reader has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => output::seen(written)?,
        }
        is_first = false;
        std::thread::sleep(every);
    }
}

/// The output of one interval: the state, or the reason why there is none.
fn block(state: &Result<Value, String>, reader: Reader, every: Duration, paint: Paint, is_first: bool) -> String {
    if reader == Reader::Program {
        let document = state.as_ref().map_or_else(|what| json!({"error": {"message": what}}), Clone::clone);
        return format!("{document}\n");
    }
    let now = WallTime::now().rfc3339();
    let body = match state {
        Ok(value) => status_text(value, paint),
        Err(what) => format!("{}\nwatching for it", paint.text(Tone::Bad, what)),
    };
    if reader == Reader::Pipe {
        return format!("{}at       {now}\n{body}\n", if is_first { "" } else { "\n" });
    }
    let every = humantime::format_duration(every);
    let lines = format!("at       {now}, every {every}, Ctrl-C ends it\n{body}");
    let lines: String = lines.lines().map(|line| format!("{line}{REST_OF_LINE}")).collect();
    format!("{HOME}{}{lines}{REST_OF_SCREEN}", if is_first { REST_OF_SCREEN } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_and_a_pipe_goes_on() {
        let (state, gone) = (Ok(json!({"version": "1"})), Err("no daemon answers".to_owned()));
        let second = Duration::from_secs(1);
        let drawn = block(&state, Reader::Screen, second, Paint::plain(), false);
        assert!(drawn.starts_with(HOME) && drawn.ends_with(REST_OF_SCREEN) && drawn.contains("every 1s"), "{drawn:?}");
        assert!(drawn.lines().count() > 4 && drawn.matches(REST_OF_LINE).count() == drawn.lines().count() - 1);
        let piped = block(&gone, Reader::Pipe, second, Paint::plain(), false);
        assert!(piped.starts_with("\nat ") && piped.ends_with("no daemon answers\nwatching for it\n"), "{piped}");
        assert_eq!(block(&state, Reader::Program, second, Paint::plain(), true), "{\"version\":\"1\"}\n");
        let document = block(&gone, Reader::Program, second, Paint::plain(), true);
        assert_eq!(document, "{\"error\":{\"message\":\"no daemon answers\"}}\n");
    }
}
