//! Plays a case against a connection, whatever that is, and says what was not as it should be.

use super::answer::{self, Answer, Read};
use super::case::{Case, Expected, Step};

/// A client's end of a connection.
pub(crate) trait Wire {
    /// Sends all; what the server no longer takes is not an error.
    fn send(&mut self, bytes: &[u8]);
    fn finish_sending(&mut self);
    /// Some more bytes, or nothing at the stream's end. An error: nothing came for too long.
    fn receive(&mut self) -> Result<Option<Vec<u8>>, String>;
}

/// How what is sent is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cuts {
    Whole,
    ByteByByte,
    /// At places that follow from the seed.
    Random(u64),
}

/// Every way in which a case is played.
pub(crate) const WAYS: [Cuts; 4] =
    [Cuts::Whole, Cuts::ByteByByte, Cuts::Random(1), Cuts::Random(2)];

/// Sent where a case says that the connection goes on.
const PROBE: &[u8] = b"GET / HTTP/1.1\r\nHost: probe\r\n\r\n";
/// Beyond it, byte by byte would cost more time than it tells.
const SINGLE_BYTES: usize = 3_000;

/// What came, in a form that is the same however the request was cut.
pub(crate) type Transcript = Vec<Answer>;

/// Plays a case. The error says what was wrong.
pub(crate) fn play(case: &Case, wire: impl Wire, cuts: Cuts) -> Result<Transcript, String> {
    let mut player = Player { wire, received: Vec::new(), ended: false, transcript: Vec::new() };
    for step in &case.steps {
        match step {
            Step::Send(bytes) => player.send(bytes, cuts),
            Step::FinishSending => player.wire.finish_sending(),
            Step::Answer(expected) => player.expect(expected)?,
            Step::Closed => player.expect_closed()?,
            Step::Open => {
                player.send(PROBE, Cuts::Whole);
                player.expect(&Expected { status: "2xx".to_owned(), ..Expected::default() })?;
            }
        }
    }
    Ok(player.transcript)
}

struct Player<W> {
    wire: W,
    /// Received and not read yet.
    received: Vec<u8>,
    ended: bool,
    transcript: Transcript,
}

impl<W: Wire> Player<W> {
    fn send(&mut self, bytes: &[u8], cuts: Cuts) {
        let mut chance = match cuts {
            Cuts::Random(seed) => fastrand::Rng::with_seed(seed),
            _ => fastrand::Rng::with_seed(0),
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = match cuts {
                Cuts::Whole => rest.len(),
                Cuts::ByteByByte if bytes.len() <= SINGLE_BYTES => 1,
                Cuts::ByteByByte => rest.len().min(bytes.len() / 100),
                Cuts::Random(_) => chance.usize(1..=rest.len().min(bytes.len() / 3 + 1)),
            };
            self.wire.send(&rest[..length]);
            rest = &rest[length..];
        }
    }

    fn expect(&mut self, expected: &Expected) -> Result<(), String> {
        let answer = loop {
            match answer::read(&self.received, expected.is_to_head, self.ended)? {
                Read::Whole(answer, length) => {
                    if expected.is_optional && !expected.admits(answer.status) {
                        return Ok(());
                    }
                    self.received.drain(..length);
                    break answer;
                }
                Read::Partial if self.ended && expected.is_optional => return Ok(()),
                Read::Partial if self.ended => {
                    let left = String::from_utf8_lossy(&self.received);
                    return Err(format!("closed before {}: {left:?}", expected.status));
                }
                Read::Partial => self.receive()?,
            }
        };
        judge(expected, &answer)?;
        if !expected.is_optional {
            self.transcript.push(answer.settled());
        }
        Ok(())
    }

    fn expect_closed(&mut self) -> Result<(), String> {
        while !self.ended {
            self.receive()?;
        }
        match self.received.is_empty() {
            true => Ok(()),
            false => Err(format!("more came: {:?}", String::from_utf8_lossy(&self.received))),
        }
    }

    fn receive(&mut self) -> Result<(), String> {
        match self.wire.receive()? {
            Some(bytes) => self.received.extend(bytes),
            None => self.ended = true,
        }
        Ok(())
    }
}

/// Holds an answer to what a case expects of it.
fn judge(expected: &Expected, answer: &Answer) -> Result<(), String> {
    if !expected.admits(answer.status) {
        return Err(format!("{} in place of {}", answer.status, expected.status));
    }
    for (keyword, value) in &expected.checks {
        let text = String::from_utf8_lossy(value);
        let members = || text.split_once(": ").ok_or_else(|| format!("no list in {text:?}"));
        let right = match keyword.as_str() {
            "has" => answer.field(&text).is_some(),
            "no" => answer.field(&text).is_none(),
            "lists" => {
                let (name, list) = members()?;
                list.split(", ").all(|member| answer.lists(name, member))
            }
            "lacks" => {
                let (name, list) = members()?;
                !list.split(", ").any(|member| answer.lists(name, member))
            }
            "trailer" => {
                let (name, wanted) = members()?;
                answer.trailers.iter().any(|(known, value)| known == name && value == wanted)
            }
            "body" => answer.body == *value,
            "body-has" => answer.body.windows(value.len().max(1)).any(|part| part == *value),
            name => match name.strip_suffix(':') {
                Some(name) => answer.field(name).as_deref() == Some(&*text),
                None => return Err(format!("nothing is known of {keyword:?}")),
            },
        };
        if !right {
            let body = String::from_utf8_lossy(&answer.body);
            let (status, fields) = (answer.status, &answer.fields);
            return Err(format!("not {keyword} {text:?} but {status} {fields:?} {body:?}"));
        }
    }
    Ok(())
}
