//! Server-sent events (the HTML standard, section 9.2) on a body that is pushed.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{BodySender, SendError};

/// An event for [`EventSender::send`].
///
/// ```
/// use std::time::Duration;
/// use wharf::Event;
///
/// let event = Event::new("21 °C\nfalling").name("weather").id(7).retry(Duration::from_secs(3));
/// assert_eq!(
///     event.to_string(),
///     "event: weather\nid: 7\nretry: 3000\ndata: 21 °C\ndata: falling\n\n"
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    name: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
    data: String,
}

impl Event {
    /// An event with this data, of one line or several.
    pub fn new(data: impl Into<String>) -> Event {
        Event { data: data.into(), ..Event::default() }
    }

    /// The event's name, by which a page listens to it; without one it is `message`. Line breaks
    /// are left out.
    pub fn name(mut self, name: impl fmt::Display) -> Event {
        self.name = Some(one_line(name));
        self
    }

    /// The event's id, which a client that connects again sends as `Last-Event-ID`; see
    /// [`Request::last_event_id`](crate::Request::last_event_id). Line breaks and NUL are left
    /// out.
    pub fn id(mut self, id: impl fmt::Display) -> Event {
        self.id = Some(one_line(id));
        self
    }

    /// How long a client waits before it connects again. In whole milliseconds.
    pub fn retry(mut self, retry: Duration) -> Event {
        self.retry = Some(retry);
        self
    }
}

fn one_line(text: impl fmt::Display) -> String {
    let mut text = text.to_string();
    text.retain(|c| !matches!(c, '\r' | '\n' | '\0'));
    text
}

/// The event as it is sent.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            writeln!(f, "event: {name}")?;
        }
        if let Some(id) = &self.id {
            writeln!(f, "id: {id}")?;
        }
        if let Some(retry) = self.retry {
            writeln!(f, "retry: {}", retry.as_millis())?;
        }
        // A CR ends a line too, alone or before an LF.
        let data = self.data.replace("\r\n", "\n").replace('\r', "\n");
        for line in data.split('\n') {
            writeln!(f, "data: {line}")?;
        }
        f.write_char('\n')
    }
}

/// The program's end of a stream of events. Made by
/// [`Response::events`](crate::Response::events).
///
/// It may be cloned and sent to any thread. The stream ends when every clone is dropped, when the
/// client closes its side, and when the server drains. Between events a comment is sent every 15 s,
/// which keeps proxies from closing the connection and finds clients that have gone without a word.
#[derive(Clone, Debug)]
pub struct EventSender {
    sender: BodySender,
}

impl EventSender {
    pub(crate) fn new(sender: BodySender) -> EventSender {
        EventSender { sender }
    }

    /// Sends an event. Waits while 64 KiB of earlier ones have not been taken by the client.
    ///
    /// # Errors
    /// As for [`BodySender::send`].
    pub fn send(&self, event: &Event) -> Result<(), SendError> {
        self.sender.send(event.to_string())
    }

    /// Sends an event, or says that there is no room for it now: the client reads too slowly, and
    /// may be left out or dropped.
    ///
    /// # Errors
    /// As for [`BodySender::try_send`].
    pub fn try_send(&self, event: &Event) -> Result<(), SendError> {
        self.sender.try_send(event.to_string())
    }

    /// Whether nothing can be sent any more: the client has gone, or the server drains.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Calls `tell` once the stream has ended; see [`BodySender::on_close`].
    pub fn on_close(&self, tell: impl FnOnce() + Send + 'static) {
        self.sender.on_close(tell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_an_event_can_end_it_or_begin_another_field() {
        let event = Event::new("a\r\n\r\nb\rdata: c\n").name("x\nevent: y").id("1\r\n2\0");
        assert_eq!(
            event.to_string(),
            "event: xevent: y\nid: 12\ndata: a\ndata: \ndata: b\ndata: data: c\ndata: \n\n"
        );
        assert_eq!(Event::new("").to_string(), "data: \n\n");
    }
}
