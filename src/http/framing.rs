//! A connection's bytes on their way to hyper, for two things that hyper does not do.
//!
//! *A request framed twice.* `Content-Length` beside `Transfer-Encoding` is how requests are smuggled past whoever
//! stands in front. hyper drops the length and goes by the chunks, and by the time a handler sees the request nothing
//! shows it. So the lines of each head are looked at as they pass, and the number of the first request that is framed
//! twice is noted ([`Wire::framed_twice`]). Nothing else is decided here: which bytes are a head follows from the
//! lengths of the requests before it. Where those are not plain (chunks, two lengths, an upgrade) the look ends; hyper
//! goes on or refuses by itself, and the connection is closed after a chunked request, so no head goes unseen.
//!
//! The look is cheap, since every delivery pays for it. A body is skipped by its length. A line of a head that lies whole
//! in what was read is judged by its first byte: only a line that begins with a blank or with a letter of the two names
//! can be one of the two headers, and only those are looked at byte by byte. A line that arrives in pieces is looked at
//! byte by byte in any case. A property holds both ways to the same answer.
//!
//! *An answer that must arrive.* Closing a socket with unread bytes in it makes the kernel send a reset, which can
//! overtake the answer: a client that is answered "too large" half way through its body would see a broken connection.
//! So after the last answer what still comes is read and thrown away for a moment, bounded in time and bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A client that has not finished by then, after the last answer, is cut off.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 << 20;
/// The longest name of a header that is looked at.
const LONGEST_NAME: usize = "transfer-encoding".len();

/// The stream of a connection.
pub(super) struct Wire<S> {
    stream: S,
    heads: Heads,
    framed_twice: Arc<AtomicU64>,
    closing: Option<Closing>,
}

struct Closing {
    until: Pin<Box<Sleep>>,
    left: usize,
    shut: bool,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Wire { stream, heads: Heads::default(), framed_twice: Arc::default(), closing: None }
    }

    /// The number, from 1, of the request that was framed twice; 0 while there was none.
    pub(super) fn framed_twice(&self) -> Arc<AtomicU64> {
        self.framed_twice.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.heads.pass(&buf.filled()[before..]);
        if self.heads.twice {
            self.framed_twice.store(self.heads.count, Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Wire { stream, closing, .. } = self.get_mut();
        let closing =
            closing.get_or_insert_with(|| Closing { until: Box::pin(sleep(LINGER)), left: LINGER_BYTES, shut: false });
        if !closing.shut {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            closing.shut = true;
        }
        let mut waste = [0; 4096];
        while closing.left > 0 && closing.until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut waste);
            // The answer is out; what becomes of the other direction is nobody's error.
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => closing.left = closing.left.saturating_sub(buf.filled().len()),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The heads in a stream of requests.
#[derive(Default)]
struct Heads {
    /// Heads begun.
    count: u64,
    /// The last of them is framed twice.
    twice: bool,
    at: At,
    line: Line,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Default, PartialEq, Eq)]
enum At {
    /// Before a request line; empty lines are passed over.
    #[default]
    Start,
    Fields,
    /// So many bytes of a body are to come.
    Body(u64),
    /// Nothing is known of what follows.
    End,
}

impl Heads {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.at {
                At::End => return,
                At::Body(left) => {
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.at = At::Start;
                    }
                }
                At::Start | At::Fields => {
                    let end = memchr(b'\n', bytes);
                    let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    bytes = rest;
                    if end.is_some() && self.line.is_new() && self.skips(piece) {
                        continue;
                    }
                    piece.iter().for_each(|byte| self.line.pass(*byte));
                    if end.is_some() {
                        self.take_line();
                    }
                }
            }
        }
    }

    /// Passes over a whole line that its first byte shows to be no header of interest. Returns whether it is one.
    fn skips(&mut self, line: &[u8]) -> bool {
        let Some(first) = line.first().filter(|first| !first.is_ascii_whitespace()) else { return false };
        match self.at {
            At::Start => self.begin(),
            _ if matches!(first, b't' | b'T' | b'c' | b'C') => return false,
            _ => {}
        }
        true
    }

    /// The line was a request's first.
    fn begin(&mut self) {
        (self.count, self.length, self.chunked, self.at) = (self.count + 1, None, false, At::Fields);
    }

    fn take_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        match self.at {
            At::Start if !line.written => {}
            At::Start => self.begin(),
            _ if line.written => self.take_field(&line),
            _ => {
                self.at = match (self.twice || self.chunked, self.length) {
                    (true, _) => At::End,
                    (false, None | Some(0)) => At::Start,
                    (false, Some(length)) => At::Body(length),
                }
            }
        }
    }

    fn take_field(&mut self, line: &Line) {
        if line.is_named(b"transfer-encoding") {
            self.chunked = true;
        } else if line.is_named(b"content-length") {
            // A value that hyper refuses may count as anything.
            self.length = Some(line.number().unwrap_or(0));
        } else {
            return;
        }
        self.twice = self.chunked && self.length.is_some();
    }
}

/// One line of a head, of any length, as far as its framing goes: the beginning of its name, and its value as a number.
#[derive(Default)]
struct Line {
    /// A byte of it came.
    begun: bool,
    /// Something other than blanks stands in it.
    written: bool,
    /// One byte more tells a longer name from the one that is looked for.
    name: [u8; LONGEST_NAME + 1],
    name_len: usize,
    value: Value,
}

/// Digits with blanks around them, as hyper reads a length: any number of blanks, any number of leading zeros.
#[derive(Default, Clone, Copy)]
enum Value {
    /// The name has not ended.
    #[default]
    None,
    Blank,
    Digits(u64),
    BlankAfter(u64),
    NoNumber,
}

impl Line {
    fn is_new(&self) -> bool {
        !self.begun
    }

    fn pass(&mut self, byte: u8) {
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.begun = true;
        self.written |= !blank;
        self.value = match self.value {
            Value::None if byte == b':' => Value::Blank,
            Value::None => {
                if let Some(free) = self.name.get_mut(self.name_len) {
                    (*free, self.name_len) = (byte, self.name_len + 1);
                }
                Value::None
            }
            Value::Blank if blank => Value::Blank,
            Value::Digits(number) | Value::BlankAfter(number) if blank => Value::BlankAfter(number),
            Value::Blank if byte.is_ascii_digit() => Value::Digits(u64::from(byte - b'0')),
            Value::Digits(number) if byte.is_ascii_digit() => {
                let longer = number.checked_mul(10).and_then(|number| number.checked_add(u64::from(byte - b'0')));
                longer.map_or(Value::NoNumber, Value::Digits)
            }
            _ => Value::NoNumber,
        };
    }

    fn is_named(&self, name: &[u8]) -> bool {
        let begins = &self.name[..self.name_len];
        !matches!(self.value, Value::None) && begins.trim_ascii().eq_ignore_ascii_case(name)
    }

    fn number(&self) -> Option<u64> {
        match self.value {
            Value::Digits(number) | Value::BlankAfter(number) => Some(number),
            Value::None | Value::Blank | Value::NoNumber => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn twice(stream: &[u8], step: usize) -> u64 {
        let mut heads = Heads::default();
        stream.chunks(step.max(1)).for_each(|piece| heads.pass(piece));
        if heads.twice { heads.count } else { 0 }
    }

    const CLEAN: &str = "\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70\r\n\r\n\
        Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nGET / HTTP/1.1\r\nTransf\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn a_body_is_no_head() {
        assert_eq!(twice(CLEAN.as_bytes(), 1), 0);
        assert_eq!(twice(format!("{CLEAN}POST / HTTP/1.1\nContent-Length:1\n\nx").as_bytes(), 7), 0);
    }

    #[test]
    fn both_orders_and_all_spellings_are_seen() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "tRANSFER-eNCODING:\tchunked\nX: y\nCONTENT-LENGTH:5\n",
            "Content-Length: 0\r\nTransfer-Encoding: identity\r\n",
        ] {
            for step in [1, 3, 4096] {
                let stream = format!("{CLEAN}POST / HTTP/1.1\r\n{fields}\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
                assert_eq!(twice(stream.as_bytes(), step), 3, "{fields:?}");
            }
        }
    }

    /// hyper takes blanks and zeros without number before a length, so no line may be too long to be understood.
    #[test]
    fn a_length_behind_many_blanks_or_zeros_is_understood() {
        // Taken for a head, this body would shift the count of requests.
        let body = format!("GET /\r\n\r\n{}", "x".repeat(21));
        for value in [
            format!("{}30", " ".repeat(70)),
            format!("{}30{}", "\t ".repeat(5000), " ".repeat(300)),
            format!("{}30", "0".repeat(70)),
            format!("30{}", " ".repeat(70)),
        ] {
            let padded = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:{value}\r\n\r\n{body}");
            let both = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
            assert_eq!(twice(padded.as_bytes(), 7), 0);
            assert_eq!(twice(format!("{padded}{both}").as_bytes(), 7), 2, "after a length of {} bytes", value.len());
            let chunked = padded.replacen("Host", "Transfer-Encoding: chunked\r\nHost", 1);
            assert_eq!(twice(chunked.as_bytes(), 7), 1);
        }
        let longer = "POST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encodings: chunked\r\n\r\n";
        assert_eq!(twice(longer.as_bytes(), 3), 0, "another header");
    }

    /// Pieces of heads, so that the two headers, and what is nearly one of them, occur in all spellings.
    fn fragments() -> impl Strategy<Value = Vec<&'static str>> {
        let fragment = prop::sample::select(vec![
            "POST / HTTP/1.1\r\n",
            "Host: a\r\n",
            "Content-Length: 5\r\n",
            "content-LENGTH:5\n",
            "Content-Length : 5\r\n",
            "Content-Lengths: 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "tRANSFER-eNCODING:\tchunked\n",
            " Transfer-Encoding: chunked\r\n",
            "X: Transfer-Encoding: chunked\r\n",
            "\r\n",
            "\n",
            "\r",
            "0\r\n\r\n",
            "12345",
            "c",
            "T",
        ]);
        prop::collection::vec(fragment, 0..40)
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_does_not_matter(fragments in fragments(), step in 1usize..50) {
            let stream = [CLEAN, &fragments.concat()].concat();
            prop_assert_eq!(twice(stream.as_bytes(), step), twice(stream.as_bytes(), stream.len()));
        }

        #[test]
        fn any_bytes_are_looked_at(bytes: Vec<u8>, step in 1usize..50) {
            let stream = [CLEAN.as_bytes(), &bytes].concat();
            prop_assert_eq!(twice(&stream, step), twice(&stream, stream.len()));
        }
    }
}
