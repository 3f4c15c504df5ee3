//! The four forms of a request target (RFC 9112 section 3.2).

use super::TargetForm;
use crate::authority::{Port, is_authority};
use crate::refusal::Refusal;
use std::ops::Range;

/// A target's parts, as offsets into it.
pub(super) struct Target {
    pub(super) form: TargetForm,
    /// Empty if the target names no authority.
    pub(super) authority: Range<usize>,
    pub(super) path_start: usize,
    /// Where the query's `?` stands, or the target's end.
    pub(super) question: usize,
}

/// Reads a non-empty target whose bytes are good.
pub(super) fn read(method: &[u8], target: &[u8]) -> Result<Target, Refusal> {
    let end = target.len();
    if method == b"CONNECT" {
        // RFC 9112 section 3.2.3: CONNECT has the authority form and no other.
        if is_authority(target, Port::Required) {
            let form = TargetForm::Authority;
            return Ok(Target { form, authority: 0..end, path_start: end, question: end });
        }
        let other_form = target[0] == b'/' || target == b"*" || after_scheme(target).is_some();
        return Err(if other_form { Refusal::WrongTargetForm } else { Refusal::BadTarget });
    }
    if target[0] == b'/' {
        let question = question(target, 0);
        return Ok(Target { form: TargetForm::Origin, authority: 0..0, path_start: 0, question });
    }
    if target == b"*" {
        // RFC 9112 section 3.2.4: only for a server-wide OPTIONS.
        if method != b"OPTIONS" {
            return Err(Refusal::WrongTargetForm);
        }
        let form = TargetForm::Asterisk;
        return Ok(Target { form, authority: 0..0, path_start: 0, question: end });
    }
    let Some(start) = after_scheme(target) else {
        let other_form = is_authority(target, Port::Required);
        return Err(if other_form { Refusal::WrongTargetForm } else { Refusal::BadTarget });
    };
    let rest = &target[start..];
    let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = start..start + len;
    // RFC 9110 section 4.2.1: an empty host is to be rejected.
    if !is_authority(&target[authority.clone()], Port::Optional) {
        return Err(Refusal::BadTarget);
    }
    let path_start = authority.end;
    let question = question(target, path_start);
    Ok(Target { form: TargetForm::Absolute, authority, path_start, question })
}

/// Where the query's `?` stands from `from` on, or the target's end.
fn question(target: &[u8], from: usize) -> usize {
    let found = target[from..].iter().position(|&byte| byte == b'?');
    found.map_or(target.len(), |at| from + at)
}

/// How long `http://` or `https://` is at the start of a target. Resources of other schemes are
/// not ours to serve (RFC 9110 section 4.2).
fn after_scheme(target: &[u8]) -> Option<usize> {
    let starts = |scheme: &[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    [b"http://".as_slice(), b"https://"].iter().find(|scheme| starts(scheme)).map(|s| s.len())
}
