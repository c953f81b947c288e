//! The keys of `roundsman.toml`.

use super::{Section, key};

pub(in crate::config) const FRONT: Section = Section {
    title: "",
    doc: "",
    keys: &[
        key(
            "trusted-proxies",
            "array of networks",
            "[]",
            "Addresses or networks, as in \"10.0.0.0/8\", of proxies in front of this one. What they say in \
             X-Forwarded-* and Forwarded is believed; from everybody else these fields are removed.",
        ),
        key(
            "pass-ambiguous-paths",
            "boolean",
            "false",
            "Whether requests go on whose path one server reads as another one does not: with an escaped \
             slash, backslash or NUL (%2f, %5c, %00), or a dot segment with parameters (`..;`). They get \
             400 otherwise. Some apps need the first, as npm registries do and whatever has names with \
             slashes in its paths. Routes are found by the path in its normal form in any case \
             (/%61dmin and //admin are /admin), and servers get it as it came.",
        ),
        key(
            "serve-half-closed",
            "boolean",
            "false",
            "Whether a client that has ended its side of an HTTP/1.1 connection still waits for its \
             answer, as `nc -N` does. Nearly all that do so have gone: a browser whose user went to \
             another page, a program that was ended. So their requests end, in the queue and at the \
             server, unless this is true; it must be for clients that half-close.",
        ),
        key("threads", "table", "", "See [threads]."),
        key("listen", "tables", "", "See [listen.NAME]."),
        key("timeouts", "table", "", "See [timeouts]."),
        key("limits", "table", "", "See [limits]."),
        key("retries", "table", "", "See [retries]."),
        key("dns", "table", "", "See [dns]."),
        key("session", "table", "", "See [session]."),
        key(
            "error-pages",
            "table of strings",
            "{}",
            "Pages in place of the built-in ones, by status: 503 = \"<h1>{title}</h1>\". {status}, \
             {title}, {detail} and {request-id} in them are filled in.",
        ),
    ],
};

pub(in crate::config) const THREADS: Section = Section {
    title: "[threads]",
    doc: "The front's worker threads.",
    keys: &[
        key(
            "count",
            "\"auto\" or 1 to 1024",
            "\"auto\"",
            "Number of threads; \"auto\" is one per core that the service may use.",
        ),
        key("pin", "boolean", "true", "Whether each thread stays on a core of its own."),
        key(
            "hand-off",
            "\"round-robin\" or \"least-connections\"",
            "\"round-robin\"",
            "Which thread a new connection is handed to: the next one in turn, or the one with the \
             fewest open connections.",
        ),
    ],
};

pub(in crate::config) const LISTENER: Section = Section {
    title: "[listen.NAME]",
    doc: "What is spoken on a listener. NAME is the FileDescriptorName= of its socket unit: http for \
          roundsman-http.socket. Addresses and ports are set in the socket unit.",
    keys: &[
        key(
            "protocol",
            "\"http\" or \"https\"",
            "",
            "\"http\" is cleartext, \"https\" TLS 1.2 and 1.3. Without it: \"https\" on the listener \
             of that name, \"http\" on every other.",
        ),
        key(
            "proxy-protocol",
            "boolean",
            "false",
            "Whether each connection begins with a header of the PROXY protocol, version 1 or 2, that \
             says where it comes from. Only addresses in trusted-proxies may connect then, and their \
             word is believed.",
        ),
        key(
            "http2",
            "boolean",
            "",
            "Whether clients may speak HTTP/2, too. With \"https\" it is agreed on in the handshake; \
             with \"http\" it is for those that begin with it without an upgrade, as gRPC clients and \
             other proxies do. Without it: true with \"https\", false with \"http\".",
        ),
        key(
            "certificates",
            "array of tables, required with \"https\"",
            "",
            "Who the listener can be; see [[listen.NAME.certificates]].",
        ),
        key(
            "client-ca",
            "absolute path or \"credential:NAME\"",
            "",
            "PEM certificates of the authorities that sign the clients' certificates. Without it, \
             clients are asked for none.",
        ),
        key(
            "client-certificate",
            "\"required\" or \"optional\"",
            "",
            "With client-ca: whether a client without a certificate is turned away. One that is \
             shown must be good in either case. Without it: \"required\".",
        ),
        key(
            "forward-client-certificate",
            "\"no\", \"certificate\" or \"chain\"",
            "",
            "With client-ca: whether servers are told of a client's certificate, in Client-Cert as RFC \
             9440 has it, and with \"chain\" of those that it sent with it, in Client-Cert-Chain. What \
             clients send under these names never reaches a server. Without it: \"no\".",
        ),
    ],
};

pub(in crate::config) const CERTIFICATE: Section = Section {
    title: "[[listen.NAME.certificates]]",
    doc: "One certificate of a listener, also written certificates = [{ certificate = \"…\", \
          key = \"…\" }]. A client gets the first one with the name that it asks \
          for (subjectAltName; an exact name wins over a wildcard) and a kind of key that it knows, or \
          else the first of all. The files are read again at each reload; the user roundsman must be \
          able to read them, or systemd hands them over with LoadCredential=.",
    keys: &[
        key(
            "certificate",
            "absolute path or \"credential:NAME\", required",
            "",
            "In PEM: the certificate, then those between it and the authority.",
        ),
        key(
            "key",
            "absolute path or \"credential:NAME\", required",
            "",
            "Its private key, in PEM and without a password.",
        ),
    ],
};

pub(in crate::config) const TIMEOUTS: Section = Section {
    title: "[timeouts]",
    doc: "How long the front waits. Each is the longest time without the progress that it names.",
    keys: &[
        key("tls-handshake", "duration", "\"10s\"", "For a client's TLS handshake."),
        key(
            "client-header",
            "duration",
            "\"15s\"",
            "For a client's whole request head, from its first byte.",
        ),
        key("client-body", "duration", "\"30s\"", "Between two reads of a request body."),
        key(
            "client-write",
            "duration",
            "\"30s\"",
            "Between two writes of a response, or in a tunnel, to a client that does not read it.",
        ),
        key(
            "idle",
            "duration",
            "\"75s\"",
            "For the next request on a kept-alive client connection.",
        ),
        key("connect", "duration", "\"2s\"", "For a connection to a server."),
        key(
            "upstream-write",
            "duration",
            "\"30s\"",
            "Between two writes of a request to a server that does not read it.",
        ),
        key(
            "response-header",
            "duration",
            "\"60s\"",
            "From the last byte of a request to the end of the response head.",
        ),
        key("response-body", "duration", "\"60s\"", "Between two reads of a response body."),
        key(
            "upstream-idle",
            "duration",
            "\"4s\"",
            "How long an unused connection to a server is kept. Keep it below the server's own limit; \
             Node's is 5 s.",
        ),
        key(
            "request",
            "duration or \"none\"",
            "\"none\"",
            "A request as a whole, from its head to the end of its response.",
        ),
        key(
            "tunnel-idle",
            "duration",
            "\"1h\"",
            "For a byte in either direction on an upgraded connection (WebSocket).",
        ),
        key("shutdown", "duration", "\"30s\"", "For requests in flight when the front stops."),
    ],
};

pub(in crate::config) const LIMITS: Section = Section {
    title: "[limits]",
    doc: "How much the front takes.",
    keys: &[
        key("header-bytes", "size", "\"32KiB\"", "Of a request or response head; 1KiB to 1MiB."),
        key("headers", "1 to 512", "128", "Fields of a request or response head."),
        key("body", "size or \"none\"", "\"1GiB\"", "Of a request body."),
        key(
            "connections",
            "1 to 10000000",
            "100000",
            "Open client connections in all. While clients wait for a place, those that have been idle for five seconds are closed, and if that is not enough, the upstream that has requests, WebSockets or event streams on most of them gives up the oldest of these, down to its even share of the connections.",
        ),
        key(
            "connections-per-client",
            "1 to 10000000, \"half\" or \"none\"",
            "\"half\"",
            "Open client connections of one address; `trusted-proxies` may have any number. \"half\": half of \
             what there is room for, so that no address keeps all others out, and any number from this \
             machine itself.",
        ),
        key(
            "requests-per-connection",
            "integer from 1",
            "100000",
            "Requests on one client connection, which is closed after the last of them.",
        ),
        key(
            "streams-per-connection",
            "1 to 10000",
            "128",
            "Requests at once on one HTTP/2 connection of a client.",
        ),
        key(
            "upstream-idle-connections",
            "0 to 100000",
            "256",
            "Unused connections that each thread keeps to one server.",
        ),
        key(
            "body-rate",
            "integer from 0",
            "240",
            "Bytes a second that a client must send of its body while the front waits for it. It may be \
             slower for as long as `timeouts.client-body` in all, and earns that time back by being \
             faster. 0 is any rate.",
        ),
        key(
            "response-rate",
            "integer from 0",
            "240",
            "Bytes a second that a client must read of a response that is there for it, or of what comes \
             through a tunnel (WebSocket). It may be \
             slower for as long as `timeouts.client-write` in all, and earns that time back by being \
             faster. Waiting for the server does not count: event streams and long polls may take \
             their time. 0 is any rate.",
        ),
    ],
};

pub(in crate::config) const RETRIES: Section = Section {
    title: "[retries]",
    doc: "When a server fails before anything of its response was passed on, a request that is safe to \
          repeat goes to another one. Where all that are up have failed it, or there is only one, it goes \
          to any that is up a tenth of a second later, also to one that has failed it. One that a server \
          has read as a whole and not answered is tried once more at most, and by no other worker where \
          that could leave nobody.",
    keys: &[
        key("attempts", "0 to 10", "2", "How many times one request may be tried again."),
        key(
            "budget-percent",
            "0 to 100",
            "20",
            "Retries as a share of all requests, so that a failing upstream is not flooded. Ten retries \
             a second are always allowed.",
        ),
    ],
};

pub(in crate::config) const DNS: Section = Section {
    title: "[dns]",
    doc: "How the names of servers (\"dns:\", \"dns-srv:\") are looked up. /etc/hosts goes first.",
    keys: &[
        key(
            "servers",
            "array of addresses",
            "[]",
            "DNS servers to ask, each with a port unless it is 53. Without any: those in /etc/resolv.conf, \
             which is read again for each look-up.",
        ),
        key(
            "addresses",
            "\"all\", \"ipv4\" or \"ipv6\"",
            "\"all\"",
            "Which addresses of a name are servers. A host that has one of each is two servers with \"all\".",
        ),
        key(
            "min-ttl",
            "duration",
            "\"1s\"",
            "How long an answer is good for, even when it says less.",
        ),
        key("max-ttl", "duration", "\"5min\"", "And at most, whatever it says."),
        key(
            "timeout",
            "duration",
            "\"2s\"",
            "For one answer of one DNS server; each is asked twice before a look-up has failed.",
        ),
    ],
};

pub(in crate::config) const SESSION: Section = Section {
    title: "[session]",
    doc: "The shared session store, roundsman-session-store.service. What sync, max-size and connections say holds \
          for each roundsman-valkey@NAME.service, too.",
    keys: &[
        key(
            "sync",
            "\"always\" or \"every-second\"",
            "\"every-second\"",
            "When an acknowledged write is on the disk: before it is acknowledged, or within a second. \
             With the latter a crash of the program loses nothing, one of the machine that second.",
        ),
        key(
            "max-size",
            "size",
            "\"1GiB\"",
            "Of all keys and values; beyond it entries are evicted, those that expire next first, of apps that \
             have more than an equal part of it. Each Valkey server has so much for itself, evicts nothing and \
             refuses writes beyond it.",
        ),
        key(
            "memory",
            "size",
            "\"192MiB\"",
            "For sessions that are in use: those changed since they were last brought into the file, and \
             in the rest those that were read lately. Buffers of clients and 32 MiB of the file's pages \
             come on top.",
        ),
        key("connections", "1 to 1000000", "10000", "Open connections."),
        key(
            "idle-stop",
            "duration or \"none\"",
            "\"none\"",
            "How long the service may be without a connection before it stops; its socket starts it again.",
        ),
        key(
            "listen",
            "string",
            "",
            "An IP address and port to listen on as well, for clients on other machines. It needs \
             password-file.",
        ),
        key(
            "password-file",
            "absolute path",
            "",
            "Lines of NAMESPACE:PASSWORD, one of which a client over TCP must know; others than its owner and \
             its group may not read it, and none but its owner write to it.",
        ),
    ],
};
