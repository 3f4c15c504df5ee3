//! Which routes are asked for by the host that a request names.
//!
//! A list of names and what belongs to each. It does not know what that is.

use crate::error::{Error, Kind};

/// A host's name, in lower case and without a port, or `*.` and the name that others end with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(String);

impl Host {
    pub(crate) fn new(name: &str) -> Host {
        Host(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What the names that it stands for end with, dot and all.
    fn ending(&self) -> Option<&str> {
        self.0.strip_prefix('*')
    }

    fn check(&self) -> Result<(), Error> {
        let name = self.0.strip_prefix("*.").unwrap_or(&self.0);
        let is_address = name.starts_with('[') && name.ends_with(']');
        let allowed = |b: u8| match b {
            b':' | b'[' | b']' => is_address,
            b'.' | b'-' | b'_' => true,
            _ => b.is_ascii_alphanumeric(),
        };
        if !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Configuration,
            format!(
                "{:?} is not a host to route by: it is a name without a port, or *. and a name",
                self.0
            ),
        ))
    }
}

/// Hosts, and what belongs to each.
pub(crate) struct Hosts<T> {
    /// Names that are spelled out before endings, longer endings before shorter ones.
    list: Vec<(Host, T)>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Hosts<T> {
        Hosts { list: Vec::new() }
    }
}

impl<T: Default> Hosts<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The table of `host`, made now if there is none; `others` if it is no host in particular.
    pub(crate) fn table_of<'t>(
        &'t mut self,
        host: Option<Host>,
        others: &'t mut T,
    ) -> Result<&'t mut T, Error> {
        let Some(host) = host else { return Ok(others) };
        host.check()?;
        let position = match self.list.iter().position(|(known, _)| *known == host) {
            Some(position) => position,
            None => {
                let rank = |host: &Host| (host.ending().is_some(), usize::MAX - host.0.len());
                let position = self.list.partition_point(|(known, _)| rank(known) <= rank(&host));
                self.list.insert(position, (host, T::default()));
                position
            }
        };
        Ok(&mut self.list[position].1)
    }

    pub(crate) fn tables_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.list.iter_mut().map(|(_, table)| table)
    }

    /// What belongs to the host of a request; `authority` may have a port.
    pub(crate) fn find(&self, authority: &str) -> Option<&T> {
        let name = without_port(authority);
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_meant = |host: &Host| match host.ending() {
            None => host.0.eq_ignore_ascii_case(name),
            Some(ending) => ends_with(name, ending),
        };
        self.list.iter().find(|(host, _)| is_meant(host)).map(|(_, table)| table)
    }
}

/// Whether the name is longer than its ending.
fn ends_with(name: &str, ending: &str) -> bool {
    let (name, ending) = (name.as_bytes(), ending.as_bytes());
    name.len() > ending.len() && name[name.len() - ending.len()..].eq_ignore_ascii_case(ending)
}

/// RFC 3986 section 3.2: an address of version 6 stands in brackets, for it has colons itself.
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&'static str]) -> Hosts<&'static str> {
        let mut hosts = Hosts::default();
        let mut others = "";
        for name in names {
            *hosts.table_of(Some(Host::new(name)), &mut others).unwrap() = *name;
        }
        hosts
    }

    #[test]
    fn the_most_specific_host_wins() {
        let names = ["*.example.com", "example.com", "*.b.example.com", "a.b.example.com", "[::1]"];
        let found = |authority| hosts(&names).find(authority).copied();
        assert_eq!(found("example.com"), Some("example.com"));
        assert_eq!(found("EXAMPLE.com.:8080"), Some("example.com"));
        assert_eq!(found("x.example.com"), Some("*.example.com"));
        assert_eq!(found("x.y.example.com:80"), Some("*.example.com"));
        assert_eq!(found("x.b.example.com"), Some("*.b.example.com"));
        assert_eq!(found("A.b.example.com"), Some("a.b.example.com"));
        assert_eq!(found("[::1]:8080"), Some("[::1]"));
        assert_eq!(found("[::1]"), Some("[::1]"));
        assert_eq!(found("notexample.com"), None);
        assert_eq!(found(".example.com"), None, "there is no name before the dot");
        assert_eq!(found(""), None);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for name in ["", "*", "*.", "a/b", "example.com:80", "a..*", "exa mple", "http://a"] {
            let mut others = ();
            let made = Hosts::default().table_of(Some(Host::new(name)), &mut others).is_ok();
            assert!(!made, "{name:?}");
        }
    }
}
