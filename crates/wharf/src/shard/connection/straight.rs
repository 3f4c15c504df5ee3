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
    #[inline(never)]
    pub(super) fn serve(&mut self, mut view: View, cx: &mut Context) {
        while let Some(rest) = self.serve_first(view, cx) {
            view = rest;
        }
    }

    /// Serves the first request. Returns what is behind it, if that may go the same way.
    #[inline(always)]
    fn serve_first(&mut self, view: View, cx: &mut Context) -> Option<View> {
        let mut request = cx.take_request();
        let parsed = request.head.parse(view.as_slice(), &cx.head_limits);
        let (Ok(Some(length)), BodyFraming::None) = (&parsed, request.head.framing()) else {
            self.head_read(request, view, parsed, cx);
            self.advance(cx);
            return None;
        };
        let rest = (*length < view.len()).then(|| view.behind(*length));
        self.served += 1;
        request.bytes = view;
        request.peer = Some(self.peer);
        let target = route_exactly(&mut request, cx);
        if let Some(target) = target
            && self.is_straight(&request, target, cx)
        {
            return self.serve_here(request, rest, target, cx);
        }
        rest.into_iter().for_each(|rest| self.pending.unread(rest));
        let plan = target.map_or_else(|| route_by_all(&mut request, cx), Plan::Handle);
        self.dispatch(request, plan, cx);
        self.advance(cx);
        None
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
    fn serve_here(
        &mut self,
        request: Box<Request>,
        rest: Option<View>,
        target: usize,
        cx: &mut Context,
    ) -> Option<View> {
        let mut other = None;
        cx.begin_call(target);
        let (route, counts) = (cx.shared.routes.target(target), &cx.shared.counts);
        let plain = route.call_bare(&request, counts, &mut other);
        cx.end_call();
        let Some(Plain { content_type, body }) = plain else {
            rest.into_iter().for_each(|rest| self.pending.unread(rest));
            self.respond(request, other.unwrap_or_else(internal_error), cx);
            self.advance(cx);
            return None;
        };
        cx.requests_answered.add_one();
        let mut output = self.output.take().unwrap_or_else(|| cx.take_output());
        cx.openings.write_head(output.block_mut(), content_type, body.len() as u64);
        outflow::append(&mut output, body);
        cx.recycle_bare_request(request);
        if rest.is_none() {
            self.send(output, cx);
            self.arm_receive(cx);
            return None;
        }
        self.output = Some(output);
        if self.may_read_head() {
            return rest;
        }
        rest.into_iter().for_each(|rest| self.pending.unread(rest));
        self.advance(cx);
        None
    }
}
