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

use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use smallvec::SmallVec;
use wharf_http::{CONTINUE, Framing as BodyFraming, Refusal, TargetForm, status_allows_body};
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
        match self.status {
            Status::Ending | Status::Lingering | Status::Closing => return,
            Status::Idle | Status::Head | Status::Body | Status::Handling | Status::Answering => {}
        }
        let view = View::Lease(lease);
        if self.status == Status::Idle && self.pending.is_empty() && self.may_read_head() {
            self.read_head(view, cx);
        } else {
            self.pending.push(view);
        }
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
            Ok(count) => {
                gather.advance(count);
                // An idle connection gets another deadline when all is sent.
                if gather.remaining() > 0 || self.status != Status::Idle {
                    self.output_progressed(count, cx);
                }
            }
            Err(Failure::Cancelled) => return cx.recycle_output(gather),
            Err(Failure::Io(error)) => {
                cx.recycle_output(gather);
                return self.peer_is_gone(&error, cx);
            }
        }
        if gather.remaining() > 0 {
            self.sending = true;
            cx.port.send(self.socket, gather, self.token);
            return;
        }
        cx.recycle_output(gather);
        match self.status {
            Status::Ending if self.output.is_none() => self.finish(cx),
            Status::Idle => {
                self.deadline = cx.now + cx.shared.limits.idle_timeout;
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
            _ if self.sending && self.status != Status::Body => {
                self.reset(CloseReason::WriteStalled, cx);
            }
            Status::Idle if self.served == 0 => self.close(CloseReason::FirstByteTimeout, cx),
            Status::Idle => self.close(CloseReason::IdleTimeout, cx),
            Status::Head => self.too_slow("The request's head took too long.\n", cx),
            Status::Body => self.too_slow("The request's body came too slowly.\n", cx),
            Status::Ending | Status::Lingering => self.close(self.ending, cx),
            Status::Answering => self.beat(cx),
            Status::Handling | Status::Closing => {}
        }
    }

    /// A comment between server-sent events, which is nothing to a client and all to a proxy.
    fn beat(&mut self, cx: &mut Context) {
        let Some(outflow) = self.outflow.as_deref() else { return };
        let output = self.output.get_or_insert_with(|| cx.take_output());
        outflow.write(output, Bytes::from_static(b":\n\n"));
        self.flush(cx);
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

    // Reading.

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

    fn may_read_head(&self) -> bool {
        let has_room = |output: &Gather| !output.has_parts() && output.remaining() < OUTPUT_BYTES;
        !self.sending && self.output.as_deref().is_none_or(has_room)
    }

    /// Reads on in a head. What it did may allow more.
    fn read_head(&mut self, view: View, cx: &mut Context) -> bool {
        let mut request = self.request.take().unwrap_or_else(|| cx.take_request());
        let in_one_piece = request.partial.is_empty();
        let parsed = if in_one_piece {
            request.head.parse(view.as_slice(), &cx.head_limits)
        } else {
            request.partial.extend_from_slice(view.as_slice());
            request.head.parse(&request.partial, &cx.head_limits)
        };
        match parsed {
            Ok(Some(length)) if in_one_piece => {
                request.bytes = view;
                self.begin(request, length, None, cx);
            }
            Ok(Some(length)) => {
                // Without its last piece the head was not whole, so what is behind it came in it.
                let surplus = request.partial.len() - length;
                request.partial.truncate(length);
                request.bytes = View::Joined(Bytes::from(mem::take(&mut request.partial)));
                let rest = view.behind(view.len() - surplus);
                self.begin(request, length, Some(rest), cx);
            }
            Ok(None) => {
                if in_one_piece {
                    request.partial.extend_from_slice(view.as_slice());
                }
                self.request = Some(request);
                if self.status == Status::Idle {
                    self.status = Status::Head;
                    self.deadline = cx.now + cx.shared.limits.head_timeout;
                }
            }
            Err(refusal) => self.refuse(request, refusal, cx),
        }
        true
    }

    /// A head is whole: `length` bytes of `request.bytes`, and `rest` behind it, if that lies
    /// elsewhere.
    fn begin(
        &mut self,
        mut request: Box<Request>,
        length: usize,
        rest: Option<View>,
        cx: &mut Context,
    ) {
        self.served += 1;
        request.peer = Some(self.peer);
        let plan = route(&mut request, cx);
        // Of a chunked body the length is not known.
        let total = match request.head.framing() {
            BodyFraming::None => {
                self.keep_rest(&request, length, rest, 0);
                return self.dispatch(request, plan, cx);
            }
            BodyFraming::Length(total) => Some(total),
            BodyFraming::Chunked => None,
        };
        let mut streaming = false;
        let limit = match &plan {
            Plan::Handle(target) => {
                let options = cx.shared.routes.target(*target).options;
                streaming = options.streaming;
                options.body_bytes.unwrap_or(cx.shared.limits.body_bytes)
            }
            Plan::Answer(_) => SKIPPED_BODY_BYTES,
        };
        let behind = rest.as_ref().map_or(request.bytes.len() - length, View::len);
        let assembly = match total {
            Some(total) if total > limit as u64 => {
                return self.refuse_body(request, plan, cx);
            }
            Some(total) => {
                let total = total as usize;
                if behind >= total {
                    request.body = match &rest {
                        None => Body::BehindHead(length..length + total),
                        Some(rest) => Body::Apart(rest.first(total)),
                    };
                    self.keep_rest(&request, length, rest, total);
                    return self.dispatch(request, plan, cx);
                }
                if streaming {
                    let framing = flow::Framing::Known { left: total as u64 };
                    return self.begin_flow(request, length, rest, plan, framing, cx);
                }
                Assembly::known(total)
            }
            None if streaming => {
                let framing = flow::Framing::chunked(limit);
                return self.begin_flow(request, length, rest, plan, framing, cx);
            }
            None => Assembly::chunked(limit),
        };
        if request.head.expects_continue() && behind == 0 {
            match plan {
                // RFC 9110 section 10.1.1: a final status in place of 100 tells it not to send.
                Plan::Answer(response) => {
                    let reason = CloseReason::Refused;
                    return self.respond_and_end(request, response, reason, cx);
                }
                Plan::Handle(_) => self.write(CONTINUE, cx),
            }
        }
        self.keep_rest(&request, length, rest, 0);
        self.request = Some(request);
        self.reading = Some(Box::new(Reading::Whole { plan, assembly, started: cx.now }));
        self.status = Status::Body;
        self.body_progressed(cx);
    }

    /// Has a request handled while its body comes.
    fn begin_flow(
        &mut self,
        mut request: Box<Request>,
        length: usize,
        rest: Option<View>,
        plan: Plan,
        framing: flow::Framing,
        cx: &mut Context,
    ) {
        self.keep_rest(&request, length, rest, 0);
        let limits = &cx.shared.limits;
        let inflow = Arc::new(Inflow::new(self.address(cx), self.peer, limits.stream_bytes));
        let mut flow = Flow::new(inflow.clone(), framing, cx.now, limits);
        flow.continue_is_due = request.head.expects_continue() && self.pending.is_empty();
        request.inflow = Some(inflow);
        self.reading = Some(Box::new(Reading::Flow(flow)));
        self.dispatch(request, plan, cx);
    }

    /// Where notices of this request's bodies go.
    fn address(&self, cx: &Context) -> Address {
        Address {
            shared: cx.shared.clone(),
            shard: cx.shard,
            notice: Notice { connection: self.token.0, stream: self.served },
        }
    }

    /// Goes on with a body that flows. False: more has to come first, or its reader is behind.
    fn read_flow(&mut self, cx: &mut Context) -> bool {
        let Some(Reading::Flow(flow)) = self.reading.as_deref_mut() else { return false };
        if flow.continue_is_due && self.status == Status::Handling && flow.is_wanted() {
            flow.continue_is_due = false;
            let output = self.output.get_or_insert_with(|| cx.take_output());
            output.block_mut().extend_from_slice(CONTINUE);
        }
        let limits = &cx.shared.limits;
        if self.status == Status::Answering && !flow.has_ended() && !flow.has_readers() {
            flow.skip(SKIPPED_BODY_BYTES as u64, cx.now, limits);
        }
        if !flow.has_room(cx.now, limits) {
            return false;
        }
        let Some(view) = self.pending.next() else { return false };
        let view = if cx.is_short_of_blocks() { view.copied_out() } else { view };
        if let Some(rest) = flow.push(view, &cx.shared.limits) {
            self.pending.unread(rest);
        }
        true
    }

    /// Puts what lies behind the message's first `used` bytes after its head first in line.
    #[inline]
    fn keep_rest(&mut self, request: &Request, length: usize, rest: Option<View>, used: usize) {
        let rest = match rest {
            None if request.bytes.len() == length + used => return,
            None => request.bytes.behind(length + used),
            Some(rest) if rest.len() == used => return,
            Some(rest) => rest.behind(used),
        };
        self.pending.unread(rest);
    }

    /// Reads on in a body. False: more has to come first.
    fn read_body(&mut self, cx: &mut Context) -> bool {
        let assembly = match self.reading.as_deref_mut() {
            Some(Reading::Whole { assembly, .. }) => assembly,
            Some(Reading::Flow(_)) => return self.skip_body(cx),
            None => return false,
        };
        let Some(request) = &mut self.request else { return false };
        if assembly.is_whole() {
            request.body = assembly.take_body();
            return self.body_is_whole(cx);
        }
        let Some(view) = self.pending.next() else { return false };
        let progress = assembly.push(&view, &mut request.reservation, &cx.shared);
        match progress {
            Ok(Progress::Partial) => {
                self.body_progressed(cx);
                true
            }
            Ok(Progress::Whole { body, used }) => {
                request.body = body;
                if used < view.len() {
                    self.pending.unread(view.behind(used));
                }
                self.body_is_whole(cx)
            }
            Err(stop) => {
                let request = self.request.take().unwrap_or_else(|| cx.take_request());
                self.respond_and_end(request, stop.into_response(), CloseReason::Refused, cx);
                false
            }
        }
    }

    /// Reads on in a body that nobody wants, behind the answer to its request.
    fn skip_body(&mut self, cx: &mut Context) -> bool {
        if self.read_flow(cx) {
            return true;
        }
        let Some(Reading::Flow(flow)) = self.reading.as_deref() else { return false };
        if !flow.has_ended() {
            return false;
        }
        if flow.is_whole() {
            self.reading = None;
            self.status = Status::Idle;
            self.deadline = cx.now + cx.shared.limits.idle_timeout;
        } else {
            self.end(CloseReason::Refused, cx);
            self.finish_if_sent(cx);
        }
        true
    }

    fn body_is_whole(&mut self, cx: &mut Context) -> bool {
        let (Some(request), Some(reading)) = (self.request.take(), self.reading.take()) else {
            return false;
        };
        if let Reading::Whole { plan, .. } = *reading {
            self.dispatch(request, plan, cx);
        }
        true
    }

    /// A body may take its grace and the time that its bytes take at the lowest rate allowed.
    fn body_progressed(&mut self, cx: &Context) {
        let Some(Reading::Whole { assembly, started, .. }) = self.reading.as_deref() else {
            return;
        };
        let limits = &cx.shared.limits;
        let per_second = f64::from(limits.body_bytes_per_second);
        let earned = assembly.received() as f64 / per_second;
        let earned = std::time::Duration::try_from_secs_f64(earned).unwrap_or_default();
        self.deadline = *started + limits.body_grace + earned;
    }

    // Answering.

    fn dispatch(&mut self, mut request: Box<Request>, plan: Plan, cx: &mut Context) {
        let target = match plan {
            Plan::Answer(response) => {
                let response = refused(&request, response, cx);
                return self.respond(request, response, cx);
            }
            Plan::Handle(target) => target,
        };
        // Who reads a body while it comes waits for it.
        if request.inflow.is_none() && cx.shared.dispatch[target].is_inline() {
            cx.begin_call(target);
            let response = cx.shared.routes.target(target).call(&mut request, &cx.shared.counts);
            cx.end_call();
            return self.respond(request, response, cx);
        }
        // A worker may have to be started.
        cx.interrupt_batch();
        if cx.is_short_of_blocks() {
            request.copy_out();
        }
        request.reply =
            ReplyTo { shard: cx.shard, connection: self.token.0, stream: self.served, target };
        self.signal = Some(request.signal.get_or_insert_default().clone());
        self.status = Status::Handling;
        self.deadline = Time::FAR;
        if let Err(request) = cx.shared.pool.submit(&cx.shared, request) {
            self.overloaded(request, cx);
        }
    }

    #[cold]
    fn overloaded(&mut self, request: Box<Request>, cx: &mut Context) {
        cx.shared.counts.overloaded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let response = refused(&request, encode::overloaded(), cx);
        self.respond(request, response, cx);
    }

    #[cold]
    fn refuse(&mut self, request: Box<Request>, refusal: Refusal, cx: &mut Context) {
        let response = encode::refusal(refusal);
        self.served += 1;
        self.respond_and_end(request, response, CloseReason::Refused, cx);
    }

    /// The body is longer than may be; nothing of it is read.
    #[cold]
    fn refuse_body(&mut self, request: Box<Request>, plan: Plan, cx: &mut Context) {
        let response = match plan {
            Plan::Answer(response) => response,
            Plan::Handle(_) => encode::too_large(),
        };
        self.respond_and_end(request, response, CloseReason::Refused, cx);
    }

    /// Answers, and closes the connection behind the answer: input may be left unread.
    fn respond_and_end(
        &mut self,
        request: Box<Request>,
        response: Response,
        reason: CloseReason,
        cx: &mut Context,
    ) {
        self.reading = None;
        let mut response = refused(&request, response, cx);
        let target = request.target;
        let (plan, rest) = self.encode(&request, &mut response, false, cx);
        cx.recycle_request(request);
        match rest {
            None => self.end(reason, cx),
            // A hook has made something of the refusal that flows.
            Some(rest) => self.begin_outflow(rest, plan, target, cx),
        }
    }

    /// Answers a request that was read whole, or that flows.
    fn respond(&mut self, request: Box<Request>, mut response: Response, cx: &mut Context) {
        if response.is_takeover() && !may_take_over(&request, &response) {
            response = upgrade_required(&response);
        }
        let is_input_usable = match self.reading.as_deref() {
            // Who still reads is taken to read to the end.
            Some(Reading::Flow(flow)) => {
                (flow.has_readers() && !flow.has_ended())
                    || flow.can_be_skipped(SKIPPED_BODY_BYTES as u64)
            }
            _ => true,
        };
        let keep_alive = request.head.keep_alive()
            && !cx.draining
            && self.served < cx.shared.limits.requests_per_connection
            && is_input_usable
            && !encode::asks_to_close(&response);
        let target = request.target;
        let (framing, rest) = self.encode(&request, &mut response, keep_alive, cx);
        cx.recycle_request(request);
        match rest {
            None => self.answer_is_whole(framing.keep_alive, cx),
            Some(rest) => self.begin_outflow(rest, framing, target, cx),
        }
    }

    /// An answer's head is encoded; its body follows.
    fn begin_outflow(
        &mut self,
        body: AnswerBody,
        framing: Framing,
        target: Option<usize>,
        cx: &mut Context,
    ) {
        let source = match body {
            AnswerBody::Whole(bytes) => outflow::Source::Parts([Part::Bytes(bytes)].into()),
            AnswerBody::Parts(parts) => outflow::Source::Parts(parts),
            AnswerBody::Stream(stream) => self.begin_stream(stream.source, target, cx),
        };
        // A connection that was taken over is closed behind the conversation.
        let keep_alive = framing.keep_alive && !framing.is_takeover;
        let outflow = Outflow::new(source, framing.coding, keep_alive, target);
        self.outflow = Some(Box::new(outflow));
        self.status = Status::Answering;
        self.deadline = self.next_heartbeat(cx);
    }

    fn begin_stream(
        &mut self,
        source: Source,
        target: Option<usize>,
        cx: &mut Context,
    ) -> outflow::Source {
        let attached = |outlet: Outlet, address| {
            outlet.attach(address);
            outlet
        };
        match source {
            Source::Pulled(source) => outflow::Source::pulled(source),
            Source::Channel(outlet) => outflow::Source::Channel(attached(outlet, self.address(cx))),
            Source::Events(outlet) => outflow::Source::Events(attached(outlet, self.address(cx))),
            Source::Writer(write) => {
                let (sender, outlet) = channel();
                let outlet = attached(outlet, self.address(cx));
                let run = Box::new(move || BodyWriter::new(sender).run(write));
                self.submit(Work::Run(run), target, cx);
                outflow::Source::Channel(outlet)
            }
            Source::Tunnel(converse) => {
                let (sender, outlet) = channel();
                let outlet = attached(outlet, self.address(cx));
                let window = cx.shared.limits.stream_bytes;
                let inflow = Arc::new(Inflow::new(self.address(cx), self.peer, window));
                let reader = BodyReader::of(&inflow);
                let flow = Flow::new(inflow, flow::Framing::Raw, cx.now, &cx.shared.limits);
                self.reading = Some(Box::new(Reading::Flow(flow)));
                let run = Box::new(move || converse(Upgraded::new(reader, sender)));
                self.submit(Work::Run(run), target, cx);
                outflow::Source::Channel(outlet)
            }
        }
    }

    /// Has a worker do something for the answer.
    fn submit(&self, work: Work, target: Option<usize>, cx: &mut Context) {
        let mut block = cx.take_request();
        *block.work_mut() = work;
        block.target = target;
        block.reply = ReplyTo {
            shard: cx.shard,
            connection: self.token.0,
            stream: self.served,
            target: target.unwrap_or(0),
        };
        cx.submit(block);
    }

    /// All of an answer is in the output or sent.
    #[inline]
    fn answer_is_whole(&mut self, keep_alive: bool, cx: &Context) {
        if !keep_alive {
            return self.end(CloseReason::Answered, cx);
        }
        match self.reading.as_deref_mut() {
            Some(Reading::Flow(flow)) if !flow.can_be_skipped(SKIPPED_BODY_BYTES as u64) => {
                self.end(CloseReason::Answered, cx);
            }
            Some(Reading::Flow(flow)) if !flow.is_whole() => {
                flow.skip(SKIPPED_BODY_BYTES as u64, cx.now, &cx.shared.limits);
                self.status = Status::Body;
                self.deadline = Time::FAR;
            }
            _ => {
                self.reading = None;
                self.status = Status::Idle;
                self.deadline = cx.now + cx.shared.limits.idle_timeout;
            }
        }
    }

    /// Goes on with an answer's body. False: something has to be sent or to come first.
    fn answer_on(&mut self, cx: &mut Context) -> bool {
        let Some(outflow) = &mut self.outflow else { return false };
        let waiting = self.output.as_ref().map_or(0, |output| output.remaining());
        if waiting >= OUTPUT_BYTES {
            return false;
        }
        // One direction of a connection that was taken over may end before the other.
        let is_read_on = match self.reading.as_deref() {
            Some(Reading::Flow(flow)) => flow.is_raw() && flow.has_readers() && !flow.has_ended(),
            _ => false,
        };
        match outflow.next(!self.sending && waiting == 0) {
            Next::Bytes(bytes) => {
                let output = self.output.get_or_insert_with(|| cx.take_output());
                outflow.write(output, bytes);
                true
            }
            Next::File(range) => {
                self.sending = true;
                self.deadline = cx.now + cx.shared.limits.write_stall_timeout;
                cx.port.send_file(self.socket, range, self.token);
                false
            }
            Next::Produce(source) => {
                let target = outflow.target;
                self.submit(Work::Produce(source), target, cx);
                false
            }
            Next::Wait => false,
            Next::End(_) if is_read_on => {
                if !outflow.is_shut && !self.sending && waiting == 0 {
                    outflow.is_shut = true;
                    self.sending = true;
                    self.deadline = Time::FAR;
                    cx.port.shutdown(self.socket, self.token);
                }
                false
            }
            Next::End(trailers) => {
                let output = self.output.get_or_insert_with(|| cx.take_output());
                outflow.write_end(output, &trailers);
                if output.remaining() == 0 {
                    self.output.take().into_iter().for_each(|output| cx.recycle_output(output));
                }
                let keep_alive = outflow.keep_alive;
                self.outflow = None;
                self.answer_is_whole(keep_alive, cx);
                self.finish_if_sent(cx);
                true
            }
            Next::Failed(why) => {
                self.abort_answer(why, cx);
                false
            }
        }
    }

    /// The rest of an answer cannot be sent. The peer sees that the message is not whole.
    #[cold]
    fn abort_answer(&mut self, why: &str, cx: &mut Context) {
        tracing::warn!("an answer to {} is cut off: {why}", self.peer);
        if self.outflow.as_ref().is_some_and(|outflow| outflow.ends_with_connection()) {
            self.reset(CloseReason::AnswerAborted, cx);
        } else {
            self.close(CloseReason::AnswerAborted, cx);
        }
    }

    fn encode(
        &mut self,
        request: &Request,
        response: &mut Response,
        keep_alive: bool,
        cx: &mut Context,
    ) -> (Framing, Option<AnswerBody>) {
        cx.tally.requests += 1;
        if response.is_to_word() {
            let unworded = mem::replace(response, Response::new(StatusCode::OK));
            *response = word(unworded, request.has_head().then_some(request));
        }
        let output = self.output.get_or_insert_with(|| cx.take_output());
        let is_head = request.method == Method::HEAD;
        let is_http_10 = request.head.version() == wharf_http::Version::Http10;
        let coding = match response.body_len() {
            Some(left) => Coding::Known { left },
            None if is_http_10 || response.is_takeover() => Coding::UntilClose,
            None => Coding::Chunked,
        };
        let ends_by_closing = coding == Coding::UntilClose
            && !is_head
            && status_allows_body(response.status().as_u16());
        let keep_alive = keep_alive && !ends_by_closing;
        let is_takeover = response.is_takeover();
        let framing = Framing { is_head, keep_alive, coding, is_takeover, is_http_10 };
        let rest = encode::encode(output, response, &framing, &mut cx.openings);
        (framing, rest)
    }

    fn write(&mut self, bytes: &[u8], cx: &mut Context) {
        let output = self.output.get_or_insert_with(|| cx.take_output());
        output.block_mut().extend_from_slice(bytes);
    }

    fn flush(&mut self, cx: &mut Context) {
        if self.sending || self.status == Status::Closing {
            return;
        }
        if let Some(output) = self.output.take() {
            self.send(output, cx);
        }
    }

    fn send(&mut self, gather: Box<Gather>, cx: &mut Context) {
        self.sending = true;
        match self.status {
            // The body's own deadline goes on, and a handler has none.
            Status::Body | Status::Handling => {}
            _ => self.deadline = cx.now + cx.shared.limits.write_stall_timeout,
        }
        cx.port.send(self.socket, gather, self.token);
    }

    /// What the peer takes earns it the time that so many bytes take at the lowest rate allowed,
    /// but never more than a whole stall: who took much at once may still not stop for long.
    fn output_progressed(&mut self, count: usize, cx: &Context) {
        if matches!(self.status, Status::Body | Status::Handling) {
            return;
        }
        let limits = &cx.shared.limits;
        let earned = count as f64 / f64::from(limits.send_bytes_per_second);
        let earned = std::time::Duration::try_from_secs_f64(earned).unwrap_or_default();
        self.deadline = (self.deadline + earned).min(cx.now + limits.write_stall_timeout);
    }

    // Ending.

    /// Nothing more is served; what is in the output is still sent.
    fn end(&mut self, reason: CloseReason, cx: &Context) {
        self.status = Status::Ending;
        self.ending = reason;
        self.deadline = cx.now + cx.shared.limits.write_stall_timeout;
    }

    /// The last answer is sent. If the peer may still be sending, closing now would reset the
    /// connection and could take the answer with it (RFC 9112 section 9.6).
    fn finish(&mut self, cx: &mut Context) {
        let has_unread_body = match self.reading.as_deref() {
            Some(Reading::Flow(flow)) => !flow.is_whole(),
            _ => false,
        };
        self.reading = None;
        let all_read =
            self.ending == CloseReason::Answered && self.pending.is_empty() && !has_unread_body;
        self.pending.clear();
        if self.input_ended || all_read {
            return self.close(self.ending, cx);
        }
        self.status = Status::Lingering;
        self.deadline = cx.now + cx.shared.limits.linger_timeout;
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
        self.status = Status::Closing;
        self.deadline = Time::FAR;
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
    #[inline]
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

/// Finds out what is to happen to a request whose head is whole.
fn route(request: &mut Request, cx: &Context) -> Plan {
    let bytes = request.bytes.as_slice();
    match request.head.method().of(bytes) {
        // As a recycled request has it already.
        b"GET" => {}
        other => match Method::from_bytes(other) {
            Ok(method) => request.method = method,
            // The parser admits only tokens, and every token is a method.
            Err(_) => return Plan::Answer(internal_error()),
        },
    }
    if request.head.form() == TargetForm::Origin {
        let path = request.head.path().of(request.bytes.as_slice());
        if let Some(target) = cx.shared.routes.find_exact(&request.method, path) {
            request.target = Some(target);
            return Plan::Handle(target);
        }
    }
    match request.head.form() {
        // RFC 9112 section 3.2.4: without a path this is how a proxy is asked for `OPTIONS *`.
        TargetForm::Absolute
            if request.method == Method::OPTIONS && request.head.path().is_empty() =>
        {
            return Plan::Answer(Routes::options());
        }
        TargetForm::Origin | TargetForm::Absolute => {}
        TargetForm::Asterisk => return Plan::Answer(Routes::options()),
        TargetForm::Authority => {
            if let Some(target) = cx.shared.routes.connect {
                request.target = Some(target);
                return Plan::Handle(target);
            }
            let message = "This server is not a proxy: it does not CONNECT.\n";
            return Plan::Answer(Response::message(StatusCode::NOT_IMPLEMENTED, message));
        }
    }
    let mut ranges: SmallVec<[Range<usize>; 4]> = SmallVec::new();
    let path = request.path();
    let start = path.as_ptr().addr();
    let found = cx.shared.routes.find(
        &request.method,
        || request.host(),
        path,
        |value| {
            // The router gives parts of the path itself, so this is their place in it.
            let at = value.as_ptr().addr() - start;
            ranges.push(at..at + value.len());
        },
    );
    let target = match found {
        Found::Answer(response) => return Plan::Answer(response),
        Found::Target(target) => target,
    };
    request.target = Some(target);
    if !ranges.is_empty() {
        request.names = Some(cx.shared.routes.target(target).parameters.clone());
        for range in ranges {
            if !request.decode_parameter(range) {
                let message = "The path has escapes that are not UTF-8.\n";
                return Plan::Answer(Response::message(StatusCode::BAD_REQUEST, message));
            }
        }
    }
    Plan::Handle(target)
}

/// Wharf's own answer, as hooks want it.
fn refused(request: &Request, response: Response, cx: &Context) -> Response {
    cx.shared.routes.refused(request, response, &cx.shared.counts)
}

/// Whether the client has asked for the protocol that the handler is about to speak.
fn may_take_over(request: &Request, response: &Response) -> bool {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return request.method == Method::CONNECT && response.status().is_success();
    }
    let offered = |protocol: &str| {
        let mut offers =
            request.header_all("upgrade").flat_map(|value| value.split(|&b| b == b','));
        offers.any(|offer| offer.trim_ascii().eq_ignore_ascii_case(protocol.as_bytes()))
    };
    request.head.upgrade()
        && request.head.framing() == BodyFraming::None
        && response
            .headers()
            .filter(|(name, _)| *name == header::UPGRADE)
            .all(|(_, value)| value.to_str().is_ok_and(offered))
}

/// The answer to who did not offer a protocol (RFC 9110 section 15.5.22).
fn upgrade_required(response: &Response) -> Response {
    let required = Response::message(
        StatusCode::UPGRADE_REQUIRED,
        "This resource speaks another protocol: see the field Upgrade.\n",
    );
    response
        .headers()
        .filter(|(name, _)| *name == header::UPGRADE)
        .fold(required, |required, (name, value)| required.header(name.clone(), value.clone()))
}

fn internal_error() -> Response {
    Response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
        .header(header::CONNECTION, "close")
}

// Idle connections are what there are most of. With its slot's generation, its entry in the wheel
// and the 96 bytes that the port has for it, one takes at most 256 bytes.
const _: () = assert!(size_of::<Connection>() + 8 + 8 + 96 <= 256);
