//! The type of the JSON columns of `events` on PostgreSQL.

/// The type of the columns `properties` and `context`, chosen when a database is installed. The names are
/// those of PostgreSQL and of the command line. docs/schema.md says what each costs and gives.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, strum::EnumString, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "lowercase")]
pub enum JsonColumns {
    /// Parsed when it is written: more expensive to store, cheap to query.
    #[default]
    Jsonb,
    /// The text as it was sent: cheap to store, parsed by each query.
    Json,
}
