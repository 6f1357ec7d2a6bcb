//! The names of the subjects.

#[derive(
    clap::ValueEnum, serde::Serialize, serde::Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug,
)]
#[serde(rename_all = "snake_case")]
pub enum SubjectName {
    /// ingest-api, Redis, stream-worker and PostgreSQL
    #[value(name = "millrace")]
    Millrace,
    /// `millrace` alone, on two SQLite files
    #[value(name = "embedded")]
    Embedded,
    /// A Python service that runs INSERT inside the request: FastAPI, asyncpg, pydantic
    #[value(name = "direct_insert")]
    DirectInsert,
    /// A Rust service that runs COPY inside the request
    #[value(name = "copy_in_request")]
    CopyInRequest,
}

impl SubjectName {
    /// In the order in which they are measured and reported.
    pub const ALL: [Self; 4] = [Self::Millrace, Self::Embedded, Self::DirectInsert, Self::CopyInRequest];

    /// The name in results files, tables and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Millrace => "millrace",
            Self::Embedded => "embedded",
            Self::DirectInsert => "direct_insert",
            Self::CopyInRequest => "copy_in_request",
        }
    }
}
