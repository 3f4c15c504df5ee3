//! A connection's output: handlers called, answers encoded, bodies that flow.

use super::*;

impl Connection {
    pub(super) fn dispatch(&mut self, mut request: Box<Request>, plan: Plan, cx: &mut Context) {
        let target = match plan {
            Plan::Answer(response) => {
                let response = refused(&request, response, cx);
                return self.respond(request, response, cx);
            }
            Plan::Handle(target) => target,
        };
        let timeout = cx.shared.routes.target(target).options.timeout;
        if let Some(timeout) = timeout {
            request.deadline = Instant::now().checked_add(timeout);
        }
        // Who reads a body while it comes waits for it.
        if request.inflow.is_none() && cx.shared.dispatch[target].is_inline() {
            cx.begin_call(target);
            let response = cx.shared.routes.target(target).call(&mut request, &cx.shared.counts);
            cx.end_call();
            return self.respond(request, response, cx);
        }
        // Handing requests over is no part of serving inline calls.
        cx.interrupt_batch();
        if cx.is_short_of_blocks() {
            request.copy_out();
        }
        request.reply =
            ReplyTo { shard: cx.shard, connection: self.token.0, stream: self.served, target };
        self.signal = Some(request.signal.get_or_insert_default().clone());
        self.enter(Status::Handling, timeout.map_or(Time::FAR, |timeout| cx.now + timeout));
        if let Err(request) = cx.hand_over(request) {
            self.overloaded(request, cx);
        }
    }

    #[cold]
    pub(super) fn overloaded(&mut self, request: Box<Request>, cx: &mut Context) {
        cx.shared.counts.overloaded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let response = refused(&request, encode::overloaded(), cx);
        self.respond(request, response, cx);
    }

    #[cold]
    pub(super) fn refuse(&mut self, request: Box<Request>, refusal: Refusal, cx: &mut Context) {
        let response = encode::refusal(refusal);
        self.served += 1;
        self.respond_and_end(request, response, CloseReason::Refused, cx);
    }

    /// The body is longer than may be; nothing of it is read.
    #[cold]
    pub(super) fn refuse_body(&mut self, request: Box<Request>, plan: Plan, cx: &mut Context) {
        let response = match plan {
            Plan::Answer(response) => response,
            Plan::Handle(_) => encode::too_large(),
        };
        self.respond_and_end(request, response, CloseReason::Refused, cx);
    }

    /// Answers, and closes the connection behind the answer: input may be left unread.
    pub(super) fn respond_and_end(
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
    pub(super) fn respond(
        &mut self,
        request: Box<Request>,
        mut response: Response,
        cx: &mut Context,
    ) {
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
    pub(super) fn begin_outflow(
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
        self.enter(Status::Answering, self.next_heartbeat(cx));
    }

    pub(super) fn begin_stream(
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
            Source::Channel(outlet) => outflow::Source::Pushed(attached(outlet, self.address(cx))),
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
    pub(super) fn submit(&self, work: Work, target: Option<usize>, cx: &mut Context) {
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
    pub(super) fn answer_is_whole(&mut self, keep_alive: bool, cx: &Context) {
        if !keep_alive {
            return self.end(CloseReason::Answered, cx);
        }
        match self.reading.as_deref_mut() {
            Some(Reading::Flow(flow)) if !flow.can_be_skipped(SKIPPED_BODY_BYTES as u64) => {
                self.end(CloseReason::Answered, cx);
            }
            Some(Reading::Flow(flow)) if !flow.is_whole() => {
                flow.skip(SKIPPED_BODY_BYTES as u64, cx.now, &cx.shared.limits);
                self.enter(Status::Body, Time::FAR);
            }
            _ => {
                self.reading = None;
                self.enter(Status::Idle, cx.idle_deadline);
            }
        }
    }

    /// Goes on with an answer's body. False: something has to be sent or to come first.
    pub(super) fn answer_on(&mut self, cx: &mut Context) -> bool {
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
                self.deadline = cx.stall_deadline;
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
    pub(super) fn abort_answer(&mut self, why: &str, cx: &mut Context) {
        tracing::warn!("an answer to {} is cut off: {why}", self.peer);
        if self.outflow.as_ref().is_some_and(|outflow| outflow.ends_with_connection()) {
            self.reset(CloseReason::AnswerAborted, cx);
        } else {
            self.close(CloseReason::AnswerAborted, cx);
        }
    }

    pub(super) fn encode(
        &mut self,
        request: &Request,
        response: &mut Response,
        keep_alive: bool,
        cx: &mut Context,
    ) -> (Framing, Option<AnswerBody>) {
        cx.requests_answered.add_one();
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

    pub(super) fn write(&mut self, bytes: &[u8], cx: &mut Context) {
        let output = self.output.get_or_insert_with(|| cx.take_output());
        output.block_mut().extend_from_slice(bytes);
    }

    pub(super) fn flush(&mut self, cx: &mut Context) {
        if self.sending || self.status == Status::Closing {
            return;
        }
        if let Some(output) = self.output.take() {
            self.send(output, cx);
        }
    }

    #[inline(always)]
    pub(super) fn send(&mut self, gather: Box<Gather>, cx: &mut Context) {
        self.sending = true;
        match self.status {
            // The body's own deadline goes on, and the handler's.
            Status::Body | Status::Handling => {}
            _ => self.deadline = cx.stall_deadline,
        }
        cx.port.send(self.socket, gather, self.token);
    }

    /// What the peer takes earns it the time that so many bytes take at the lowest rate allowed,
    /// but never more than a whole stall: who took much at once may still not stop for long.
    pub(super) fn output_progressed(&mut self, count: usize, cx: &Context) {
        if matches!(self.status, Status::Body | Status::Handling) {
            return;
        }
        let limits = &cx.shared.limits;
        let earned = count as f64 / f64::from(limits.send_bytes_per_second);
        let earned = std::time::Duration::try_from_secs_f64(earned).unwrap_or_default();
        self.deadline = (self.deadline + earned).min(cx.stall_deadline);
    }
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
