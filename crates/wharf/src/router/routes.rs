//! The routes of a server as its shards look requests up in them.

use super::*;

/// The routes as the shards look them up.
#[derive(Default)]
pub(crate) struct Routes {
    /// For requests to hosts that have no table of their own.
    table: Table,
    hosts: Hosts<Table>,
    pub(super) targets: Vec<Target>,
    /// The target for CONNECT.
    pub(crate) connect: Option<usize>,
    /// Methods that some route has and RFC 9110 does not know.
    pub(super) own_methods: Vec<Method>,
    /// The outermost router's.
    pub(super) hooks: Hooks,
}

/// The routes of a host, or of all others.
#[derive(Default)]
struct Table {
    /// Indexes of `endpoints` by path.
    paths: matchit::Router<usize>,
    /// The same of paths without parameters.
    exact: Exact,
    endpoints: Vec<Endpoint>,
    /// Prefixes and the targets for what is below them and matches no path, longest first.
    fallbacks: Vec<(String, usize)>,
}

/// A path and its handlers.
struct Endpoint {
    path: String,
    /// Indexes of `targets`. A path has few methods, so a list is searched faster than a map.
    by_method: Vec<(Method, usize)>,
    /// That of GET, for which most requests ask.
    get: Option<usize>,
    any: Option<usize>,
    /// What answers other methods, if that has hooks.
    otherwise: Option<usize>,
    /// The value of Allow.
    allow: HeaderValue,
    parameters: Arc<[Box<str>]>,
}

/// A handler with what is needed to run it.
pub(crate) struct Target {
    pub(crate) handler: Handler,
    pub(crate) options: RouteOptions,
    /// The route's name in logs: its method and path.
    pub(crate) name: String,
    /// The names of the path's parameters, in order.
    pub(crate) parameters: Arc<[Box<str>]>,
    pub(super) hooks: Hooks,
}

impl Target {
    pub(super) fn new(route: Route, name: String, parameters: Arc<[Box<str>]>) -> Target {
        let Route { handler, options, hooks, .. } = route;
        Target { handler, options, name, parameters, hooks }
    }

    /// Whether there is nothing but its handler to look after.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.hooks.is_empty() && self.options.timeout.is_none()
    }

    /// Runs the handler behind its hooks.
    #[inline]
    pub(crate) fn call(&self, request: &mut Request, counts: &Counts) -> Response {
        if self.hooks.is_empty() {
            return self.run(request, counts);
        }
        self.call_hooked(request, counts)
    }

    fn call_hooked(&self, request: &mut Request, counts: &Counts) -> Response {
        let handler = |request: &mut Request| self.run(request, counts);
        self.hooks.around(request, handler, |panic| panicked(&self.name, panic, counts))
    }

    /// Runs the handler, which has no hooks. An answer that is plain is returned, any other put
    /// into `other`.
    ///
    /// A handler's panic is its own: the client gets a 500, nobody else notices.
    #[inline(always)]
    pub(crate) fn call_bare(
        &self,
        request: &Request,
        counts: &Counts,
        other: &mut Option<Response>,
    ) -> Option<Plain> {
        let mut plain = None;
        let answer = || {
            plain = (self.handler)(request, other);
            if plain.is_none() {
                finish(other, request);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(answer)) {
            *other = Some(panicked(&self.name, panic, counts));
            return None;
        }
        plain
    }

    fn run(&self, request: &Request, counts: &Counts) -> Response {
        let mut other = None;
        match self.call_bare(request, counts, &mut other) {
            Some(plain) => Response::from(plain),
            None => other.expect("what is not returned is put there"),
        }
    }
}

/// Gives the request's conditions, what can be sent, and the log their say on a handler's answer. Of
/// a plain one they have nothing to say.
#[cold]
fn finish(answer: &mut Option<Response>, request: &Request) {
    *answer =
        answer.take().map(|response| response.selected(request).checked().with_cause_told(request));
}

#[cold]
fn panicked(route: &str, panic: Box<dyn Any + Send>, counts: &Counts) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!("the handler of {route} panicked: {message}");
    counts.panics.fetch_add(1, Ordering::Relaxed);
    Response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
}

/// To the same path with a slash behind it, so that relative links of a page lead into the folder.
///
/// The location is relative, and begins with a dot: what the client has asked for cannot make it
/// another host (`//host`) or another scheme (`a:b`).
pub(crate) fn to_folder(request: &Request) -> Response {
    let last = request.path().rsplit('/').next().unwrap_or_default();
    let query = request.query_string();
    let mark = if query.is_empty() { "" } else { "?" };
    Response::new(StatusCode::MOVED_PERMANENTLY)
        .header(header::LOCATION, format!("./{last}/{mark}{query}"))
}

/// Methods that any server is expected to know, TRACE and CONNECT aside: those nobody is to use
/// here unless a route says so.
fn is_standard(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ]
    .contains(method)
}

fn is_known(method: &Method, own: &[Method]) -> bool {
    is_standard(method) || own.contains(method)
}

fn not_implemented() -> Response {
    let message = "This server does not know the request's method.\n";
    Response::message(StatusCode::NOT_IMPLEMENTED, message)
}

pub(super) fn not_found() -> Response {
    Response::message(StatusCode::NOT_FOUND, "Not Found\n")
}

/// What a method and a path lead to.
pub(crate) enum Found {
    /// The number of a target.
    Target(usize),
    /// An answer that needs no handler.
    Answer(Response),
}

impl Routes {
    /// No routes yet, all of them behind these hooks.
    pub(super) fn behind(hooks: Hooks) -> Routes {
        Routes { hooks, ..Routes::default() }
    }

    pub(super) fn add(&mut self, entry: Entry) -> Result<(), Error> {
        let Entry { host, path, route } = entry;
        if !path.starts_with('/') {
            return Err(Error::new(
                Kind::Configuration,
                format!("the route {} {path:?} has to begin with '/'", route.method_name()),
            ));
        }
        let at_host = host.as_ref().map_or("", Host::as_str).to_owned();
        let table = self.hosts.table_of(host, &mut self.table)?;
        let endpoint = match table.endpoints.iter().position(|endpoint| endpoint.path == path) {
            Some(existing) => existing,
            None => table.add_endpoint(path, &route)?,
        };
        let endpoint = &mut table.endpoints[endpoint];
        let name = format!("{} {at_host}{}", route.method_name(), endpoint.path);
        let taken = match &route.method {
            Some(method) => endpoint.by_method.iter().any(|(existing, _)| existing == method),
            None => endpoint.any.is_some(),
        };
        if taken {
            return Err(Error::new(
                Kind::Configuration,
                format!("the route {name} is there twice: remove one of the two"),
            ));
        }
        let index = self.targets.len();
        match &route.method {
            Some(method) => {
                endpoint.by_method.push((method.clone(), index));
                if method == Method::GET {
                    endpoint.get = Some(index);
                }
                if !is_standard(method) {
                    self.own_methods.push(method.clone());
                }
            }
            None => endpoint.any = Some(index),
        }
        endpoint.allow = endpoint.allowed();
        let parameters = endpoint.parameters.clone();
        self.targets.push(Target::new(route, name, parameters));
        Ok(())
    }

    pub(super) fn add_fallback(&mut self, entry: Entry) -> Result<(), Error> {
        let Entry { host, path, route } = entry;
        let prefix = path.trim_end_matches('/').to_owned();
        let name = format!("the fallback of {}{path}", host.as_ref().map_or("", Host::as_str));
        let table = self.hosts.table_of(host, &mut self.table)?;
        if table.fallbacks.iter().any(|(existing, _)| *existing == prefix) {
            return Err(Error::new(
                Kind::Configuration,
                format!("{name} is there twice: remove one of the two"),
            ));
        }
        table.fallbacks.push((prefix, self.targets.len()));
        table.fallbacks.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        self.targets.push(Target::new(route, name, Arc::new([])));
        Ok(())
    }

    /// Gives paths whose routes share hooks a target for the methods that they have no route for,
    /// so that `405` and OPTIONS are answered behind these hooks.
    pub(super) fn hook_what_no_route_takes(&mut self) {
        let own: Arc<[Method]> = self.own_methods.as_slice().into();
        let targets = &mut self.targets;
        let tables = std::iter::once(&mut self.table).chain(self.hosts.tables_mut());
        for endpoint in tables.flat_map(|table| &mut table.endpoints) {
            let mut indexes =
                endpoint.by_method.iter().map(|&(_, target)| target).chain(endpoint.any);
            let Some(first) = indexes.next() else { continue };
            let mut hooks = targets[first].hooks.clone();
            indexes.for_each(|other| hooks.keep_shared(&targets[other].hooks));
            if hooks.is_empty() {
                continue;
            }
            let (allow, own) = (endpoint.allow.clone(), own.clone());
            let mut route = any(move |request| match is_known(request.method(), &own) {
                true => not_allowed(request.method(), &allow),
                false => not_implemented(),
            });
            route.hooks = hooks;
            route.options.body_bytes = targets[first].options.body_bytes;
            endpoint.otherwise = Some(targets.len());
            let name = format!("other methods of {}", endpoint.path);
            targets.push(Target::new(route, name, endpoint.parameters.clone()));
        }
    }

    /// All handlers, by their numbers.
    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    pub(crate) fn target(&self, index: usize) -> &Target {
        &self.targets[index]
    }

    /// What is answered in place of Wharf's own refusal: the route's hooks say, or the outermost
    /// router's where no route is known.
    pub(crate) fn refused(
        &self,
        request: &Request,
        response: Response,
        counts: &Counts,
    ) -> Response {
        let target = request.target.map(|target| &self.targets[target]);
        let hooks = target.map_or(&self.hooks, |target| &target.hooks);
        if hooks.is_empty() {
            return response;
        }
        let name = target.map_or("refused requests", |target| &target.name);
        hooks.refused(request, response, |panic| panicked(name, panic, counts))
    }

    /// Looks a request up whose path may have a route without parameters. None: look on.
    #[inline(always)]
    pub(crate) fn find_exact(&self, method: &Method, path: &[u8]) -> Option<usize> {
        if !self.hosts.is_empty() {
            return None;
        }
        let endpoint = &self.table.endpoints[self.table.exact.find(path)?];
        endpoint.target(method).or(endpoint.otherwise)
    }

    /// Looks a request up. `each_parameter` is told the bytes of the path that each parameter of
    /// the route took, in order.
    pub(crate) fn find<'r>(
        &self,
        method: &Method,
        host: impl FnOnce() -> Option<&'r str>,
        path: &str,
        mut each_parameter: impl FnMut(&str),
    ) -> Found {
        let own =
            if self.hosts.is_empty() { None } else { host().and_then(|it| self.hosts.find(it)) };
        let table = own.unwrap_or(&self.table);
        let Ok(matched) = table.paths.at(path) else {
            return match table.fallback(path) {
                Some(target) => Found::Target(target),
                None if !self.knows(method) => Found::Answer(not_implemented()),
                None => Found::Answer(not_found()),
            };
        };
        let endpoint = &table.endpoints[*matched.value];
        match endpoint.target(method).or(endpoint.otherwise) {
            Some(target) => {
                matched.params.iter().for_each(|(_, value)| each_parameter(value));
                Found::Target(target)
            }
            None if !self.knows(method) => Found::Answer(not_implemented()),
            None => Found::Answer(not_allowed(method, &endpoint.allow)),
        }
    }

    /// Whether a method is known at all. One that is not gets 501 wherever it is tried (RFC 9110
    /// section 9.1).
    fn knows(&self, method: &Method) -> bool {
        is_known(method, &self.own_methods)
    }

    /// The handler of what there is no route for, where that has hooks. Knows the routes that were
    /// added up to now.
    pub(super) fn not_found(&self) -> Handler {
        let own: Arc<[Method]> = self.own_methods.as_slice().into();
        Box::new(move |request, other| {
            let known = is_known(request.method(), &own);
            if known { not_found() } else { not_implemented() }.or_into(other)
        })
    }

    /// `OPTIONS *`: what the server as a whole can do (RFC 9110 section 9.3.7).
    pub(crate) fn options() -> Response {
        Response::new(StatusCode::NO_CONTENT)
            .header(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    }
}

impl Table {
    fn add_endpoint(&mut self, path: String, route: &Route) -> Result<usize, Error> {
        let index = self.endpoints.len();
        match self.paths.insert(path.clone(), index) {
            Ok(()) => {}
            Err(matchit::InsertError::Conflict { with }) => {
                return Err(self.conflict(&path, route, &with));
            }
            Err(error) => {
                return Err(Error::with_source(
                    Kind::Configuration,
                    format!("the route {} {path} is not a valid path", route.method_name()),
                    error,
                ));
            }
        }
        self.exact.insert(&path, index);
        let parameters = parameter_names(&path);
        self.endpoints.push(Endpoint {
            path,
            by_method: Vec::new(),
            get: None,
            any: None,
            otherwise: None,
            allow: HeaderValue::from_static(""),
            parameters,
        });
        Ok(index)
    }

    fn fallback(&self, path: &str) -> Option<usize> {
        let is_below = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.fallbacks.iter().find(|(prefix, _)| is_below(prefix)).map(|&(_, target)| target)
    }

    fn conflict(&self, path: &str, route: &Route, with: &str) -> Error {
        let other = self.endpoints.iter().find(|endpoint| endpoint.path == with);
        let other = other.map_or_else(|| with.to_owned(), Endpoint::name);
        Error::new(
            Kind::Configuration,
            format!(
                "the routes {} {path} and {other} match the same paths: \
                 rename the parameters to be alike, or change one of the paths",
                route.method_name()
            ),
        )
    }
}

/// The answer to a method that a path has no route for.
fn not_allowed(method: &Method, allow: &HeaderValue) -> Response {
    let response = if method == Method::OPTIONS {
        Response::new(StatusCode::NO_CONTENT)
    } else {
        Response::message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
    };
    response.header(header::ALLOW, allow.clone())
}

impl Endpoint {
    #[inline]
    fn target(&self, method: &Method) -> Option<usize> {
        if *method == Method::GET && self.get.is_some() {
            return self.get;
        }
        self.target_of_other(method)
    }

    fn target_of_other(&self, method: &Method) -> Option<usize> {
        let of = |wanted: &Method| {
            self.by_method.iter().find(|(method, _)| method == wanted).map(|&(_, target)| target)
        };
        of(method)
            .or_else(|| if method == Method::HEAD { self.get } else { None })
            .or_else(|| if self.answers_options(method) { None } else { self.any })
    }

    /// Whether OPTIONS is answered from the list of methods rather than by an `any` route.
    fn answers_options(&self, method: &Method) -> bool {
        method == Method::OPTIONS && !self.by_method.is_empty()
    }

    fn allowed(&self) -> HeaderValue {
        let mut names: Vec<&str> =
            self.by_method.iter().map(|(method, _)| method.as_str()).collect();
        for (implied, by) in [("HEAD", Some("GET")), ("OPTIONS", None)] {
            let has = by.is_none_or(|by| names.contains(&by));
            if has && !names.contains(&implied) {
                names.push(implied);
            }
        }
        // Methods are tokens, so they always make a value.
        HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
    }

    fn name(&self) -> String {
        let method = match self.by_method.first() {
            Some((method, _)) => method.as_str(),
            None => "any method",
        };
        format!("{method} {}", self.path)
    }
}

/// The names in braces, in order; `{{` and `}}` stand for braces.
fn parameter_names(path: &str) -> Arc<[Box<str>]> {
    let mut names = Vec::new();
    let mut rest = path;
    while let Some(open) = rest.find('{') {
        rest = &rest[open + 1..];
        if let Some(escaped) = rest.strip_prefix('{') {
            rest = escaped;
            continue;
        }
        let Some(close) = rest.find('}') else { break };
        names.push(rest[..close].trim_start_matches('*').into());
        rest = &rest[close + 1..];
    }
    names.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(routes: &Routes, method: &Method, path: &str) -> (Result<String, u16>, Vec<String>) {
        let mut parameters = Vec::new();
        let found = routes.find(method, || None, path, |value| parameters.push(value.to_owned()));
        let found = match found {
            Found::Target(target) => Ok(routes.target(target).name.clone()),
            Found::Answer(response) => Err(response.status().as_u16()),
        };
        (found, parameters)
    }

    fn refused(router: Router) -> String {
        match router.build() {
            Ok(_) => panic!("the router was accepted"),
            Err(error) => {
                assert!(error.is_configuration());
                error.to_string()
            }
        }
    }

    #[test]
    fn the_most_specific_route_wins_and_parameters_come_in_order() {
        let routes = Router::new()
            .get("/", |_| "")
            .get("/a/{x}/b/{y}", |_| "")
            .get("/a/fixed/b/{y}", |_| "")
            .get("/files/{*rest}", |_| "")
            .build()
            .unwrap();
        let get = |path| find(&routes, &Method::GET, path);
        assert_eq!(get("/").0, Ok("GET /".into()));
        assert_eq!(
            get("/a/1/b/2"),
            (Ok("GET /a/{x}/b/{y}".into()), vec!["1".to_owned(), "2".to_owned()])
        );
        assert_eq!(get("/a/fixed/b/2").0, Ok("GET /a/fixed/b/{y}".into()));
        assert_eq!(get("/files/x/y").1, ["x/y"]);
        assert_eq!(get("/files/").0, Err(404));
        assert_eq!(get("/none").0, Err(404));
    }

    #[test]
    fn methods_are_told_apart() {
        let routes = Router::new()
            .get("/a", |_| "")
            .post("/a", |_| "")
            .route("/any", any(|_| ""))
            .build()
            .unwrap();
        let status = |method: &Method, path| find(&routes, method, path).0;
        assert_eq!(status(&Method::POST, "/a"), Ok("POST /a".into()));
        assert_eq!(status(&Method::HEAD, "/a"), Ok("GET /a".into()), "HEAD is GET");
        assert_eq!(status(&Method::DELETE, "/a"), Err(405));
        assert_eq!(status(&Method::OPTIONS, "/a"), Err(204));
        assert_eq!(status(&Method::TRACE, "/any"), Ok("any method /any".into()));
        let Found::Answer(answer) = routes.find(&Method::DELETE, || None, "/a", |_| {}) else {
            panic!()
        };
        let allow: Vec<_> = answer.headers().filter(|(name, _)| *name == header::ALLOW).collect();
        assert_eq!(allow[0].1, "GET, POST, HEAD, OPTIONS");
    }

    #[test]
    fn methods_that_nobody_knows_are_told_apart_behind_hooks_too() {
        let own = Method::from_bytes(b"BREW").unwrap();
        let unknown = Method::from_bytes(b"STEEP").unwrap();
        let status = |method: &Method, path| {
            let router =
                Router::new().get("/a", |_| "").route("/pot", crate::method(own.clone(), |_| ""));
            let app = crate::test::App::new(router.after(|_, response| response));
            app.request(method.clone(), path).send().status().as_u16()
        };
        for path in ["/a", "/pot", "/none"] {
            assert_eq!(status(&unknown, path), 501, "{path}");
        }
        assert_eq!(status(&own, "/a"), 405);
        assert_eq!(status(&own, "/none"), 404);
        assert_eq!(status(&own, "/pot"), 200);
    }

    #[test]
    fn nested_routers_keep_their_fallbacks() {
        let inner = Router::new().get("/", |_| "").get("/{id}", |_| "").fallback(|_| "");
        let routes = Router::new().nest("/orders", inner).get("/x", |_| "").build().unwrap();
        let get = |path| find(&routes, &Method::GET, path).0;
        assert_eq!(get("/orders"), Ok("GET /orders".into()));
        assert_eq!(get("/orders/7"), Ok("GET /orders/{id}".into()));
        assert_eq!(get("/orders/7/lines"), Ok("the fallback of /orders".into()));
        assert_eq!(get("/ordersx"), Err(404));
        assert_eq!(get("/other"), Err(404));
        let routes = Router::new().get("/x", |_| "").fallback(|_| "").build().unwrap();
        let status = |method: &Method, path| find(&routes, method, path).0;
        assert!(status(&Method::PUT, "/").is_ok());
        assert!(status(&Method::PUT, "/anything/at/all").is_ok());
        assert_eq!(status(&Method::PUT, "/x"), Err(405), "the path is there, the method is not");
    }

    #[test]
    fn conflicts_name_both_routes() {
        let message = refused(Router::new().get("/a/{id}", |_| "").post("/a/{name}", |_| ""));
        assert!(message.contains("POST /a/{name}") && message.contains("GET /a/{id}"), "{message}");
        let message = refused(Router::new().get("/a", |_| "").get("/a", |_| ""));
        assert!(message.contains("GET /a is there twice"), "{message}");
        let message = refused(Router::new().get("a", |_| ""));
        assert!(message.contains("begin with '/'"), "{message}");
        let message = refused(Router::new().route("/a", get(|_| "").concurrency(0)));
        assert!(message.contains("the concurrency of GET /a is 0"), "{message}");
        let message = refused(Router::new().get("/{", |_| ""));
        assert!(message.contains("not a valid path"), "{message}");
    }

    #[test]
    fn parameter_names_are_read_as_matchit_reads_them() {
        let names = |path| parameter_names(path).iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(names("/a/{x}/{{no}}/{y}-{*z}"), ["x", "y", "z"]);
        assert!(names("/plain").is_empty());
    }
}
