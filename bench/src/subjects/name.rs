//! The names of the subjects.

#[derive(
    clap::ValueEnum, serde::Serialize, serde::Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug,
)]
#[serde(rename_all = "snake_case")]
pub enum SubjectName {
    /// ingest-api, Redis, stream-worker and PostgreSQL
    #[value(name = "millrace")]
    Millrace,
    /// The same with columns of the type json
    #[value(name = "millrace_json")]
    MillraceJson,
    /// The same with TLS to both servers
    #[value(name = "millrace_tls")]
    MillraceTls,
    /// The same with DURABILITY=replicated and one replica of Redis
    #[value(name = "millrace_replicated")]
    MillraceReplicated,
    /// `millrace` alone, on two SQLite files
    #[value(name = "embedded")]
    Embedded,
    /// A Python service that runs INSERT inside the request: FastAPI, asyncpg, pydantic
    #[value(name = "direct_insert")]
    DirectInsert,
    /// A Rust service that runs one INSERT of the whole batch inside the request, with unnest
    #[value(name = "unnest_in_request")]
    UnnestInRequest,
    /// A Rust service that runs COPY inside the request
    #[value(name = "copy_in_request")]
    CopyInRequest,
    /// A Rust service that inserts requests into a table, from which a worker moves them into events
    #[value(name = "outbox")]
    Outbox,
}

impl SubjectName {
    /// In the order in which they are measured and reported.
    pub const ALL: [Self; 9] = [
        Self::Millrace,
        Self::MillraceJson,
        Self::MillraceTls,
        Self::MillraceReplicated,
        Self::Embedded,
        Self::DirectInsert,
        Self::UnnestInRequest,
        Self::CopyInRequest,
        Self::Outbox,
    ];

    /// The name in results files, tables and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Millrace => "millrace",
            Self::MillraceJson => "millrace_json",
            Self::MillraceTls => "millrace_tls",
            Self::MillraceReplicated => "millrace_replicated",
            Self::Embedded => "embedded",
            Self::DirectInsert => "direct_insert",
            Self::UnnestInRequest => "unnest_in_request",
            Self::CopyInRequest => "copy_in_request",
            Self::Outbox => "outbox",
        }
    }

    /// Whether it is Millrace on servers, with another setting than usual.
    pub fn is_variant(self) -> bool {
        matches!(self, Self::MillraceJson | Self::MillraceTls | Self::MillraceReplicated)
    }

    /// Whether it has plans, metering and a ledger, and `millrace audit` can check it.
    pub fn is_millrace(self) -> bool {
        self.is_variant() || matches!(self, Self::Millrace | Self::Embedded)
    }

    /// Whether it stores events after it has accepted them.
    pub fn is_queued(self) -> bool {
        self.is_millrace() || self == Self::Outbox
    }
}
