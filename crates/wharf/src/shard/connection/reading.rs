//! A connection's input: heads, bodies, and what is to happen to a request.

use super::*;

impl Connection {
    pub(super) fn may_read_head(&self) -> bool {
        let has_room = |output: &Gather| !output.has_parts() && output.remaining() < OUTPUT_BYTES;
        !self.sending && self.output.as_deref().is_none_or(has_room)
    }

    /// Reads on in a head. What it did may allow more.
    pub(super) fn read_head(&mut self, view: View, cx: &mut Context) -> bool {
        let mut request = self.request.take().unwrap_or_else(|| cx.take_request());
        let in_one_piece = request.partial.is_empty();
        let parsed = if in_one_piece {
            request.head.parse(view.as_slice(), &cx.head_limits)
        } else {
            request.partial.extend_from_slice(view.as_slice());
            request.head.parse(&request.partial, &cx.head_limits)
        };
        self.head_read(request, view, parsed, cx);
        true
    }

    /// Goes on behind the parser.
    pub(super) fn head_read(
        &mut self,
        mut request: Box<Request>,
        view: View,
        parsed: Result<Option<usize>, Refusal>,
        cx: &mut Context,
    ) {
        let in_one_piece = request.partial.is_empty();
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
                    self.enter(Status::Head, cx.now + cx.shared.limits.head_timeout);
                }
            }
            Err(refusal) => self.refuse(request, refusal, cx),
        }
    }

    /// A head is whole: `length` bytes of `request.bytes`, and `rest` behind it, if that lies
    /// elsewhere.
    pub(super) fn begin(
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
        self.enter(Status::Body, Time::FAR);
        self.body_progressed(cx);
    }

    /// Has a request handled while its body comes.
    pub(super) fn begin_flow(
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
    pub(super) fn address(&self, cx: &Context) -> Address {
        Address {
            shared: cx.shared.clone(),
            shard: cx.shard,
            notice: Notice { connection: self.token.0, stream: self.served },
        }
    }

    /// Goes on with a body that flows. False: more has to come first, or its reader is behind.
    pub(super) fn read_flow(&mut self, cx: &mut Context) -> bool {
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
    pub(super) fn keep_rest(
        &mut self,
        request: &Request,
        length: usize,
        rest: Option<View>,
        used: usize,
    ) {
        let rest = match rest {
            None if request.bytes.len() == length + used => return,
            None => request.bytes.behind(length + used),
            Some(rest) if rest.len() == used => return,
            Some(rest) => rest.behind(used),
        };
        self.pending.unread(rest);
    }

    /// Reads on in a body. False: more has to come first.
    pub(super) fn read_body(&mut self, cx: &mut Context) -> bool {
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
    pub(super) fn skip_body(&mut self, cx: &mut Context) -> bool {
        if self.read_flow(cx) {
            return true;
        }
        let Some(Reading::Flow(flow)) = self.reading.as_deref() else { return false };
        if !flow.has_ended() {
            return false;
        }
        if flow.is_whole() {
            self.reading = None;
            self.enter(Status::Idle, cx.idle_deadline);
        } else {
            self.end(CloseReason::Refused, cx);
            self.finish_if_sent(cx);
        }
        true
    }

    pub(super) fn body_is_whole(&mut self, cx: &mut Context) -> bool {
        let (Some(request), Some(reading)) = (self.request.take(), self.reading.take()) else {
            return false;
        };
        if let Reading::Whole { plan, .. } = *reading {
            self.dispatch(request, plan, cx);
        }
        true
    }

    /// A body may take its grace and the time that its bytes take at the lowest rate allowed.
    pub(super) fn body_progressed(&mut self, cx: &Context) {
        let Some(Reading::Whole { assembly, started, .. }) = self.reading.as_deref() else {
            return;
        };
        let limits = &cx.shared.limits;
        let per_second = f64::from(limits.body_bytes_per_second);
        let earned = assembly.received() as f64 / per_second;
        let earned = std::time::Duration::try_from_secs_f64(earned).unwrap_or_default();
        self.deadline = *started + limits.body_grace + earned;
    }
}

/// Finds out what is to happen to a request whose head is whole.
fn route(request: &mut Request, cx: &Context) -> Plan {
    let bytes = request.bytes.as_slice();
    request.target = route_exactly(&request.head, &mut request.method, bytes, cx);
    match request.target {
        Some(target) => Plan::Handle(target),
        None => route_by_all(request, cx),
    }
}

/// The handler of a path that has a route without parameters, by a head and the bytes that it was
/// read from. None: look on. Finds out the method, which is GET so far.
#[inline(always)]
pub(super) fn route_exactly(
    head: &RequestHead,
    method: &mut Method,
    bytes: &[u8],
    cx: &Context,
) -> Option<usize> {
    let name = head.method().of(bytes);
    if name != b"GET" {
        // The parser admits only tokens, and every token is a method.
        *method = Method::from_bytes(name).ok()?;
    }
    if head.form() != TargetForm::Origin {
        return None;
    }
    cx.shared.routes.find_exact(method, head.path().of(bytes))
}

/// What becomes of a request whose method is known and whose path has to be looked at as a whole.
pub(super) fn route_by_all(request: &mut Request, cx: &Context) -> Plan {
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
