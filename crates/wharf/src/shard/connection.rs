//! A connection: what it is doing, and every transition between that and the next thing.
//!
//! ```text
//!   accepted ─► Idle ──bytes──► Head ──whole──► (routed) ──a body is to come──► Body
//!               ▲  ▲                                │                            │ whole
//!               │  │                                ▼                            ▼
//!               │  │                           (dispatched) ◄────────────────────┘
//!               │  │           by Wharf or inline │      │ to a worker
//!               │  │                              │      ▼
//!               │  │                              │   Handling
//!               │  │                              ▼      │ its answer
//!               │  │  Answering ◄─the body flows─ (answered) ◄─ refused, too slow: from
//!               │  │      │ the body's end          │          Head and Body
//!               │  │      ▼                         ▼
//!               │  └─kept─────────────────────── (encoded) ─not kept─► Ending
//!               │              │ kept, but the request's body             │ sent
//!               │              ▼ is not read                              ▼
//!               └──read────── Body ──too long──► Ending ─────────► Lingering, if input may follow
//!                                                                         │ end of input, timeout
//!   from everywhere: the peer is gone, a timeout, a failure ──► Closing ◄─┘ ──► the entry is gone
//! ```
//!
//! Requests of one connection are served one after another, so answers are in order by nature;
//! answers of inline handlers to pipelined requests leave in one send. While output is being sent,
//! no further request is begun: a peer that does not read is not read from.
//!
//! Beside this, a body may flow: a request's to its reader in Handling and Answering, and what is
//! left of it to nowhere in Body. It has a deadline of its own and changes no status by itself.

mod answering;
mod reading;
mod straight;

use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use smallvec::SmallVec;
use wharf_http::{
    CONTINUE, Framing as BodyFraming, Refusal, RequestHead, TargetForm, status_allows_body,
};
use wharf_port::{Failure, FileRange, Gather, Lease, Operation, Socket, Time, Token};

use super::body::{Assembly, Progress};
use super::context::Context;
use super::encode::{self, Framing};
use super::flow::{self, Flow};
use super::outflow::{self, Coding, Next, Outflow};
use super::pending::Pending;
use crate::Response;
use crate::mailbox::{Address, Notice};
use crate::problem::word;
use crate::request::{Body, ReplyTo, Request, View, Work};
use crate::response::{Body as AnswerBody, Part};
use crate::router::{Found, Routes};
use crate::statistics::CloseReason;
use crate::stream::{
    BodyError, BodyReader, BodyWriter, Inflow, Outlet, Signal, Source, Upgraded, channel,
};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Nothing of a request has come. Output may still be on its way.
    Idle,
    /// A part of a head has come.
    Head,
    /// A part of a body has come, or none yet.
    Body,
    /// A worker has the request.
    Handling,
    /// An answer's head is encoded, and its body leaves piece by piece.
    Answering,
    /// The last answer is being sent.
    Ending,
    /// The last answer is sent; input is thrown away until the peer has read it.
    Lingering,
    /// The socket is being closed; what still completes is let go.
    Closing,
}

/// The receive operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Nothing,
    Repeating(Operation),
    /// Cancelled, but not ended yet.
    Stopping,
    IntoBlock,
}

pub(super) struct Connection {
    /// This connection's key in the table, as the token of its operations.
    token: Token,
    socket: Socket,
    peer: SocketAddr,
    pub(super) status: Status,
    receiving: Receiving,
    /// A gather or a range of a file is with the port.
    sending: bool,
    /// The peer has sent all it will.
    input_ended: bool,
    /// Requests begun.
    served: u32,
    /// When the present status has lasted too long.
    deadline: Time,
    /// Received and not looked at yet.
    pending: Pending,
    /// The request whose head or body is being received.
    request: Option<Box<Request>>,
    reading: Option<Box<Reading>>,
    /// How the worker that has the request is told that the client has gone.
    signal: Option<Arc<Signal>>,
    /// Answers that are not with the port yet.
    output: Option<Box<Gather>>,
    /// Invariant: there is one if and only if the status is `Answering`.
    outflow: Option<Box<Outflow>>,
    ending: CloseReason,
}

/// A body that is not whole.
enum Reading {
    /// Its request is handled when it is.
    Whole { plan: Plan, assembly: Assembly, started: Time },
    /// Its request is being handled, or was.
    Flow(Flow),
}

/// What happens to a request once its body is whole.
enum Plan {
    Handle(usize),
    Answer(Response),
}

/// How often something is sent between server-sent events.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Received views that may wait for their turn; beyond it, receiving stops.
const MAX_PENDING: usize = 2;
/// Output beyond which no further pipelined request is begun before it is sent.
const OUTPUT_BYTES: usize = 64 * 1024;
/// A body that no handler is going to see is still read up to this length, to keep the connection.
const SKIPPED_BODY_BYTES: usize = 64 * 1024;

impl Connection {
    pub(super) fn new(
        token: Token,
        socket: Socket,
        peer: SocketAddr,
        cx: &mut Context,
    ) -> Connection {
        let mut connection = Connection {
            token,
            socket,
            peer,
            status: Status::Idle,
            receiving: Receiving::Nothing,
            sending: false,
            input_ended: false,
            served: 0,
            deadline: cx.now + cx.shared.limits.first_byte_timeout,
            pending: Pending::default(),
            request: None,
            reading: None,
            signal: None,
            output: None,
            outflow: None,
            ending: CloseReason::Answered,
        };
        connection.arm_receive(cx);
        connection
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    // Completions.

    pub(super) fn received(&mut self, lease: Lease, cx: &mut Context) {
        let is_quiet = self.pending.is_empty() && !self.sending && self.output.is_none();
        if self.status == Status::Idle && is_quiet {
            return self.serve(lease, cx);
        }
        match self.status {
            Status::Ending | Status::Lingering | Status::Closing => return,
            Status::Idle | Status::Head | Status::Body | Status::Handling | Status::Answering => {}
        }
        self.pending.push(View::Lease(lease));
        self.advance(cx);
    }

    pub(super) fn receive_ended(&mut self, result: Result<(), Failure>, cx: &mut Context) {
        self.receiving = Receiving::Nothing;
        match result {
            Ok(()) => self.end_of_stream(cx),
            Err(Failure::Cancelled) => self.advance(cx),
            Err(Failure::Io(error)) => self.peer_is_gone(&error, cx),
        }
    }

    pub(super) fn received_into(
        &mut self,
        block: Vec<u8>,
        result: Result<usize, Failure>,
        cx: &mut Context,
    ) {
        self.receiving = Receiving::Nothing;
        let Some(Reading::Whole { assembly, .. }) = self.reading.as_deref_mut() else {
            // The request was answered without its body.
            return match result {
                Ok(0) => self.end_of_stream(cx),
                _ => self.arm_receive(cx),
            };
        };
        if let Some(surplus) = assembly.put_block(block) {
            self.pending.push(View::Joined(Bytes::from(surplus)));
        }
        match result {
            Ok(0) => self.end_of_stream(cx),
            Ok(_) => {
                self.body_progressed(cx);
                self.advance(cx);
            }
            Err(Failure::Cancelled) => self.advance(cx),
            Err(Failure::Io(error)) => self.peer_is_gone(&error, cx),
        }
    }

    pub(super) fn sent(
        &mut self,
        mut gather: Box<Gather>,
        result: Result<usize, Failure>,
        cx: &mut Context,
    ) {
        self.sending = false;
        if self.status == Status::Closing {
            return cx.recycle_output(gather);
        }
        match result {
            // An idle connection gets another deadline when all is sent.
            Ok(count) if self.status == Status::Idle && count == gather.remaining() => {}
            Ok(count) => {
                gather.advance(count);
                self.output_progressed(count, cx);
                if gather.remaining() > 0 {
                    self.sending = true;
                    cx.port.send(self.socket, gather, self.token);
                    return;
                }
            }
            Err(Failure::Cancelled) => return cx.recycle_output(gather),
            Err(Failure::Io(error)) => {
                cx.recycle_output(gather);
                return self.peer_is_gone(&error, cx);
            }
        }
        cx.recycle_output(gather);
        match self.status {
            Status::Ending if self.output.is_none() => self.finish(cx),
            Status::Idle => {
                self.deadline = cx.idle_deadline;
                // Nearly always there is nothing to go on with, and this is worth knowing at once.
                let is_quiet = self.output.is_none() && self.pending.is_empty();
                if !is_quiet || self.input_ended || !self.is_receiving() {
                    self.advance(cx);
                }
            }
            Status::Answering => {
                self.deadline = self.next_heartbeat(cx);
                self.advance(cx);
            }
            _ => self.advance(cx),
        }
    }

    pub(super) fn file_sent(
        &mut self,
        mut range: FileRange,
        result: Result<u64, Failure>,
        cx: &mut Context,
    ) {
        self.sending = false;
        if self.status == Status::Closing {
            return;
        }
        match result {
            Ok(0) => return self.abort_answer("a file ended before its length was sent", cx),
            Ok(count) => {
                range.offset += count;
                range.length -= count;
            }
            Err(Failure::Cancelled) => return,
            Err(Failure::Io(ref error)) => return self.peer_is_gone(error, cx),
        }
        let count = result.unwrap_or(0);
        if let Some(outflow) = &mut self.outflow {
            outflow.file_sent(count, range);
        }
        self.advance(cx);
    }

    pub(super) fn shut_down(&mut self, cx: &mut Context) {
        self.sending = false;
        match self.status {
            Status::Lingering if self.input_ended => self.close(self.ending, cx),
            Status::Answering => self.advance(cx),
            Status::Ending => self.finish_if_sent(cx),
            _ => {}
        }
    }

    /// The worker is done with this connection's request, or with a piece of its answer.
    pub(super) fn answered(&mut self, mut request: Box<Request>, cx: &mut Context) {
        let is_current = request.reply.stream == self.served;
        match (self.status, mem::take(request.work_mut())) {
            (Status::Handling, work) if is_current => {
                self.signal = None;
                let response = match work {
                    Work::Answered(response) => response,
                    _ => internal_error(),
                };
                self.respond(request, response, cx);
            }
            (Status::Answering, Work::Produced(source, piece)) if is_current => {
                cx.recycle_request(request);
                if let Some(outflow) = &mut self.outflow {
                    outflow.produced(source, piece);
                }
            }
            _ => return cx.recycle_request(request),
        }
        self.advance(cx);
    }

    /// The other end of a body that flows has something to look at.
    pub(super) fn noticed(&mut self, stream: u32, cx: &mut Context) {
        if stream == self.served && self.status != Status::Closing {
            self.advance(cx);
        }
    }

    // Time.

    /// The wheel's visit. What is due is done; returns whether the connection stays in the wheel.
    pub(super) fn visited(&mut self, cx: &mut Context) -> bool {
        if let Some(Reading::Flow(flow)) = self.reading.as_deref_mut()
            && flow.deadline <= cx.now
        {
            flow.end(Err(BodyError::Timeout));
            if self.status == Status::Body {
                self.close(CloseReason::BodyTimeout, cx);
            }
        }
        if self.deadline <= cx.now {
            self.timed_out(cx);
        }
        self.status != Status::Closing
    }

    /// When to look at the connection next.
    pub(super) fn deadline(&self) -> Time {
        match self.reading.as_deref() {
            Some(Reading::Flow(flow)) => self.deadline.min(flow.deadline),
            _ => self.deadline,
        }
    }

    fn timed_out(&mut self, cx: &mut Context) {
        match self.status {
            Status::Handling => self.handler_is_late(),
            _ if self.sending && self.status != Status::Body => {
                self.reset(CloseReason::WriteStalled, cx);
            }
            Status::Idle if self.served == 0 => self.close(CloseReason::FirstByteTimeout, cx),
            Status::Idle => self.close(CloseReason::IdleTimeout, cx),
            Status::Head => self.too_slow("The request's head took too long.\n", cx),
            Status::Body => self.too_slow("The request's body came too slowly.\n", cx),
            Status::Ending | Status::Lingering => self.close(self.ending, cx),
            Status::Answering => self.beat(cx),
            Status::Closing => {}
        }
    }

    /// The time that the route gives a request is over. Its worker answers, sooner or later.
    fn handler_is_late(&mut self) {
        self.deadline = Time::FAR;
        if let Some(Reading::Flow(flow)) = self.reading.as_deref_mut() {
            flow.end(Err(BodyError::Timeout));
        }
        if let Some(signal) = &self.signal {
            signal.time_is_over();
        }
    }

    /// Keeps a stream of events alive.
    fn beat(&mut self, cx: &mut Context) {
        self.deadline = self.next_heartbeat(cx);
        let Some(outflow) = self.outflow.as_deref() else { return };
        let output = self.output.get_or_insert_with(|| cx.take_output());
        outflow.beat(output);
        if output.remaining() > 0 {
            return self.flush(cx);
        }
        // The queue has it, and will tell.
        self.output.take().into_iter().for_each(|output| cx.recycle_output(output));
    }

    fn next_heartbeat(&self, cx: &Context) -> Time {
        match self.outflow.as_deref() {
            Some(outflow) if outflow.has_heartbeat() => cx.now + HEARTBEAT,
            _ => Time::FAR,
        }
    }

    fn too_slow(&mut self, message: &'static str, cx: &mut Context) {
        let reason = match self.status {
            Status::Head => CloseReason::HeadTimeout,
            _ => CloseReason::BodyTimeout,
        };
        let response = Response::message(StatusCode::REQUEST_TIMEOUT, message);
        let request = self.request.take().unwrap_or_else(|| cx.take_request());
        self.respond_and_end(request, response, reason, cx);
        self.advance(cx);
    }

    /// Closes the connection if it has been idle for `quiet`, as the server drains.
    pub(super) fn drain(&mut self, quiet: std::time::Duration, cx: &mut Context) {
        let limits = &cx.shared.limits;
        let timeout =
            if self.served == 0 { limits.first_byte_timeout } else { limits.idle_timeout };
        // The deadline was set by the last activity.
        if let Some(outflow) = &self.outflow {
            outflow.drain();
            return self.advance(cx);
        }
        let is_quiet = self.deadline + quiet <= cx.now + timeout;
        if self.status == Status::Idle && !self.sending && is_quiet {
            self.close(CloseReason::Drained, cx);
        }
    }

    /// Resets the connection, unless it is closing already.
    pub(super) fn cut(&mut self, cx: &mut Context) -> bool {
        let cut = self.status != Status::Closing;
        if cut {
            self.ending = CloseReason::Cut;
            self.reset(CloseReason::Cut, cx);
        }
        cut
    }

    pub(super) fn was_cut(&self) -> bool {
        self.ending == CloseReason::Cut
    }

    // Going on.

    /// Every transition: what the connection does from here on, and by when that has lasted too
    /// long.
    fn enter(&mut self, status: Status, deadline: Time) {
        self.status = status;
        self.deadline = deadline;
    }

    /// Goes as far as what has been received and sent allows, then sees to it that the right
    /// operations are in flight.
    fn advance(&mut self, cx: &mut Context) {
        loop {
            let went_on = match self.status {
                Status::Idle | Status::Head if self.may_read_head() => match self.pending.next() {
                    Some(view) => self.read_head(view, cx),
                    None => false,
                },
                Status::Body => self.read_body(cx),
                Status::Handling => self.read_flow(cx),
                Status::Answering => self.read_flow(cx) | self.answer_on(cx),
                _ => false,
            };
            if !went_on {
                break;
            }
        }
        if self.input_ended && self.pending.is_empty() {
            self.input_is_used_up(cx);
        }
        self.flush(cx);
        self.arm_receive(cx);
    }

    // Ending.

    /// Nothing more is served; what is in the output is still sent.
    fn end(&mut self, reason: CloseReason, cx: &Context) {
        self.enter(Status::Ending, cx.stall_deadline);
        self.ending = reason;
    }

    /// The last answer is sent. Unless the peer has ended its side, it may still be sending, be it
    /// on its way already: closing now would reset the connection and could take the answer with it
    /// (RFC 9112 section 9.6).
    fn finish(&mut self, cx: &mut Context) {
        self.reading = None;
        self.pending.clear();
        if self.input_ended {
            return self.close(self.ending, cx);
        }
        self.enter(Status::Lingering, cx.now + cx.shared.limits.linger_timeout);
        cx.port.shutdown(self.socket, self.token);
        self.arm_receive(cx);
    }

    /// For when the last of an answer was not in the output.
    fn finish_if_sent(&mut self, cx: &mut Context) {
        if self.status == Status::Ending && !self.sending && self.output.is_none() {
            self.finish(cx);
        }
    }

    fn end_of_stream(&mut self, cx: &mut Context) {
        self.input_ended = true;
        match self.status {
            Status::Lingering => self.close(self.ending, cx),
            _ => self.advance(cx),
        }
    }

    /// The peer has sent all it will, and all of that is read. It may still wait for answers.
    fn input_is_used_up(&mut self, cx: &mut Context) {
        if let Some(Reading::Flow(flow)) = self.reading.as_deref_mut() {
            flow.input_ended();
        }
        if let Some(signal) = &self.signal {
            signal.cancel();
        }
        // Events have no end of their own to wait for, and nobody who listens to them closes first.
        // What is pushed may be silent for ever, and then nothing else tells that its client left.
        let is_sent = !self.sending && self.output.is_none();
        if self
            .outflow
            .as_deref()
            .is_some_and(|outflow| outflow.has_heartbeat() || (is_sent && outflow.is_silent()))
        {
            return self.close(CloseReason::PeerClosed, cx);
        }
        let reason = match self.status {
            Status::Idle => CloseReason::PeerClosed,
            Status::Head | Status::Body => CloseReason::Truncated,
            Status::Handling
            | Status::Answering
            | Status::Ending
            | Status::Lingering
            | Status::Closing => return,
        };
        if self.sending || self.output.is_some() {
            self.end(reason, cx);
        } else {
            self.close(reason, cx);
        }
    }

    fn peer_is_gone(&mut self, error: &std::io::Error, cx: &mut Context) {
        tracing::trace!("the connection from {} failed: {error}", self.peer);
        self.close(CloseReason::PeerReset, cx);
    }

    fn close(&mut self, reason: CloseReason, cx: &mut Context) {
        if self.closing(reason, cx) {
            cx.port.close(self.socket, self.token);
        }
    }

    /// Closes and throws away what the peer did not take.
    fn reset(&mut self, reason: CloseReason, cx: &mut Context) {
        if self.closing(reason, cx) {
            cx.port.reset(self.socket, self.token);
        }
    }

    fn closing(&mut self, reason: CloseReason, cx: &mut Context) -> bool {
        if self.status == Status::Closing {
            return false;
        }
        tracing::debug!("the connection from {} ends: {reason}", self.peer);
        cx.count_closed(reason);
        self.enter(Status::Closing, Time::FAR);
        self.pending.clear();
        self.reading = None;
        self.outflow = None;
        if let Some(signal) = self.signal.take() {
            signal.cancel();
        }
        if let Some(request) = self.request.take() {
            cx.recycle_request(request);
        }
        if let Some(output) = self.output.take() {
            cx.recycle_output(output);
        }
        true
    }

    // Receiving.

    /// Whether the repeating receive is in flight, as it is but while a body has its own.
    fn is_receiving(&self) -> bool {
        matches!(self.receiving, Receiving::Repeating(_))
    }

    /// Sees to it that the right receive is in flight.
    #[inline(always)]
    fn arm_receive(&mut self, cx: &mut Context) {
        let has_no_body = self.status != Status::Body;
        if has_no_body && self.pending.is_empty() && self.is_receiving() {
            return;
        }
        self.arm_receive_anew(cx);
    }

    fn arm_receive_anew(&mut self, cx: &mut Context) {
        if self.input_ended || matches!(self.status, Status::Closing | Status::Ending) {
            return;
        }
        let block = match (self.reading.as_deref(), self.status) {
            (Some(Reading::Whole { assembly, .. }), Status::Body) => {
                assembly.wants_block(super::RECEIVE_BLOCK_BYTES)
            }
            _ => false,
        };
        let stop = self.pending.len() >= MAX_PENDING;
        match self.receiving {
            Receiving::Nothing if block => self.receive_into_block(cx),
            Receiving::Nothing if !stop => {
                let operation = cx.port.receive(self.socket, self.token);
                self.receiving = Receiving::Repeating(operation);
            }
            Receiving::Repeating(operation) if block || stop => {
                cx.port.cancel(operation);
                self.receiving = Receiving::Stopping;
            }
            _ => {}
        }
        if stop && cx.is_short_of_blocks() {
            self.pending.copy_out();
            if let Some(Reading::Flow(flow)) = self.reading.as_deref() {
                flow.copy_out();
            }
        }
    }

    fn receive_into_block(&mut self, cx: &mut Context) {
        let (Some(Reading::Whole { assembly, .. }), Some(request)) =
            (self.reading.as_deref_mut(), &mut self.request)
        else {
            return;
        };
        match assembly.take_block(&mut request.reservation, &cx.shared) {
            Ok(block) => {
                cx.port.receive_into(self.socket, block, self.token);
                self.receiving = Receiving::IntoBlock;
            }
            Err(stop) => {
                if let Some(request) = self.request.take() {
                    let response = stop.into_response();
                    self.respond_and_end(request, response, CloseReason::Refused, cx);
                    self.flush(cx);
                }
            }
        }
    }
}

fn internal_error() -> Response {
    Response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
        .header(header::CONNECTION, "close")
}

// Idle connections are what there are most of. With its slot's generation, its entry in the wheel
// and the 96 bytes that the port has for it, one takes at most 256 bytes.
const _: () = assert!(size_of::<Connection>() + 8 + 8 + 96 <= 256);
