//! The keys of routes.

use super::{Section, key};

pub(in crate::config) const ROUTES: Section = Section {
    title: "",
    doc: "",
    keys: &[key("route", "array of tables, required", "", "See [[route]].")],
};

pub(in crate::config) const ROUTE: Section = Section {
    title: "[[route]] of a file in routes/",
    doc: "",
    keys: &[
        OWN_ROUTE.keys[0],
        OWN_ROUTE.keys[1],
        OWN_ROUTE.keys[2],
        OWN_ROUTE.keys[3],
        OWN_ROUTE.keys[4],
        key(
            "to",
            "\"app:NAME\" or \"upstream:NAME\"",
            "",
            "Who answers. Either this or split is required.",
        ),
        key("split", "array of tables", "", "Several who answer; see split."),
        key(
            "by",
            "\"ip\", \"cookie:NAME\", \"header:NAME\" or \"random\"",
            "\"ip\"",
            "What decides between the parts of a split. The same address, cookie or field always comes to \
             the same part; without the cookie or field the address decides.",
        ),
    ],
};

pub(in crate::config) const SHARE: Section = Section {
    title: "split",
    doc: "One part of a split: split = [{ to = \"app:shop\", share = 95 }, { to = \"app:shop-next\", share = 5 }].",
    keys: &[
        key("to", "\"app:NAME\" or \"upstream:NAME\", required", "", "Who answers."),
        key("share", "0 to 1000000, required", "", "In proportion to the other shares."),
    ],
};

pub(in crate::config) const OWN_ROUTE: Section = Section {
    title: "[[route]]",
    doc: "Which requests are meant. An exact host wins over a wildcard, a wildcard over every host; among those \
          the longest path wins.",
    keys: &[
        key(
            "host",
            "host",
            "\"*\"",
            "A name as in \"shop.example.com\", every name below one as in \"*.example.com\", or \"*\" for \
             every host.",
        ),
        key(
            "path",
            "path",
            "\"/\"",
            "What the path begins with, in whole segments: \"/api\" is for /api and /api/x, not for /apix.",
        ),
        key(
            "redirect-https",
            "boolean",
            "false",
            "Whether requests that come in cleartext are sent to the same place over TLS.",
        ),
        key(
            "hsts",
            "duration",
            "",
            "For how long browsers are to come over TLS only: Strict-Transport-Security in every response \
             over TLS, instead of the servers' own. \"0s\" takes it back.",
        ),
        key(
            "hsts-subdomains",
            "boolean",
            "false",
            "Whether that goes for every name below the host, too.",
        ),
    ],
};
