//! The straight way through a connection, for what there is most of: heads that are whole in their
//! block and have no body, a route whose handler runs here, answers that are whole and have no fields
//! of their own. Whatever is not like that goes the long way from the step at which it shows, with
//! the same outcome; here only those steps are left out that would find nothing to do.

use super::reading::{route_by_all, route_exactly};
use super::*;
use crate::response::Plain;

impl Connection {
    /// Serves what a connection received that waited for a request, with nothing under way: its
    /// requests one after another, whose answers leave together.
    #[inline]
    pub(super) fn serve(&mut self, mut lease: Lease, cx: &mut Context) {
        while self.serve_first(lease, cx) {
            match self.pending.next_lease() {
                Some(next) => lease = next,
                None => return self.advance(cx),
            }
        }
    }

    /// Serves the first request; what is behind it waits for its turn. Whether that may go the same
    /// way.
    #[inline(never)]
    fn serve_first(&mut self, lease: Lease, cx: &mut Context) -> bool {
        let mut request = cx.take_request();
        let parsed = request.head.parse(&lease, &cx.head_limits);
        let (Ok(Some(length)), BodyFraming::None) = (&parsed, request.head.framing()) else {
            self.head_read(request, View::Lease(lease), parsed, cx);
            self.advance(cx);
            return false;
        };
        if *length < lease.len() {
            self.pending.unread(View::Lease(lease.slice(*length..)));
        }
        let target = route_exactly(&request.head, &mut request.method, &lease, cx);
        self.served += 1;
        request.target = target;
        request.bytes = View::Lease(lease);
        request.peer = Some(self.peer);
        let plan = match target {
            Some(target) => Plan::Handle(target),
            None => route_by_all(&mut request, cx),
        };
        let Plan::Handle(target) = plan else {
            self.dispatch(request, plan, cx);
            self.advance(cx);
            return false;
        };
        if self.is_straight(&request, target, cx) {
            return self.serve_here(request, target, cx);
        }
        self.dispatch(request, Plan::Handle(target), cx);
        self.advance(cx);
        false
    }

    #[inline(always)]
    fn is_straight(&self, request: &Request, target: usize, cx: &Context) -> bool {
        cx.shared.dispatch[target].is_inline()
            && cx.shared.routes.target(target).is_bare()
            && request.method == Method::GET
            && request.head.keep_alive()
            && request.head.version() == wharf_http::Version::Http11
            && self.served < cx.shared.limits.requests_per_connection
            && !cx.draining
    }

    #[inline(always)]
    fn serve_here(&mut self, request: Box<Request>, target: usize, cx: &mut Context) -> bool {
        let mut other = None;
        cx.begin_call(target);
        let (route, counts) = (cx.shared.routes.target(target), &cx.shared.counts);
        let plain = route.call_bare(&request, counts, &mut other);
        cx.end_call();
        let Some(Plain { content_type, body }) = plain else {
            self.respond(request, other.unwrap_or_else(internal_error), cx);
            self.advance(cx);
            return false;
        };
        cx.requests_answered.add_one();
        let mut output = self.output.take().unwrap_or_else(|| cx.take_output());
        cx.openings.write_head(output.block_mut(), content_type, body.len() as u64);
        outflow::append(&mut output, body);
        cx.recycle_bare_request(request);
        if !self.pending.is_empty() {
            self.output = Some(output);
            if self.may_read_head() {
                return true;
            }
            self.advance(cx);
            return false;
        }
        // As `send` and `arm_receive` do it for a connection that waits for a request.
        self.sending = true;
        self.deadline = cx.stall_deadline;
        cx.port.send(self.socket, output, self.token);
        if !self.is_receiving() {
            self.arm_receive_anew(cx);
        }
        false
    }
}
