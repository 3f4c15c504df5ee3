//! Runs the case files, each fed whole, byte by byte and cut at random.

use crate::case::{self, Case, Reads};
use crate::transcript::{self, Body, Head, Outcome};
use std::fmt::Write as _;
use wharf_http::{Framing, Refusal, TargetForm, Version};

#[test]
fn every_case_comes_out_as_it_says_however_it_is_cut() {
    let cases = case::all();
    assert!(cases.len() >= 150, "only {} cases were found", cases.len());
    let mut wrong = String::new();
    for case in &cases {
        let ways = transcript::cuts(case.input.len(), case.input.len() as u64 * 7919);
        let complaints = match case.reads {
            Reads::Head => run_head(case, &ways),
            Reads::Chunked => run_chunked(case, &ways),
        };
        for complaint in complaints {
            writeln!(wrong, "{}: {complaint}", case.name).expect("a string takes all");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn run_head(case: &Case, ways: &[Vec<usize>]) -> Vec<String> {
    let outcome = transcript::head(&case.input, &case.head_limits, &[]);
    let mut complaints = Vec::new();
    for ends in ways {
        let other = transcript::head(&case.input, &case.head_limits, ends);
        if other != outcome {
            complaints.push(format!("whole {outcome:?}, cut at {ends:?} {other:?}"));
        }
    }
    let of_head = |head: &Head, key: &str, value: &[u8]| check_head(head, key, value, case);
    complaints.extend(check(case, &outcome, &[], of_head));
    complaints
}

fn run_chunked(case: &Case, ways: &[Vec<usize>]) -> Vec<String> {
    let (outcome, data) = transcript::body(&case.input, &case.chunked_limits, &[]);
    let mut complaints = Vec::new();
    for ends in ways {
        let other = transcript::body(&case.input, &case.chunked_limits, ends);
        if other != (outcome.clone(), data.clone()) {
            complaints.push(format!("whole {outcome:?}, cut at {ends:?} {other:?}"));
        }
    }
    let of_body = |body: &Body, key: &str, _: &[u8]| match key {
        "trailer" => Some(body.trailers == expected_fields(case, "trailer")),
        "no-trailers" => Some(body.trailers.is_empty()),
        _ => None,
    };
    complaints.extend(check(case, &outcome, &data, of_body));
    complaints
}

/// Holds an outcome to what the case expects. `of_whole` judges the keys of a whole message and
/// says nothing of keys that it does not know.
fn check<Whole: std::fmt::Debug>(
    case: &Case,
    outcome: &Outcome<Whole>,
    data: &[u8],
    of_whole: impl Fn(&Whole, &str, &[u8]) -> Option<bool>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut rest: &[u8] = b"";
    let mut judged = false;
    for (key, value) in &case.expected {
        let right = match (key.as_str(), outcome) {
            ("more", Outcome::More) | ("whole", Outcome::Whole(..)) => {
                judged = true;
                Some(true)
            }
            ("refused", Outcome::Refused(refusal)) => {
                judged = true;
                Some(*value == named(*refusal).into_bytes())
            }
            ("more" | "whole" | "refused", _) => {
                judged = true;
                Some(false)
            }
            ("data", _) => Some(data == value),
            ("rest", Outcome::Whole(..)) => {
                rest = value;
                Some(true)
            }
            (_, Outcome::Whole(_, whole)) => of_whole(whole, key, value),
            _ => Some(false),
        };
        let value = String::from_utf8_lossy(value);
        match right {
            Some(true) => {}
            Some(false) => complaints.push(format!("not {key:?} {value:?} but {outcome:?}")),
            None => complaints.push(format!("nothing is known of {key:?} {value:?}")),
        }
    }
    if !judged {
        complaints.push("the case does not say what is to come of it".to_owned());
    }
    if let Outcome::Whole(len, _) = outcome
        && case.input[*len..] != *rest
    {
        let left = String::from_utf8_lossy(&case.input[*len..]);
        complaints.push(format!("what is left is {left:?}"));
    }
    complaints
}

fn named(refusal: Refusal) -> String {
    format!("{refusal:?} {}", refusal.status())
}

fn check_head(head: &Head, key: &str, value: &[u8], case: &Case) -> Option<bool> {
    let value_text = str::from_utf8(value).unwrap_or("");
    let yes = value == b"yes";
    assert!(
        yes || value == b"no" || !matches!(key, "keep-alive" | "continue" | "upgrade"),
        "{}: yes or no?",
        case.name
    );
    let is = |part: &Option<Vec<u8>>| part.as_deref() == Some(value);
    Some(match key {
        "method" => head.method == value,
        "target" => head.target == value,
        "form" => value_text == form(head.form),
        "path" => head.path == value,
        "query" => is(&head.query),
        "no-query" => head.query.is_none(),
        "authority" => is(&head.authority),
        "no-authority" => head.authority.is_none(),
        "host" => is(&head.host),
        "no-host" => head.host.is_none(),
        "version" => value_text == if head.version == Version::Http10 { "1.0" } else { "1.1" },
        "field" => head.fields == expected_fields(case, "field"),
        "fields" => value_text.parse() == Ok(head.fields.len()),
        "framing" => value_text == framing(head.framing),
        "keep-alive" => head.keep_alive == yes,
        "continue" => head.expects_continue == yes,
        "upgrade" => head.upgrade == yes,
        _ => return None,
    })
}

fn form(form: TargetForm) -> &'static str {
    match form {
        TargetForm::Origin => "origin",
        TargetForm::Absolute => "absolute",
        TargetForm::Authority => "authority",
        TargetForm::Asterisk => "asterisk",
    }
}

fn framing(framing: Framing) -> String {
    match framing {
        Framing::None => "none".to_owned(),
        Framing::Length(length) => format!("length {length}"),
        Framing::Chunked => "chunked".to_owned(),
    }
}

/// All fields that a case lists, as name and value: what stands before and behind `: `.
fn expected_fields(case: &Case, key: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = case.expected.iter().filter(|(other, _)| other == key);
    let split = lines.map(|(_, line)| {
        let colon = line.windows(2).position(|two| two == b": ").expect("a colon and a space");
        (line[..colon].to_vec(), line[colon + 2..].to_vec())
    });
    split.collect()
}
