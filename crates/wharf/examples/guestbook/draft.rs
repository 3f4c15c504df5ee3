//! What visitors send: read from a form or from JSON, checked, and only then an entry to keep.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wharf::{Error, Request, StatusCode};

pub(crate) const NAME_CHARS: usize = 80;
pub(crate) const MESSAGE_CHARS: usize = 2_000;
/// The longest message has 24,000 bytes as JSON, each character in two `\u` escapes.
pub(crate) const JSON_BYTES: usize = 64 * 1024;

/// A name and a message as they were typed. What is not there is empty, which the check objects to.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) message: String,
}

/// A name and a message that are fit to be kept. Only [`Draft::check`] makes one.
pub(crate) struct NewEntry {
    name: String,
    message: String,
}

/// What is wrong with a field.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Invalid {
    pub(crate) field: &'static str,
    pub(crate) detail: String,
}

impl NewEntry {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl Draft {
    pub(crate) fn from_form(request: &Request) -> Result<Draft, Error> {
        request.form()
    }

    pub(crate) fn from_json(request: &Request) -> Result<Draft, Error> {
        // By way of a map, since an array would do for a struct.
        let object: Map<String, Value> = request.json()?;
        Draft::deserialize(Value::Object(object)).map_err(|_| {
            let detail = "the name and the message have to be texts";
            Error::request(StatusCode::UNPROCESSABLE_ENTITY, detail)
        })
    }

    /// Makes an entry of it, or says what is wrong, field by field.
    pub(crate) fn check(&self) -> Result<NewEntry, Vec<Invalid>> {
        // Browsers send line ends in forms as CR LF, whatever was typed.
        let message = self.message.replace("\r\n", "\n").replace('\r', "\n");
        let name = self.name.trim();
        let message = message.trim();
        let invalid: Vec<_> = [
            check_text("name", name, NAME_CHARS, &[]),
            check_text("message", message, MESSAGE_CHARS, &['\n', '\t']),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !invalid.is_empty() {
            return Err(invalid);
        }
        Ok(NewEntry { name: name.to_owned(), message: message.to_owned() })
    }
}

fn check_text(
    field: &'static str,
    text: &str,
    most_chars: usize,
    allowed_controls: &[char],
) -> Option<Invalid> {
    let chars = text.chars().count();
    let is_unfit = |c: char| {
        // U+FFFD stands where somebody before us met bytes that are not text.
        c == char::REPLACEMENT_CHARACTER || (c.is_control() && !allowed_controls.contains(&c))
    };
    let detail = if chars == 0 {
        format!("the {field} is empty")
    } else if chars > most_chars {
        format!("the {field} has {chars} characters; {most_chars} is the most")
    } else if text.contains(is_unfit) {
        format!("the {field} has characters that are not text")
    } else {
        return None;
    };
    Some(Invalid { field, detail })
}
