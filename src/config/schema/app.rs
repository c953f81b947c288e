//! The keys of `apps/NAME.toml` that are an app's alone.

use super::{Section, key};

pub(in crate::config) const APP: Section = Section {
    title: "",
    doc: "",
    keys: &[
        key(
            "command",
            "array of strings, required",
            "",
            "Program and arguments: [\"node\", \"server.js\"]. No shell is involved. A program without a \
             '/' is looked up in the PATH; a relative one with a '/' is below directory.",
        ),
        key("directory", "absolute path", "", "Where it runs. Without it: the root directory."),
        key(
            "user",
            "string",
            "",
            "As whom it runs. Without it: a user of its own for all its workers, which exists only while they run \
             (DynamicUser=). \"root\" only where this says so; no user of Roundsman's own, nor what another app has \
             without this key.",
        ),
        key(
            "group",
            "string",
            "",
            "Its group, when it is not the user's own; no group of Roundsman's own, nor another app's.",
        ),
        key(
            "workers",
            "1 to 250 or \"auto\"",
            "1",
            "Number of workers; \"auto\" is one per core of the machine that services may use.",
        ),
        key(
            "environment",
            "table of strings",
            "{}",
            "Variables for the app, and for nothing else that runs for it. Where there are secrets among them, let only \
             root and the front read this file: chown root:roundsman, chmod 640.",
        ),
        key(
            "environment-files",
            "array of absolute paths",
            "[]",
            "Files of NAME=value lines, written as for EnvironmentFile= (systemd.exec(5)), that are read before each \
             start: with the rights of the app's user; as root, where nobody but root can change the file or a \
             directory above it.",
        ),
        key(
            "credentials",
            "table of absolute paths",
            "{}",
            "Files that the app finds under these names in $CREDENTIALS_DIRECTORY, readable by nobody else. systemd \
             reads them as root before each start (LoadCredential=), so nobody but root may be able to change the file \
             or a directory above it.",
        ),
        key(
            "route",
            "array of tables",
            "",
            "Which requests the app answers; see [[route]]. Without it, and unless a file in routes/ sends \
             requests to the app: every host and path.",
        ),
        key(
            "mode",
            "\"proxy\" or \"handoff\"",
            "\"proxy\"",
            "\"proxy\": the front forwards requests. \"handoff\": it gives each connection itself to the next \
             worker and has no part in what is said on it; for Node apps, which see the client's address and \
             may speak TLS or any other protocol. No route leads to such an app.",
        ),
        key(
            "listener",
            "string",
            "",
            "With mode = \"handoff\": whose connections the app gets, all of them: the FileDescriptorName= of \
             a socket unit of the front's. Without it: http, which is roundsman-http.socket.",
        ),
        key(
            "listen",
            "\"auto\", \"cluster\", \"fd\", \"port\", \"unix\" or \"none\"",
            "\"auto\"",
            "How the app takes connections. \"cluster\": a Node app, unmodified, whatever port it listens \
             on. \"fd\": it inherits its listener as descriptor 3 (LISTEN_FDS, as gunicorn, uvicorn, puma \
             and most Go and Rust servers can). \"port\": it binds the address in $HOST and the port in $PORT. \
             \"unix\": it binds the UNIX socket in $SOCKET. \"none\": it serves no HTTP, as queue consumers, bots and \
             schedulers do: no route, no listener, no part in the front; all else is as for other apps. \"auto\": \
             \"cluster\" for Node, otherwise \"fd\".",
        ),
        key(
            "port",
            "1 to 65535",
            "",
            "With listen = \"port\", for apps that bind a port of their own choice: that of worker 1; worker N \
             gets port + N - 1, on 127.0.0.1. Without it each worker has a loopback address and a port of its own, \
             so that an app may also bind its port on every address.",
        ),
        key(
            "transport",
            "\"auto\", \"tcp\" or \"unix\"",
            "\"auto\"",
            "How the front reaches a worker: over TCP on a loopback address of the worker's own, or over a \
             UNIX socket. \"auto\": \"tcp\" for listen = \"cluster\" and \"port\", otherwise \"unix\".",
        ),
        key(
            "ready",
            "\"listening\", \"message\", \"notify\" or \"running\"",
            "\"listening\"",
            "What makes a worker ready: that it listens, that it calls process.send('ready') (Node), \
             that it sends READY=1 (sd_notify), or, with listen = \"none\" alone and by default there, that it has \
             stayed up for ready-after. With [health], its path must answer, too.",
        ),
        key(
            "ready-after",
            "duration",
            "",
            "With ready = \"running\": how long a worker must have stayed up to be ready. A deploy goes on to the \
             next worker only then, and one that ends before has failed. Without it: 2s.",
        ),
        key(
            "start-timeout",
            "duration",
            "\"1min\"",
            "From the start of a worker until it is ready.",
        ),
        key(
            "shutdown",
            "\"auto\", \"disconnect\", \"message\" or a signal",
            "\"auto\"",
            "How the app is asked to end, once the front has drained the worker. \"auto\": by SIGTERM; cluster workers \
             to which clients are connected by Node's own disconnect first. \"disconnect\" (cluster workers): always by \
             that first. \"message\" (Node): process.on('message') gets \
             \"shutdown\", and SIGTERM follows after half of stop-timeout. A signal (SIGTERM, SIGINT, SIGQUIT, \
             SIGHUP, SIGUSR1, SIGUSR2 or SIGWINCH): it and nothing else.",
        ),
        key(
            "stop-timeout",
            "duration",
            "\"30s\"",
            "From when the app is asked to end until it is killed.",
        ),
        key(
            "drain-timeout",
            "duration",
            "\"30s\"",
            "For a worker's requests in flight before it is stopped. Then WebSockets are closed with code 1012 \
             (service restart) and server-sent events end; what else is left may finish within stop-timeout.",
        ),
        key(
            "watchdog",
            "duration",
            "\"30s\"",
            "How long a worker may not answer before systemd restarts it; \"0s\" for never.",
        ),
        key(
            "rollback",
            "boolean",
            "false",
            "When a deploy fails and directory is a link to a release: point it at the release that ran before, \
             and put the workers back that have got the new one, the failed one first.",
        ),
        key(
            "surge",
            "0 to 250",
            "",
            "How many extra workers a deploy starts first, so that as many as before serve meanwhile. Without it: 1 \
             for an app with one worker, otherwise 0, and 0 with listen = \"none\". A program that insists on one \
             port has 0: no second worker runs beside the first, and requests wait in the front while it restarts.",
        ),
        key(
            "sandbox",
            "\"default\", \"strict\" or \"off\"",
            "\"default\"",
            "How far a worker is confined, beside its user. \"default\": no privileges, devices, namespaces or kernel \
             settings; it sees its own user's processes only, and /usr, /boot and /etc are read-only. \"strict\": it \
             also writes in directory only and sees no homes. \"off\": none of it, for what Chromium, setuid \
             programs or debuggers need; also what user = \"root\" has unless this says otherwise. An app without \
             user can write to its own directories below /run and /tmp only, whatever this says.",
        ),
        key(
            "max-memory",
            "size",
            "",
            "Memory of one worker with all its processes: what they allocated, without the files that the kernel \
             keeps in memory for them. A worker above it is replaced without losing a request, one worker of \
             the app at a time (by roundsman-watch@NAME.service). The kernel slows a worker down at one and \
             a quarter of it (MemoryHigh=) and kills it at one and a half (MemoryMax=).",
        ),
        key(
            "max-age",
            "duration",
            "",
            "A worker that has been ready for so long is replaced without losing a request, one worker of the app \
             at a time (by roundsman-watch@NAME.service).",
        ),
        key(
            "restart-at",
            "calendar event, or array of them",
            "[]",
            "When all workers are replaced, one after the other, as by `roundsman reload NAME`: \"04:00\", \
             \"Mon 04:00\", \"*-*-01 03:30\"; see systemd.time(7). It becomes roundsman-restart@NAME.timer.",
        ),
        key(
            "watch",
            "boolean or array of patterns",
            "false",
            "Replace the workers, one after the other, as by `roundsman reload NAME`, when files below directory \
             change (by roundsman-watch@NAME.service): all, or those that match. A pattern is relative to \
             directory and names a file, a whole directory, or several: \"src\", \"config/*.json\", \"**/*.js\"; \
             with '!' in front it takes away from those before it. What .gitignore files leave out, .git, \
             node_modules and editors' temporary files are never watched.",
        ),
        key("restart", "table", "", "See [restart]."),
        key(
            "stop-exit-codes",
            "array of 0 to 125",
            "[]",
            "Exit codes by which the app says that it is done: its worker is not started again, and its listener \
             is closed, until somebody starts it.",
        ),
        key(
            "session",
            "boolean, \"valkey\", \"valkey:NAME\" or URL",
            "false",
            "Where the app's sessions are, for SESSION_URL (and REDIS_URL, unless it is MongoDB) in its environment: \
             true for the session store of this machine, where each app sees its own keys only; \"valkey\" for a server \
             of the app's own that knows every command, Debian's valkey-server or redis-server in \
             roundsman-valkey@NAME.service, of which the app has REDIS_SOCKET, REDIS_USERNAME and REDIS_PASSWORD, too; \
             \"valkey:NAME\" for that of another app which has the same user; \
             or a URL that begins with redis://, rediss://, redis+cluster://, rediss+cluster://, mongodb://, \
             mongodb+srv:// or unix://.",
        ),
        key("health", "table", "", "See [health]."),
    ],
};

pub(in crate::config) const APP_HEALTH: Section = Section {
    title: "[health] of an app",
    doc: "A path that a worker answers with a status below 400 while it is well. A worker is ready when it \
          first answers, and is restarted when it stops answering (see watchdog).",
    keys: &[
        key("path", "path, required", "", "What is asked for, with GET."),
        key("host", "host", "", "The Host field to ask with. Without it: localhost."),
        key("interval", "duration", "\"2s\"", "Between two checks."),
        key("timeout", "duration", "\"2s\"", "For one answer."),
    ],
};

pub(in crate::config) const APP_RESTART: Section = Section {
    title: "[restart] of an app",
    doc: "What follows a crash: that the worker ended without being asked to, in whatever way, or was not ready in \
          time. After the first one it is started again at once, since a lone crash should cost nothing; after \
          the second in a row it waits for delay, and twice as long after each further one. Connections do not \
          make it start earlier. After limit crashes in a row it is given up: its unit has failed, its listener is \
          closed, and roundsman status says why, until somebody starts it. No other worker is touched.",
    keys: &[
        key(
            "delay",
            "duration up to \"30min\"",
            "\"1s\"",
            "Between the second crash in a row and the next start.",
        ),
        key(
            "max-delay",
            "duration up to \"30min\"",
            "\"1min\"",
            "The longest time between a crash and the next start: what an app that waits for its database loses at \
             most when that is back.",
        ),
        key(
            "limit",
            "1 to 100 or \"none\"",
            "16",
            "Crashes in a row. With the other defaults the sixteenth comes after nine minutes at the earliest: \
             longer than a database takes to restart. \"none\": never give up.",
        ),
        key(
            "reset-after",
            "duration",
            "\"1min\"",
            "A worker that was ready for so long was well: its crash counts as the first.",
        ),
    ],
};
