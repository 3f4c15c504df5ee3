//! Which of the entries are asked for.

use wharf::{Request, StatusCode};

use crate::failure::Failure;

const DEFAULT_LIMIT: u32 = 20;
const MOST: u32 = 100;

/// From a query such as `before=41&limit=20`. Ids only grow, so the pages of somebody who leafs
/// through them do not shift when others write.
pub(crate) struct Paging {
    pub(crate) before: Option<i64>,
    pub(crate) limit: u32,
}

impl Default for Paging {
    fn default() -> Self {
        Paging { before: None, limit: DEFAULT_LIMIT }
    }
}

impl Paging {
    pub(crate) fn of(request: &Request) -> Result<Paging, Failure> {
        let mut paging = Paging::default();
        for (key, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
            match &*key {
                "before" => {
                    let before =
                        value.parse().map_err(|_| wrong("before is the id of an entry"))?;
                    paging.before = Some(before);
                }
                "limit" => match value.parse() {
                    Ok(limit @ 1..=MOST) => paging.limit = limit,
                    _ => return Err(wrong(&format!("limit is a number from 1 to {MOST}"))),
                },
                _ => {}
            }
        }
        Ok(paging)
    }
}

fn wrong(detail: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, detail)
}
