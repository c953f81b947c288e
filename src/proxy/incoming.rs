//! A request as the rest of the path knows it: what its head said, and the head a server will get.

use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::field::MAX_FIELDS;
use super::forwarded::Origin;
use super::https::{self, Hsts};
use super::request::{Framing, Head};
use super::{reply, rewrite};
use crate::balance::key::Random;
use crate::balance::{RequestKeys, Upstream, split};
use crate::config::settings::{Https, RouteTarget};
use crate::front::current::CurrentSnapshot;
use crate::front::{Reason, path};
use crate::io::buf::Out;

/// One request whose head was read and found good.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) snapshot: Rc<CurrentSnapshot>,
    /// No route leads to it by now, and it may have come on a connection from before its app was handed
    /// connections: `snapshot` is of then if that has one. The next connection goes to the app.
    pub(crate) is_left_over: bool,
    /// Which route, and which share of its split.
    pub(crate) route: Option<(usize, usize)>,
    /// The head for the server, and of the body what came with it.
    pub(crate) out: Out,
    /// Bytes of the head in `out`.
    pub(crate) head_len: usize,
    /// Where in `out` the offered protocols are.
    pub(crate) offered: Option<Range<usize>>,
    pub(crate) client: Option<IpAddr>,
    pub(crate) framing: Framing,
    pub(crate) old: bool,
    pub(crate) is_head: bool,
    pub(crate) is_get: bool,
    pub(crate) idempotent: bool,
    pub(crate) keeps_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) wants_json: bool,
    /// Whether nobody may pass it on.
    pub(crate) ends_here: bool,
    /// Where the client is to ask instead, over TLS.
    pub(crate) redirect: Option<Box<[u8]>>,
    /// What browsers are told about TLS.
    pub(crate) hsts: Option<Hsts>,
}

/// What balancing may ask about a request, looked up in the head that the server gets.
#[derive(Debug)]
struct Keys<'a>(&'a [u8]);

impl Request {
    /// Reads the request at the start of `buffer`, with the length of its head; `None` when that
    /// is not complete.
    pub(crate) fn parse(
        buffer: &[u8],
        snapshot: &Rc<CurrentSnapshot>,
        origin: &Origin,
    ) -> Result<Option<(Self, usize)>, Reason> {
        let settings = &snapshot.settings.front;
        let limits = &settings.limits;
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let Some(head) = Head::parse(buffer, &mut slots, limits.headers)? else { return Ok(None) };
        if head.len > limits.header_bytes {
            return Err(Reason::HeadTooLarge);
        }
        if let (Framing::Length(length), Some(limit)) = (head.framing, limits.body)
            && length > limit
        {
            return Err(Reason::BodyTooLarge);
        }
        let trusted = &settings.trusted_proxies;
        let host = head.authority.map_or(&b""[..], |a| a.host);
        let path = match head.target.path() {
            b"" => b"/",
            path => path,
        };
        if !settings.pass_ambiguous_paths {
            let end = memchr::memchr(b'?', path).unwrap_or(path.len());
            if path::is_ambiguous(&path[..end]) {
                return Err(Reason::MalformedTarget);
            }
        }
        let mut route = snapshot.router.find(host, path);
        let mut at_work = Rc::clone(snapshot);
        let is_left_over = route.is_none() && snapshot.hands_connections_on();
        if is_left_over && let Some((earlier, found)) = snapshot.earlier_route(host, path) {
            (at_work, route) = (earlier, Some(found));
        }
        let mut out = Out::new();
        let offered = rewrite::request(&mut out, buffer, &head, origin, trusted);
        let mut request = Self {
            snapshot: at_work,
            is_left_over,
            route: None,
            head_len: out.len(),
            out,
            offered,
            client: rewrite::client(origin, &head, trusted),
            framing: head.framing,
            old: head.old,
            is_head: head.method == b"HEAD",
            is_get: head.method == b"GET",
            idempotent: head.is_idempotent(),
            keeps_alive: head.keeps_alive() && !is_left_over,
            expects_continue: head.expects_continue,
            ends_here: head.max_forwards == Some(0),
            redirect: None,
            hsts: None,
            wants_json: !head.accept.is_empty() && reply::wants_json(head.accept),
        };
        request.route = route.map(|route| (route, request.share(route)));
        if let Some(route) = route
            && request.snapshot.settings.routes[route].https != Https::default()
        {
            let https = &request.snapshot.settings.routes[route].https;
            if https::is_secure(&head, origin, trusted) {
                request.hsts = Hsts::of(https);
            } else if https.redirect {
                request.redirect = https::location(&head, snapshot.tls.port());
            }
        }
        Ok(Some((request, head.len)))
    }

    /// Which share of the route's split gets this request.
    fn share(&self, route: usize) -> usize {
        let RouteTarget::Split(split) = &self.snapshot.settings.routes[route].target else {
            return 0;
        };
        let random = random();
        split::choose(split, self.client, &self.keys(), random)
            .and_then(|share| split.shares.iter().position(|s| std::ptr::eq(s, share)))
            .unwrap_or(0)
    }

    /// Who answers it.
    pub(crate) fn upstream(&self) -> Option<&Arc<Upstream>> {
        let (route, share) = self.route?;
        self.snapshot.answering.get(route)?.get(share)
    }

    /// The route in the manner of the configuration, for the journal.
    pub(crate) fn route_name(&self) -> String {
        use crate::config::settings::HostPattern;
        let Some((route, _)) = self.route else { return String::new() };
        let route = &self.snapshot.settings.routes[route];
        match &route.host {
            HostPattern::Exact(host) => format!("{host}{}", route.path),
            HostPattern::Wildcard(host) => format!("*.{host}{}", route.path),
            HostPattern::Any => format!("*{}", route.path),
        }
    }

    /// What balancing may ask about it.
    pub(crate) fn keys(&self) -> impl RequestKeys + '_ {
        Keys(&self.out[..self.head_len])
    }

    /// Whether the client offered to switch to WebSocket and nothing else.
    pub(crate) fn is_websocket(&self) -> bool {
        self.offered().is_some_and(|offered| offered.eq_ignore_ascii_case(b"websocket"))
    }

    /// The protocols that the client offered to switch to.
    pub(crate) fn offered(&self) -> Option<&[u8]> {
        self.offered.clone().map(|range| &self.out[range])
    }
}

impl RequestKeys for Keys<'_> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.split(|b| *b == b'\n').skip(1).find_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let value = super::field::trim(line[colon + 1..].trim_ascii_end());
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        })
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.header("cookie")?.split(|b| *b == b';').find_map(|pair| {
            let (key, value) = pair.split_at(memchr::memchr(b'=', pair)?);
            (super::field::trim(key) == name.as_bytes()).then(|| super::field::trim(&value[1..]))
        })
    }

    fn path(&self) -> &[u8] {
        self.0.split(|b| *b == b' ').nth(1).unwrap_or_default()
    }
}

/// A number that nobody foresees.
pub(crate) fn random() -> u64 {
    use std::cell::RefCell;
    use std::hash::{BuildHasher, RandomState};
    thread_local! {
        static RANDOM: RefCell<Random> =
            RefCell::new(Random::new(RandomState::new().hash_one(0))); // from the kernel, once
    }
    RANDOM.with_borrow_mut(Random::draw)
}
