//! Frames on the wire: a fixed head, then a body of JSON.
//!
//! ```text
//! length u32 | kind u8 | id u64 | left u32 | body
//! ```
//! Numbers are big-endian; `length` counts what follows it. `id` belongs to questions and their answers,
//! `left` is the time a question still has, in milliseconds. The kind and the id come before the body, so
//! that a body which is too large can be skipped and its asker still be told.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use serde_json::value::RawValue;
use tokio_util::codec::{Decoder, Encoder};

use super::transport::LinkRefusal;

/// Largest body in bytes, unless the settings say less.
pub const LARGEST_BODY: usize = 1024 * 1024;
/// Bytes before the body.
pub(super) const HEAD: usize = 17;
/// Bytes of the head that `length` counts.
const COUNTED: usize = HEAD - 4;
/// A frame that claims more is no frame of ours, and not worth skipping.
const HOPELESS: usize = 64 * 1024 * 1024;

/// What a frame is, as its byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Hello = 1,
    Welcome = 2,
    Rejected = 3,
    Ask = 4,
    Answer = 5,
    Refusal = 6,
    Push = 7,
    Ping = 8,
    Pong = 9,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Hello,
        Self::Welcome,
        Self::Rejected,
        Self::Ask,
        Self::Answer,
        Self::Refusal,
        Self::Push,
        Self::Ping,
        Self::Pong,
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What follows the greeting.
#[derive(Debug)]
pub(super) enum Frame {
    /// A question; `left` is the time it still has.
    Ask { id: u64, left: Duration, body: Box<RawValue> },
    /// The answer to a question.
    Answer { id: u64, body: Box<RawValue> },
    /// A question is not answered.
    Refusal { id: u64, why: LinkRefusal },
    /// News.
    Push { body: Box<RawValue> },
    /// Asks for a sign of life.
    Ping,
    /// The sign of life.
    Pong,
}

impl Frame {
    /// Bytes that it takes on the wire; of a refusal about that.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Ask { body, .. } | Self::Answer { body, .. } | Self::Push { body } => {
                HEAD + body.get().len()
            }
            Self::Refusal { .. } => HEAD + 64,
            Self::Ping | Self::Pong => HEAD,
        }
    }
}

/// What came off the wire.
#[derive(Debug)]
pub(super) enum Received {
    /// A frame.
    Frame(Frame),
    /// A frame whose body was skipped, since it is too large.
    TooLarge { kind: Kind, id: u64 },
    /// A frame whose body is no JSON.
    Malformed { kind: Kind, id: u64 },
    /// A frame of a kind that a later version may know.
    Unknown,
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The lengths make no sense: what comes is not the protocol.
    #[error("a frame claims a length of {0}")]
    Length(usize),
    /// A frame that this side of a connection never gets.
    #[error("a frame of the kind {0:?} is out of place")]
    OutOfPlace(Kind),
    /// The socket failed, as the codec's trait must be able to say.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) kind: Option<Kind>,
    pub(super) id: u64,
    left_ms: u32,
    /// Bytes that follow.
    pub(super) body: usize,
}

impl Head {
    pub(super) fn read(bytes: &[u8; HEAD]) -> Result<Self, FrameError> {
        let mut bytes = bytes.as_slice();
        let length = bytes.get_u32() as usize;
        if !(COUNTED..=HOPELESS).contains(&length) {
            return Err(FrameError::Length(length));
        }
        let kind = Kind::of(bytes.get_u8());
        Ok(Self { kind, id: bytes.get_u64(), left_ms: bytes.get_u32(), body: length - COUNTED })
    }
}

/// Writes a whole frame.
pub(super) fn write(kind: Kind, id: u64, left_ms: u32, body: &[u8], out: &mut BytesMut) {
    out.reserve(HEAD + body.len());
    // Bodies are far below 4 GiB: every way here has checked them.
    out.put_u32(u32::try_from(COUNTED + body.len()).unwrap_or(u32::MAX));
    out.put_u8(kind as u8);
    out.put_u64(id);
    out.put_u32(left_ms);
    out.put_slice(body);
}

/// Reads and writes frames.
pub(super) struct FrameCodec {
    largest_body: usize,
    /// Bytes of a body too large that are still to be skipped.
    skip: usize,
}

impl FrameCodec {
    pub(super) fn new(largest_body: usize) -> Self {
        Self { largest_body, skip: 0 }
    }
}

impl Decoder for FrameCodec {
    type Item = Received;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Received>, FrameError> {
        let skipped = self.skip.min(source.len());
        source.advance(skipped);
        self.skip -= skipped;
        let Some(bytes) = source.first_chunk::<HEAD>() else { return Ok(None) };
        let head = Head::read(bytes)?;
        if head.body > self.largest_body {
            source.advance(HEAD);
            self.skip = head.body;
            return Ok(Some(
                head.kind.map_or(Received::Unknown, |kind| Received::TooLarge { kind, id: head.id }),
            ));
        }
        let whole = HEAD + head.body;
        if source.len() < whole {
            source.reserve(whole - source.len());
            return Ok(None);
        }
        let received =
            head.kind.map_or(Ok(Received::Unknown), |kind| receive(kind, head, &source[HEAD..whole]));
        source.advance(whole);
        received.map(Some)
    }
}

fn receive(kind: Kind, head: Head, body: &[u8]) -> Result<Received, FrameError> {
    let id = head.id;
    let json = || serde_json::from_slice::<Box<RawValue>>(body);
    let framed = match kind {
        Kind::Ask => {
            json().map(|body| Frame::Ask { id, left: Duration::from_millis(head.left_ms.into()), body })
        }
        Kind::Answer => json().map(|body| Frame::Answer { id, body }),
        Kind::Push => json().map(|body| Frame::Push { body }),
        Kind::Refusal => {
            // A later version may have reasons that are not known here; it is a refusal all the same.
            let why = serde_json::from_slice(body).unwrap_or_else(|_| LinkRefusal::Other("refused".into()));
            Ok(Frame::Refusal { id, why })
        }
        Kind::Ping => Ok(Frame::Ping),
        Kind::Pong => Ok(Frame::Pong),
        Kind::Hello | Kind::Welcome | Kind::Rejected => return Err(FrameError::OutOfPlace(kind)),
    };
    Ok(framed.map_or(Received::Malformed { kind, id }, Received::Frame))
}

impl Encoder<&Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), FrameError> {
        match frame {
            Frame::Ask { id, left, body } => {
                let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
                write(Kind::Ask, *id, left_ms, body.get().as_bytes(), out);
            }
            Frame::Answer { id, body } => write(Kind::Answer, *id, 0, body.get().as_bytes(), out),
            Frame::Refusal { id, why } => {
                // Plain words never fail to become JSON; `null` reads as a refusal without a reason.
                let why = serde_json::to_vec(why).unwrap_or_else(|_| b"null".to_vec());
                write(Kind::Refusal, *id, 0, &why, out);
            }
            Frame::Push { body } => write(Kind::Push, 0, 0, body.get().as_bytes(), out),
            Frame::Ping => write(Kind::Ping, 0, 0, &[], out),
            Frame::Pong => write(Kind::Pong, 0, 0, &[], out),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn frames_come_back_as_they_were_written_however_they_are_cut() {
        let mut wire = BytesMut::new();
        let mut codec = FrameCodec::new(LARGEST_BODY);
        for frame in [
            Frame::Ask { id: 7, left: Duration::from_millis(1_500), body: raw(r#"{"a":1}"#) },
            Frame::Answer { id: u64::MAX, body: raw("null") },
            Frame::Refusal { id: 3, why: LinkRefusal::Other("not here".into()) },
            Frame::Push { body: raw("[1,2]") },
            Frame::Ping,
            Frame::Pong,
        ] {
            codec.encode(&frame, &mut wire).unwrap();
        }
        let mut read = BytesMut::new();
        let mut seen = Vec::new();
        for byte in wire {
            read.put_u8(byte);
            while let Some(received) = codec.decode(&mut read).unwrap() {
                seen.push(format!("{received:?}"));
            }
        }
        assert_eq!(
            seen,
            [
                r#"Frame(Ask { id: 7, left: 1.5s, body: RawValue({"a":1}) })"#,
                r"Frame(Answer { id: 18446744073709551615, body: RawValue(null) })",
                r#"Frame(Refusal { id: 3, why: Other("not here") })"#,
                "Frame(Push { body: RawValue([1,2]) })",
                "Frame(Ping)",
                "Frame(Pong)",
            ]
        );
    }

    #[test]
    fn what_is_too_large_unknown_or_no_json_is_skipped_and_the_next_frame_is_read() {
        let mut codec = FrameCodec::new(100);
        let mut wire = BytesMut::new();
        write(Kind::Ask, 5, 0, &[b'1'; 5_000], &mut wire);
        write(Kind::Answer, 6, 0, b"{nonsense", &mut wire);
        write(Kind::Pong, 0, 0, b"", &mut wire);
        let last = wire.len() - HEAD + 4;
        wire[last] = 200;
        write(Kind::Ping, 0, 0, b"", &mut wire);
        let mut read = BytesMut::new();
        let mut seen = Vec::new();
        for part in wire.chunks(64) {
            read.extend_from_slice(part);
            while let Some(received) = codec.decode(&mut read).unwrap() {
                seen.push(format!("{received:?}"));
            }
            assert!(read.len() <= 200, "skipped bytes are not kept");
        }
        assert_eq!(
            seen,
            ["TooLarge { kind: Ask, id: 5 }", "Malformed { kind: Answer, id: 6 }", "Unknown", "Frame(Ping)"]
        );
    }

    #[test]
    fn what_is_not_the_protocol_ends_the_connection() {
        let mut codec = FrameCodec::new(LARGEST_BODY);
        let mut wire = BytesMut::from(&b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"[..]);
        assert!(matches!(codec.decode(&mut wire), Err(FrameError::Length(_))));
        let mut hello = BytesMut::new();
        write(Kind::Hello, 0, 0, b"{}", &mut hello);
        assert!(matches!(codec.decode(&mut hello), Err(FrameError::OutOfPlace(Kind::Hello))));
    }
}
