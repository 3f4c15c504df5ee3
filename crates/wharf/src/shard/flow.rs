//! A request's body on its way to a reader while it is received, or into nothing.
//!
//! Knows the framing and the body's deadline. The queue that it fills says when the reader is
//! behind.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use wharf_http::{ChunkedDecoder, ChunkedLimits};
use wharf_port::Time;

use crate::Limits;
use crate::request::View;
use crate::stream::{BodyError, Inflow};

pub(super) struct Flow {
    /// Where the body goes. None: nobody reads it.
    inflow: Option<Arc<Inflow>>,
    framing: Framing,
    /// Body bytes that have arrived.
    received: u64,
    /// When the body began, moved on by the time for which the reader was behind.
    started: Time,
    /// When the reader fell behind, if it is.
    paused: Option<Time>,
    /// When the body has come too slowly.
    pub(super) deadline: Time,
    /// The client waits for 100 (RFC 9110 section 10.1.1).
    pub(super) continue_is_due: bool,
    /// None: more is to come.
    end: Option<Result<(), BodyError>>,
}

pub(super) enum Framing {
    Known {
        left: u64,
    },
    Chunked {
        decoder: Box<ChunkedDecoder>,
        limit: u64,
    },
    /// Until the peer closes: a connection that was taken over.
    Raw,
}

impl Framing {
    pub(super) fn chunked(limit: usize) -> Framing {
        let decoder = Box::new(ChunkedDecoder::new(ChunkedLimits::default()));
        Framing::Chunked { decoder, limit: limit as u64 }
    }
}

impl Flow {
    pub(super) fn new(inflow: Arc<Inflow>, framing: Framing, now: Time, limits: &Limits) -> Flow {
        let mut flow = Flow {
            inflow: Some(inflow),
            framing,
            received: 0,
            started: now,
            paused: None,
            deadline: Time::FAR,
            continue_is_due: false,
            end: None,
        };
        flow.progressed(limits);
        flow
    }

    pub(super) fn is_raw(&self) -> bool {
        matches!(self.framing, Framing::Raw)
    }

    /// Whether all of it has come, and was as it should be.
    pub(super) fn is_whole(&self) -> bool {
        self.end == Some(Ok(()))
    }

    /// Whether nothing more of it is going to be taken.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether it is whole, or what is left is short enough to be read for nothing.
    pub(super) fn can_be_skipped(&self, most: u64) -> bool {
        match (&self.end, &self.framing) {
            (Some(end), _) => end.is_ok(),
            (None, _) if self.continue_is_due => false,
            (None, Framing::Known { left }) => *left <= most,
            (None, Framing::Chunked { .. }) => true,
            (None, Framing::Raw) => false,
        }
    }

    /// Nobody reads any more: what comes is counted against `most` and thrown away.
    pub(super) fn skip(&mut self, most: u64, now: Time, limits: &Limits) {
        if let Some(inflow) = self.inflow.take()
            && self.end.is_none()
        {
            inflow.end(Err(BodyError::Cancelled), Vec::new());
        }
        if let Framing::Chunked { limit, .. } = &mut self.framing {
            *limit = self.received + most;
        }
        self.resume(now, limits);
    }

    pub(super) fn has_readers(&self) -> bool {
        self.inflow.as_ref().is_some_and(|inflow| inflow.has_readers())
    }

    /// Whether somebody has begun to read.
    pub(super) fn is_wanted(&self) -> bool {
        self.inflow.as_ref().is_some_and(|inflow| inflow.is_wanted())
    }

    /// Whether more bytes can be taken now. If not, the connection is told when that changes.
    pub(super) fn has_room(&mut self, now: Time, limits: &Limits) -> bool {
        if self.end.is_some() {
            return false;
        }
        let has_room = self.inflow.as_ref().is_none_or(|inflow| inflow.has_room());
        if has_room {
            self.resume(now, limits);
        } else if self.paused.is_none() {
            self.paused = Some(now);
            self.deadline = Time::FAR;
        }
        has_room
    }

    fn resume(&mut self, now: Time, limits: &Limits) {
        if let Some(paused) = self.paused.take() {
            self.started = self.started + (now - paused);
            self.progressed(limits);
        }
    }

    /// A body may take its grace and the time that its bytes take at the lowest rate allowed.
    fn progressed(&mut self, limits: &Limits) {
        if self.is_raw() || self.end.is_some() {
            self.deadline = Time::FAR;
            return;
        }
        let earned = self.received as f64 / f64::from(limits.body_bytes_per_second);
        let earned = Duration::try_from_secs_f64(earned).unwrap_or_default();
        self.deadline = self.started + limits.body_grace + earned;
    }

    /// Takes the next piece. Returns what lies behind the body.
    pub(super) fn push(&mut self, view: View, limits: &Limits) -> Option<View> {
        self.continue_is_due = false;
        let rest = match &mut self.framing {
            Framing::Raw => {
                self.pass_on(view);
                None
            }
            Framing::Known { left } => {
                let used = usize::try_from(*left).map_or(view.len(), |left| left.min(view.len()));
                *left -= used as u64;
                let is_last = *left == 0;
                let rest = (used < view.len()).then(|| view.behind(used));
                self.pass_on(if rest.is_some() { view.first(used) } else { view });
                if is_last {
                    self.end(Ok(()));
                }
                rest
            }
            Framing::Chunked { .. } => self.push_chunked(&view),
        };
        self.progressed(limits);
        rest
    }

    fn push_chunked(&mut self, view: &View) -> Option<View> {
        let bytes = view.as_slice();
        let mut used = 0;
        while used < bytes.len() {
            let Framing::Chunked { decoder, limit } = &mut self.framing else { break };
            let Ok(step) = decoder.decode(&bytes[used..]) else {
                self.end(Err(BodyError::Malformed));
                return None;
            };
            // What a chunk's size announces need not be waited for.
            let announced = (step.data.len() as u64).saturating_add(decoder.remaining());
            if self.received.saturating_add(announced) > *limit {
                self.end(Err(BodyError::TooLarge));
                return None;
            }
            if !step.data.is_empty() {
                let data = view.behind(used + step.data.start).first(step.data.len());
                self.pass_on(data);
            }
            used += step.consumed;
            if step.done {
                self.end(Ok(()));
                return (used < bytes.len()).then(|| view.behind(used));
            }
        }
        None
    }

    fn pass_on(&mut self, view: View) {
        self.received += view.len() as u64;
        if let Some(inflow) = &self.inflow
            && view.len() > 0
        {
            inflow.push(view);
        }
    }

    /// Nothing more of it is taken. Only the first end counts.
    pub(super) fn end(&mut self, result: Result<(), BodyError>) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(result);
        self.deadline = Time::FAR;
        if let Some(inflow) = &self.inflow {
            inflow.end(result, self.trailers());
        }
    }

    fn trailers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let Framing::Chunked { decoder, .. } = &self.framing else { return Vec::new() };
        let bytes = decoder.trailer_bytes();
        let fields = decoder.trailers().iter();
        fields
            .filter_map(|field| {
                let name = HeaderName::from_bytes(field.name.of(bytes)).ok()?;
                Some((name, HeaderValue::from_bytes(field.value.of(bytes)).ok()?))
            })
            .collect()
    }

    /// The peer sends no more.
    pub(super) fn input_ended(&mut self) {
        self.end(if self.is_raw() { Ok(()) } else { Err(BodyError::Truncated) });
    }

    pub(super) fn copy_out(&self) {
        if let Some(inflow) = &self.inflow {
            inflow.copy_out();
        }
    }
}

/// The connection is gone; a body that is whole stays so.
impl Drop for Flow {
    fn drop(&mut self) {
        self.end(Err(BodyError::Cancelled));
    }
}
