//! What a connection needs of its shard: the port, the shared state, and recycled blocks.

use std::collections::VecDeque;
use std::sync::Arc;

use wharf_http::HeadLimits;
use wharf_port::{Gather, Port, Time};

use super::batch::Batch;
use super::opening::Openings;
use crate::Request;
use crate::shared::Shared;
use crate::statistics::{CloseReason, RequestCount};

/// Blocks kept for reuse, of each kind. What is beyond is freed.
const KEPT: usize = 256;
/// An output block that grew beyond this is not kept.
const KEPT_OUTPUT_BYTES: usize = 64 * 1024;
/// A fresh output block has room for a head and a small body.
const OUTPUT_BYTES: usize = 4 * 1024;

pub(super) struct Context {
    pub(super) port: Port,
    pub(super) shared: Arc<Shared>,
    /// This shard's number.
    pub(super) shard: usize,
    pub(super) now: Time,
    /// When a connection that is idle from now on has been so for too long.
    pub(super) idle_deadline: Time,
    /// When a peer that takes nothing from now on has done so for too long.
    pub(super) stall_deadline: Time,
    pub(super) openings: Openings,
    pub(super) head_limits: HeadLimits,
    /// Answers say `Connection: close`.
    pub(super) draining: bool,
    pub(super) requests_answered: Arc<RequestCount>,
    pub(super) batch: Batch,
    /// Requests are ready for workers, who have not been called.
    calls_workers: bool,
    /// Work on bodies that are being answered, for which the pool had no room.
    deferred: VecDeque<Box<Request>>,
    /// Last in, first out, so that what is reused is still in the cache. Boxed, since it is the box
    /// that is handed on.
    #[allow(clippy::vec_box)]
    requests: Vec<Box<Request>>,
    /// The one that was recycled last, if the next has not taken it.
    request: Option<Box<Request>>,
    #[allow(clippy::vec_box)]
    outputs: Vec<Box<Gather>>,
}

impl Context {
    pub(super) fn new(port: Port, shared: Arc<Shared>, shard: usize) -> Context {
        let (now, openings) = (port.now(), Openings::at(port.unix_time()));
        let limits = &shared.limits;
        let head_limits = HeadLimits {
            request_line_bytes: limits.request_line_bytes,
            head_bytes: limits.head_bytes,
            fields: limits.fields,
        };
        Context {
            requests_answered: shared.counts.requests[shard].clone(),
            now,
            idle_deadline: now + limits.idle_timeout,
            stall_deadline: now + limits.write_stall_timeout,
            port,
            shared,
            shard,
            openings,
            head_limits,
            draining: false,
            batch: Batch::default(),
            calls_workers: false,
            deferred: VecDeque::new(),
            requests: Vec::with_capacity(KEPT),
            request: None,
            outputs: Vec::with_capacity(KEPT),
        }
    }

    #[inline]
    pub(super) fn take_request(&mut self) -> Box<Request> {
        self.request.take().unwrap_or_else(|| self.take_another())
    }

    #[cold]
    fn take_another(&mut self) -> Box<Request> {
        self.requests.pop().unwrap_or_else(|| Box::new(Request::blank()))
    }

    #[inline]
    pub(super) fn recycle_request(&mut self, mut request: Box<Request>) {
        request.recycle();
        self.keep_request(request);
    }

    /// Of a request that had [nothing](Request::recycle_bare) beside its head.
    #[inline(always)]
    pub(super) fn recycle_bare_request(&mut self, mut request: Box<Request>) {
        if let Some(lease) = request.recycle_bare() {
            self.port.give_back(lease);
        }
        self.keep_request(request);
    }

    #[inline(always)]
    fn keep_request(&mut self, request: Box<Request>) {
        match self.request {
            None => self.request = Some(request),
            Some(_) => self.keep_another(request),
        }
    }

    #[cold]
    fn keep_another(&mut self, request: Box<Request>) {
        if self.requests.len() < KEPT {
            self.requests.push(request);
        }
    }

    /// Hands a request to a worker, or gives it back when there is no place for it.
    pub(super) fn hand_over(&mut self, request: Box<Request>) -> Result<(), Box<Request>> {
        self.calls_workers |= self.shared.pool.submit(request)?;
        Ok(())
    }

    /// Calls a worker for what was handed over since the last time. A call is a system call, and
    /// where processors are few, the worker takes the shard's at once; so one is made for many.
    pub(super) fn call_workers(&mut self) {
        if std::mem::take(&mut self.calls_workers) {
            self.shared.pool.call(&self.shared);
        }
    }

    /// Hands work on a body to a worker. Where the pool is full it waits: an answer that has begun
    /// cannot become a 503.
    pub(super) fn submit(&mut self, request: Box<Request>) {
        if let Err(request) = self.hand_over(request) {
            self.deferred.push_back(request);
        }
    }

    /// Tries again what the pool had no room for.
    pub(super) fn submit_deferred(&mut self) {
        // Each of them, since one route's places may be full and another's not.
        for _ in 0..self.deferred.len() {
            let Some(request) = self.deferred.pop_front() else { return };
            self.submit(request);
        }
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    #[inline]
    pub(super) fn take_output(&mut self) -> Box<Gather> {
        self.outputs.pop().unwrap_or_else(|| {
            let mut output = Box::<Gather>::default();
            output.block_mut().reserve(OUTPUT_BYTES);
            output
        })
    }

    #[inline(always)]
    pub(super) fn recycle_output(&mut self, mut output: Box<Gather>) {
        output.clear();
        if self.outputs.len() < KEPT && output.block_mut().capacity() <= KEPT_OUTPUT_BYTES {
            self.outputs.push(output);
        }
    }

    /// Whether receive blocks are so scarce that what waits should be copied out of them, rather
    /// than starve other connections.
    pub(super) fn is_short_of_blocks(&mut self) -> bool {
        let counters = self.port.counters();
        let block = crate::shard::RECEIVE_BLOCK_BYTES;
        let max = (self.shared.limits.receive_bytes / block).max(1);
        counters.leased_blocks * 2 > max
    }

    pub(super) fn count_closed(&self, reason: CloseReason) {
        self.shared.counts.count_closed(reason);
    }
}
