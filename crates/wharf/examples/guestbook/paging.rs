//! Which of the entries are asked for.

use serde::Deserialize;
use wharf::{Error, Request, StatusCode};

const MOST: u32 = 100;

/// From a query such as `before=41&limit=20`. Ids only grow, so the pages of somebody who leafs
/// through them do not shift when others write.
#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct Paging {
    pub(crate) before: Option<i64>,
    pub(crate) limit: u32,
}

impl Default for Paging {
    fn default() -> Self {
        Paging { before: None, limit: 20 }
    }
}

impl Paging {
    pub(crate) fn of(request: &Request) -> Result<Paging, Error> {
        let paging: Paging = request.query()?;
        if !(1..=MOST).contains(&paging.limit) {
            let detail = format!("limit is a number from 1 to {MOST}");
            return Err(Error::request(StatusCode::BAD_REQUEST, detail));
        }
        Ok(paging)
    }
}
