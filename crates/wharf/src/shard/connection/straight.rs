//! The straight way through a connection, for what there is most of: a head that is whole and alone
//! in its block, a route whose handler runs here, an answer that is whole and has no fields of its
//! own. Whatever is not like that goes the long way from the step at which it shows, with the same
//! outcome; here only those steps are left out that would find nothing to do.

use super::reading::{route_by_all, route_exactly};
use super::*;
use crate::response::Plain;

impl Connection {
    /// Serves what a connection received that waited for a request, with nothing under way.
    #[inline(never)]
    pub(super) fn serve(&mut self, view: View, cx: &mut Context) {
        let mut request = cx.take_request();
        let parsed = request.head.parse(view.as_slice(), &cx.head_limits);
        let is_alone = matches!(parsed, Ok(Some(length)) if length == view.len());
        if !is_alone || request.head.framing() != BodyFraming::None {
            self.head_read(request, view, parsed, cx);
            return self.advance(cx);
        }
        self.served += 1;
        request.bytes = view;
        request.peer = Some(self.peer);
        let plan = match route_exactly(&mut request, cx) {
            Some(target) if self.is_straight(&request, target, cx) => {
                return self.serve_here(request, target, cx);
            }
            Some(target) => Plan::Handle(target),
            None => route_by_all(&mut request, cx),
        };
        self.dispatch(request, plan, cx);
        self.advance(cx);
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
    fn serve_here(&mut self, request: Box<Request>, target: usize, cx: &mut Context) {
        let mut other = None;
        cx.begin_call(target);
        let (route, counts) = (cx.shared.routes.target(target), &cx.shared.counts);
        let plain = route.call_bare(&request, counts, &mut other);
        cx.end_call();
        let Some(Plain { content_type, body }) = plain else {
            self.respond(request, other.unwrap_or_else(internal_error), cx);
            return self.advance(cx);
        };
        cx.requests_answered.add_one();
        let mut output = cx.take_output();
        cx.openings.write_head(output.block_mut(), content_type, body.len() as u64);
        outflow::append(&mut output, body);
        cx.recycle_bare_request(request);
        self.send(output, cx);
        self.arm_receive(cx);
    }
}
