//! Why the proxy answers a request itself, or ends a connection: one name for the reply, the log
//! and the counters.

/// Why a request was not answered by a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The head is no HTTP/1.1 (or has what different parsers read differently).
    MalformedHead,
    /// The request-target is none.
    MalformedTarget,
    /// `Host` is missing, repeated or none.
    MalformedHost,
    /// `Content-Length` or `Transfer-Encoding` are wrong or contradict each other.
    MalformedFraming,
    /// The body does not follow the chunked coding.
    MalformedBody,
    /// A transfer coding other than chunked.
    UnknownCoding,
    /// Another major version of HTTP.
    UnknownVersion,
    /// A method that is longer than any.
    UnknownMethod,
    /// An `Expect` other than `100-continue`.
    UnknownExpectation,
    /// `CONNECT` on a listener that is no forward proxy.
    Connect,
    /// The request line alone is over the limit.
    TargetTooLong,
    /// The head is over the limit.
    HeadTooLarge,
    /// More fields than the limit.
    TooManyFields,
    /// The body is over the limit.
    BodyTooLarge,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body did not arrive in time, or too slowly.
    BodyTimeout,
    /// The client went away in the middle of its request.
    ClientGone,
    /// The client does not read its response.
    WriteTimeout,
    /// The client reads its response, but too slowly.
    SlowReader,
    /// No route matches.
    NoRoute,
    /// The configuration has neither an app nor an upstream.
    NothingConfigured,
    /// No server came up while the request waited.
    NoServer,
    /// More requests wait for a server than may.
    QueueFull,
    /// This machine has no descriptor, port or memory left for a connection to a server.
    Exhausted,
    /// No server could be connected to.
    ConnectFailed,
    /// The server closed the connection, or broke it, before its response was whole.
    ServerGone,
    /// The response is no HTTP/1.1.
    BadResponse,
    /// The server answers in HTTP/2.
    SpeaksHttp2,
    /// The response head is over the limit.
    ResponseHeadTooLarge,
    /// The response head did not arrive in time.
    ResponseTimeout,
    /// The request took longer in all than it may.
    TotalTimeout,
    /// The front stops, or was started anew, and the request was not answered within the time for that.
    ShutdownTimeout,
    /// The front is full, and the request's upstream has more than its share of the places.
    Crowded,
    /// One client has more connections than it may.
    TooManyConnections,
    /// An HTTP/2 client sends frames without end that bring no request forward.
    TooManyFrames,
    /// The client's TLS handshake failed.
    TlsFailed,
    /// The client's TLS handshake was not done in time.
    TlsTimeout,
    /// The listener speaks TLS and has no certificate.
    NoCertificate,
    /// Who is no trusted proxy connects to a listener for proxies.
    ProxyUntrusted,
    /// A connection begins without a PROXY header, or with a wrong one.
    ProxyMalformed,
    /// The PROXY header did not arrive in time.
    ProxyTimeout,
}

/// Whose doing it is that a request was not answered by a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client's.
    Clients,
    /// This machine's: no server is to be blamed, and no other one would do better.
    Ours,
    /// The server's: no request can bring it about.
    Servers,
    /// The server's, or that of a request which does this to every server: what another server makes
    /// of it tells.
    Either,
    /// Nobody's in particular: there was no server, or no time.
    Nobodys,
}

/// Number of reasons, for tables by reason.
pub const REASONS: usize = Reason::ALL.len();

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 41] = [
        Self::MalformedHead,
        Self::MalformedTarget,
        Self::MalformedHost,
        Self::MalformedFraming,
        Self::MalformedBody,
        Self::UnknownCoding,
        Self::UnknownVersion,
        Self::UnknownMethod,
        Self::UnknownExpectation,
        Self::Connect,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::BodyTooLarge,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::ClientGone,
        Self::WriteTimeout,
        Self::SlowReader,
        Self::NoRoute,
        Self::NothingConfigured,
        Self::NoServer,
        Self::QueueFull,
        Self::Exhausted,
        Self::ConnectFailed,
        Self::ServerGone,
        Self::BadResponse,
        Self::SpeaksHttp2,
        Self::ResponseHeadTooLarge,
        Self::ResponseTimeout,
        Self::TotalTimeout,
        Self::ShutdownTimeout,
        Self::Crowded,
        Self::TooManyConnections,
        Self::TooManyFrames,
        Self::TlsFailed,
        Self::TlsTimeout,
        Self::NoCertificate,
        Self::ProxyUntrusted,
        Self::ProxyMalformed,
        Self::ProxyTimeout,
    ];

    /// The status that says so to the client.
    pub fn status(self) -> u16 {
        match self {
            Self::MalformedHead
            | Self::MalformedTarget
            | Self::MalformedHost
            | Self::MalformedFraming
            | Self::MalformedBody
            | Self::ClientGone
            | Self::WriteTimeout
            | Self::SlowReader
            | Self::TooManyFrames
            | Self::TlsFailed
            | Self::ProxyMalformed => 400,
            Self::ProxyUntrusted => 403,
            Self::NoRoute => 404,
            Self::Connect => 405,
            Self::HeadTimeout | Self::BodyTimeout | Self::TlsTimeout | Self::ProxyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::UnknownExpectation => 417,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::UnknownCoding | Self::UnknownMethod => 501,
            Self::ConnectFailed
            | Self::ServerGone
            | Self::BadResponse
            | Self::SpeaksHttp2
            | Self::ResponseHeadTooLarge => 502,
            Self::NothingConfigured
            | Self::NoServer
            | Self::QueueFull
            | Self::Exhausted
            | Self::Crowded
            | Self::TooManyConnections
            | Self::NoCertificate => 503,
            Self::ResponseTimeout | Self::TotalTimeout | Self::ShutdownTimeout => 504,
            Self::UnknownVersion => 505,
        }
    }

    /// The name in the journal and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedHead => "malformed-head",
            Self::MalformedTarget => "malformed-target",
            Self::MalformedHost => "malformed-host",
            Self::MalformedFraming => "malformed-framing",
            Self::MalformedBody => "malformed-body",
            Self::UnknownCoding => "unknown-coding",
            Self::UnknownVersion => "unknown-version",
            Self::UnknownMethod => "unknown-method",
            Self::UnknownExpectation => "unknown-expectation",
            Self::Connect => "connect-refused",
            Self::TargetTooLong => "target-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::BodyTooLarge => "body-too-large",
            Self::HeadTimeout => "head-timeout",
            Self::BodyTimeout => "body-timeout",
            Self::ClientGone => "client-gone",
            Self::WriteTimeout => "write-timeout",
            Self::SlowReader => "slow-reader",
            Self::NoRoute => "no-route",
            Self::NothingConfigured => "nothing-configured",
            Self::NoServer => "no-server",
            Self::QueueFull => "queue-full",
            Self::Exhausted => "exhausted",
            Self::ConnectFailed => "connect-failed",
            Self::ServerGone => "server-gone",
            Self::BadResponse => "bad-response",
            Self::SpeaksHttp2 => "speaks-http2",
            Self::ResponseHeadTooLarge => "response-head-too-large",
            Self::ResponseTimeout => "response-timeout",
            Self::TotalTimeout => "total-timeout",
            Self::ShutdownTimeout => "shutdown-timeout",
            Self::Crowded => "crowded",
            Self::TooManyConnections => "too-many-connections",
            Self::TooManyFrames => "too-many-frames",
            Self::TlsFailed => "tls-failed",
            Self::TlsTimeout => "tls-timeout",
            Self::NoCertificate => "no-certificate",
            Self::ProxyUntrusted => "proxy-untrusted",
            Self::ProxyMalformed => "proxy-malformed",
            Self::ProxyTimeout => "proxy-timeout",
        }
    }

    /// One sentence for whoever made the request.
    pub fn text(self) -> &'static str {
        match self {
            Self::MalformedHead => "The request head is malformed.",
            Self::MalformedTarget => "The request target is malformed.",
            Self::MalformedHost => "The request needs exactly one valid Host field.",
            Self::MalformedFraming => {
                "Content-Length or Transfer-Encoding are malformed or contradict each other."
            }
            Self::MalformedBody => "The request body does not follow the chunked coding.",
            Self::UnknownCoding => "The only transfer coding that is understood is chunked.",
            Self::UnknownVersion => "This listener speaks HTTP/1.1 and HTTP/1.0.",
            Self::UnknownMethod => "The request method is longer than any known one.",
            Self::UnknownExpectation => "The only expectation that is understood is 100-continue.",
            Self::Connect => "This is not a forward proxy.",
            Self::TargetTooLong => "The request target is too long.",
            Self::HeadTooLarge => "The request head is too large.",
            Self::TooManyFields => "The request has too many header fields.",
            Self::BodyTooLarge => "The request body is too large.",
            Self::HeadTimeout => "The request head took too long to arrive.",
            Self::BodyTimeout => "The request body took too long to arrive.",
            Self::ClientGone => "The request ended before it was complete.",
            Self::WriteTimeout => "The response was not read in time.",
            Self::SlowReader => "The response was read too slowly.",
            Self::NoRoute => "No application answers at this address.",
            Self::NothingConfigured => "No application is configured yet.",
            Self::NoServer => "No server of this application is up.",
            Self::QueueFull => "Too many requests wait for this application.",
            Self::Exhausted => "This machine has no room for another connection.",
            Self::ConnectFailed => "The application could not be reached.",
            Self::ServerGone => "The application closed the connection without an answer.",
            Self::BadResponse => "The application sent an invalid answer.",
            Self::SpeaksHttp2 => {
                "The application answers in HTTP/2: its file needs protocol = \"h2c\"."
            }
            Self::ResponseHeadTooLarge => "The application sent too large a response head.",
            Self::ResponseTimeout => "The application did not answer in time.",
            Self::TotalTimeout => "The request took too long.",
            Self::ShutdownTimeout => "The application did not answer before the proxy had to end.",
            Self::Crowded => "Too many clients wait for an answer of this application.",
            Self::TooManyConnections => "Too many connections from this address.",
            Self::TooManyFrames => "Too many frames that belong to no request.",
            Self::TlsFailed => "The TLS handshake failed.",
            Self::TlsTimeout => "The TLS handshake took too long.",
            Self::NoCertificate => "This listener has no certificate.",
            Self::ProxyUntrusted => "This listener is for trusted proxies only.",
            Self::ProxyMalformed => "The PROXY header is missing or malformed.",
            Self::ProxyTimeout => "The PROXY header took too long to arrive.",
        }
    }

    /// Whose doing it is.
    pub fn fault(self) -> Fault {
        match self {
            Self::NoServer
            | Self::QueueFull
            | Self::TotalTimeout
            | Self::ShutdownTimeout
            | Self::Crowded => Fault::Nobodys,
            Self::Exhausted => Fault::Ours,
            Self::ConnectFailed => Fault::Servers,
            Self::ServerGone
            | Self::BadResponse
            | Self::SpeaksHttp2
            | Self::ResponseHeadTooLarge
            | Self::ResponseTimeout => Fault::Either,
            _ => Fault::Clients,
        }
    }

    /// Whether administrators want to hear of it. Of what clients do they do not.
    pub fn is_worth_a_warning(self) -> bool {
        self.fault() != Fault::Clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
    }
}
