//! An answer's body on its way out, where it does not leave together with its head.
//!
//! Knows where the next piece comes from and how it is framed, and nothing of sockets: the
//! connection asks for a piece when its output has room, so that the peer sets the pace.

use std::collections::VecDeque;

use bytes::Bytes;
use wharf_port::{FileRange, Gather};

use super::encode::COPIED_BODY_BYTES;
use crate::response::Part;

pub(super) struct Outflow {
    source: Source,
    /// A range of a file is with the port; what follows it waits until that is sent.
    file_is_sending: bool,
    /// Whether the connection is kept behind this answer.
    pub(super) keep_alive: bool,
}

enum Source {
    Parts(VecDeque<Part>),
}

/// What is to be sent next.
pub(super) enum Next {
    Bytes(Bytes),
    File(FileRange),
    /// Something has to be sent first.
    Wait,
    End,
}

impl Outflow {
    pub(super) fn of_parts(parts: VecDeque<Part>, keep_alive: bool) -> Outflow {
        Outflow { source: Source::Parts(parts), file_is_sending: false, keep_alive }
    }

    /// What is to be sent next. A range of a file only if the `output_is_empty`; it is then to be
    /// submitted at once.
    pub(super) fn next(&mut self, output_is_empty: bool) -> Next {
        if self.file_is_sending {
            return Next::Wait;
        }
        match &mut self.source {
            Source::Parts(parts) => match parts.pop_front() {
                Some(Part::Bytes(bytes)) => Next::Bytes(bytes),
                Some(Part::File(range)) if output_is_empty => {
                    self.file_is_sending = true;
                    Next::File(range)
                }
                Some(range) => {
                    parts.push_front(range);
                    Next::Wait
                }
                None => Next::End,
            },
        }
    }

    /// A range was sent, but for what is `left` of it.
    pub(super) fn file_sent(&mut self, left: FileRange) {
        self.file_is_sending = false;
        if left.length > 0 {
            match &mut self.source {
                Source::Parts(parts) => parts.push_front(Part::File(left)),
            }
        }
    }
}

/// Appends bytes of a body as they are: small ones by a copy, in place of a send of one part more.
pub(super) fn append(output: &mut Gather, bytes: Bytes) {
    if bytes.len() <= COPIED_BODY_BYTES && !output.has_parts() {
        output.block_mut().extend_from_slice(&bytes);
    } else {
        output.push(bytes);
    }
}
