//! Every parameter of libpq: its environment variable, and what Millrace does with it.

/// One parameter.
pub(super) struct OptionRow {
    pub(super) name: &'static str,
    /// The environment variable that stands in for it; empty when libpq has none.
    pub(super) variable: &'static str,
    accepts: Accepts,
}

enum Accepts {
    /// Every value; the client library checks it.
    Any,
    /// Every value; it has no effect, and none is needed.
    Ignored,
    /// These values. The text says what to do instead of another one.
    Only(&'static [&'static str], &'static str),
    /// No value. The text says what to do instead.
    Nothing(&'static str),
}

use Accepts::{Any, Ignored, Nothing, Only};

const fn row(name: &'static str, variable: &'static str, accepts: Accepts) -> OptionRow {
    OptionRow { name, variable, accepts }
}

const NO_SERVICE: &str =
    "service files are not read: write the parameters into the URL, or set PGHOST and the others";
const NO_REVOCATION: &str = "lists of revoked certificates are not read: use a new CA instead";
const NO_GSSAPI: &str = "GSSAPI is not supported: use a password or a client certificate";
const POOLS: &str = "Millrace sizes its own pools";
const SCHEMA: &str = "the tables are always in the schema public";
const TLS_VERSIONS: &str = "TLS 1.2 and 1.3 are used, and no other";

pub(super) const OPTIONS: &[OptionRow] = &[
    row("host", "PGHOST", Any),
    row("hostaddr", "PGHOSTADDR", Any),
    row("port", "PGPORT", Any),
    row("dbname", "PGDATABASE", Any),
    row("user", "PGUSER", Any),
    row("password", "PGPASSWORD", Any),
    row("passfile", "PGPASSFILE", Any),
    row("connect_timeout", "PGCONNECT_TIMEOUT", Any),
    row("options", "PGOPTIONS", Any),
    row("load_balance_hosts", "PGLOADBALANCEHOSTS", Any),
    row("tcp_user_timeout", "", Any),
    row("keepalives", "", Any),
    row("keepalives_idle", "", Any),
    row("keepalives_interval", "", Any),
    row("keepalives_retries", "", Any),
    row("sslrootcert", "PGSSLROOTCERT", Any),
    row("sslcert", "PGSSLCERT", Any),
    row("sslkey", "PGSSLKEY", Any),
    row(
        "sslmode",
        "PGSSLMODE",
        Only(
            &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
            "use disable, allow, prefer, require, verify-ca or verify-full",
        ),
    ),
    row(
        "channel_binding",
        "PGCHANNELBINDING",
        Only(&["disable", "prefer", "require"], "use disable, prefer or require"),
    ),
    row(
        "target_session_attrs",
        "PGTARGETSESSIONATTRS",
        Only(
            &["any", "read-write", "primary"],
            "use read-write or primary: Millrace needs a server that takes writes",
        ),
    ),
    row("sslnegotiation", "PGSSLNEGOTIATION", Only(&["postgres"], "only postgres is supported")),
    row("sslsni", "PGSSLSNI", Only(&["1"], "the name of the host is always sent")),
    row("sslcompression", "PGSSLCOMPRESSION", Only(&["0"], "TLS is never compressed")),
    row(
        "sslcertmode",
        "PGSSLCERTMODE",
        Only(&["allow"], "a certificate is sent when the server asks for it"),
    ),
    row("gssencmode", "PGGSSENCMODE", Only(&["disable", "prefer"], NO_GSSAPI)),
    row("client_encoding", "PGCLIENTENCODING", Ignored),
    row("application_name", "PGAPPNAME", Ignored),
    row("fallback_application_name", "", Ignored),
    row("gsslib", "PGGSSLIB", Ignored),
    row("krbsrvname", "PGKRBSRVNAME", Ignored),
    row("gssdelegation", "PGGSSDELEGATION", Ignored),
    row("service", "PGSERVICE", Nothing(NO_SERVICE)),
    row("servicefile", "PGSERVICEFILE", Nothing(NO_SERVICE)),
    row("sslcrl", "PGSSLCRL", Nothing(NO_REVOCATION)),
    row("sslcrldir", "PGSSLCRLDIR", Nothing(NO_REVOCATION)),
    row("sslpassword", "", Nothing("encrypted keys are not supported: decrypt the key with `openssl pkey`")),
    row("ssl", "", Nothing("use sslmode=require or sslmode=verify-full")),
    row("requiressl", "PGREQUIRESSL", Nothing("use sslmode=require")),
    row("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Only(&["TLSv1.2"], TLS_VERSIONS)),
    row("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Only(&["TLSv1.3"], TLS_VERSIONS)),
    row("require_auth", "PGREQUIREAUTH", Nothing("use sslmode=verify-full and channel_binding=require")),
    row(
        "requirepeer",
        "PGREQUIREPEER",
        Nothing("let only the user of the server write to the folder of its socket"),
    ),
    row("replication", "", Nothing("Millrace makes ordinary connections")),
    row("schema", "", Nothing(SCHEMA)),
    row("currentSchema", "", Nothing(SCHEMA)),
    row("current_schema", "", Nothing(SCHEMA)),
    row("search_path", "", Nothing(SCHEMA)),
    row("pgbouncer", "", Nothing("nothing needs to be set for PgBouncer but pool_mode=session")),
    row("connection_limit", "", Nothing(POOLS)),
    row("pool_timeout", "", Nothing(POOLS)),
    row("pool_size", "", Nothing(POOLS)),
    row("max_connections", "", Nothing(POOLS)),
    row("statement_cache_size", "", Nothing(POOLS)),
];

pub(super) fn find(name: &str) -> Option<&'static OptionRow> {
    OPTIONS.iter().find(|row| row.name == name)
}

impl OptionRow {
    /// Whether the value has an effect.
    pub(super) fn is_used(&self) -> bool {
        !matches!(self.accepts, Ignored)
    }

    /// What is wrong with a value; `None` when it is supported.
    pub(super) fn fault(&self, value: &str) -> Option<&'static str> {
        match self.accepts {
            Any if self.name == "options" && value.contains("search_path") => {
                Some("search_path in it has no effect, because the tables are in the schema public")
            }
            Any | Ignored => None,
            Only(values, advice) => (!values.contains(&value)).then_some(advice),
            Nothing(advice) => Some(advice),
        }
    }
}
