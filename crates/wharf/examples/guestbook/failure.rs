//! Why a request is not done. The API tells it as a problem document, the page as a page.

use wharf::StatusCode;

use crate::draft::Invalid;
use crate::store::StoreError;

pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// The fields that were at fault, if it was for them.
    pub(crate) invalid: Vec<Invalid>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Failure {
        Failure { status, detail: detail.into(), invalid: Vec::new() }
    }
}

impl From<Vec<Invalid>> for Failure {
    fn from(invalid: Vec<Invalid>) -> Self {
        let detail = "the entry cannot be kept as it is";
        Failure { invalid, ..Failure::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }
}

/// What Wharf's typed accessors object to.
impl From<wharf::Error> for Failure {
    fn from(error: wharf::Error) -> Self {
        Failure::new(error.status(), error.to_string())
    }
}

/// The cause is for the operator; the client learns that there is one.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!("the database: {error}");
        if error.is_busy() {
            let detail = "the guestbook is busy; try again in a moment";
            return Failure::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        }
        let detail = "the guestbook cannot be read or written";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}
