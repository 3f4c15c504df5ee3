//! The page: the list of entries, and the form, which works without JavaScript.

use std::fmt;
use std::sync::Arc;

use wharf::{
    Error, Escaped, IntoResponse, Problem, Redirect, Request, Response, Router, StatusCode, get,
    with,
};

use crate::draft::{Draft, Invalid, MESSAGE_CHARS, NAME_CHARS};
use crate::paging::Paging;
use crate::store::{Entry, Listing, Store};

/// Should markup ever slip in, the browser still runs nothing and loads nothing from elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(crate) fn routes(store: &Arc<Store>) -> Router {
    Router::new()
        .get("/", with(store, show))
        .post("/", with(store, sign))
        // These wait for nothing, so they need no worker.
        .route("/style.css", get(|_| asset("text/css", include_str!("style.css"))).inline())
        .route("/icon.svg", get(|_| asset("image/svg+xml", include_str!("icon.svg"))).inline())
        .fallback(|_| Problem::new(StatusCode::NOT_FOUND).with_detail("there is no such page"))
        .on_error(|_, response| match response.problem() {
            Some(problem) => response.reworded(failed(&problem)),
            None => response,
        })
}

fn show(store: &Store, request: &Request) -> Result<Response, Error> {
    guestbook(store, &Paging::of(request)?, StatusCode::OK, &Form::default())
}

/// Keeps what the form brings and sends the browser back to the list, where a reload posts nothing
/// twice. A form with faults comes back as it was filled in.
fn sign(store: &Store, request: &Request) -> Result<Response, Error> {
    refuse_other_sites(request)?;
    let draft = Draft::from_form(request)?;
    match draft.check() {
        Ok(new) => {
            let entry = store.add(&new)?;
            Ok(Redirect::see_other(&format!("/#entry-{}", entry.id)).into_response())
        }
        Err(invalid) => {
            let form = Form { draft, invalid };
            guestbook(store, &Paging::default(), StatusCode::UNPROCESSABLE_ENTITY, &form)
        }
    }
}

/// The form with entries below it.
fn guestbook(
    store: &Store,
    &Paging { before, limit }: &Paging,
    status: StatusCode,
    form: &Form,
) -> Result<Response, Error> {
    let listing = store.list(before, limit)?;
    let entries = Entries { listing: &listing, limit, is_first: before.is_none() };
    Ok(page(status, form, &entries))
}

/// Another site's page may not make its visitors sign. Browsers say whose page sends a form: in
/// Sec-Fetch-Site, older ones in Origin. Other clients send neither and act for nobody.
fn refuse_other_sites(request: &Request) -> Result<(), Error> {
    let is_ours = match (request.header("sec-fetch-site"), request.header("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == request.host()
        }
        (None, None) => true,
    };
    if is_ours {
        return Ok(());
    }
    Err(Error::request(StatusCode::FORBIDDEN, "this form was sent from another site"))
}

/// The form as it was filled in, and what is wrong with it.
#[derive(Default)]
struct Form {
    draft: Draft,
    invalid: Vec<Invalid>,
}

impl Form {
    /// The fault of a field, beside it.
    fn fault(&self, field: &str) -> String {
        let fault = self.invalid.iter().find(|invalid| invalid.field == field);
        fault.map_or_else(String::new, |Invalid { detail, .. }| {
            format!("<p class=\"fault\" id=\"{field}-fault\">{}</p>", Escaped(detail))
        })
    }

    /// What the field itself says of its fault. The first one has the cursor.
    fn state(&self, field: &str) -> String {
        let Some(position) = self.invalid.iter().position(|invalid| invalid.field == field) else {
            return String::new();
        };
        let focus = if position == 0 { " autofocus" } else { "" };
        format!(" aria-invalid=\"true\" aria-describedby=\"{field}-fault\"{focus}")
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            include_str!("form.html"),
            name = Escaped(&self.draft.name),
            name_chars = NAME_CHARS,
            name_state = self.state("name"),
            name_fault = self.fault("name"),
            message = Escaped(&self.draft.message),
            message_chars = MESSAGE_CHARS,
            message_state = self.state("message"),
            message_fault = self.fault("message"),
        )
    }
}

/// The list of entries, with ways to the others.
struct Entries<'a> {
    listing: &'a Listing,
    limit: u32,
    /// Whether it begins with the latest.
    is_first: bool,
}

impl fmt::Display for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listing { entries, older_than } = self.listing;
        if entries.is_empty() {
            f.write_str(if self.is_first {
                "<p class=\"nothing\">Nobody has signed yet: be the first.</p>\n"
            } else {
                "<p class=\"nothing\">There are no older entries.</p>\n"
            })?;
        } else {
            f.write_str("<ol class=\"entries\">\n")?;
            entries.iter().try_for_each(|entry| write_entry(f, entry))?;
            f.write_str("</ol>\n")?;
        }
        f.write_str("<nav>")?;
        if !self.is_first {
            f.write_str("<a href=\"/\">Latest entries</a>")?;
        }
        if let Some(id) = older_than {
            let limit = self.limit;
            write!(
                f,
                "<a rel=\"next\" href=\"/?before={id}&amp;limit={limit}\">Older entries</a>"
            )?;
        }
        f.write_str("</nav>\n")
    }
}

fn write_entry(f: &mut fmt::Formatter<'_>, entry: &Entry) -> fmt::Result {
    let Entry { id, name, message, written_at } = entry;
    writeln!(
        f,
        "<li id=\"entry-{id}\"><h2 dir=\"auto\">{}</h2>\
         <time datetime=\"{written_at}\">{}</time>\
         <p dir=\"auto\">{}</p></li>",
        Escaped(name),
        written_at.get(..16).unwrap_or(written_at).replace('T', " ") + " UTC",
        Escaped(message),
    )
}

/// A page that says what went wrong.
fn failed(problem: &Problem) -> Response {
    let reason = problem.detail().unwrap_or(problem.title());
    let message = format!("<p class=\"fault\" role=\"alert\">{}</p>", Escaped(reason));
    page(problem.status(), &message, &"<nav><a href=\"/\">To the guestbook</a></nav>")
}

fn page(status: StatusCode, top: &dyn fmt::Display, below: &dyn fmt::Display) -> Response {
    let page = format!(include_str!("page.html"), top = top, below = below);
    secured(Response::html(page))
        .with_status(status)
        .header("content-security-policy", CONTENT_SECURITY_POLICY)
        // Not "no-referrer": with it browsers call our own form's Origin "null".
        .header("referrer-policy", "same-origin")
        .header("cache-control", "no-store")
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    secured(Response::new(StatusCode::OK))
        .header("content-type", content_type)
        .header("cache-control", "max-age=3600")
        .body(text)
}

fn secured(response: Response) -> Response {
    response.header("x-content-type-options", "nosniff")
}
