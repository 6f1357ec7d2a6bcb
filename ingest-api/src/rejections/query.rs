//! The parameters of `GET /v1/rejections`. Pure: the current time is an argument.

use millrace_store::{SAMPLES_KEPT, end_of_hour};
use time::{Duration, OffsetDateTime};

use crate::parameters::{ParameterError, check_order, moment, values, whole_number};

/// Most hours in one answer.
const HOURS_MAX: i64 = 2_000;
const DEFAULT_PERIOD: Duration = Duration::DAY;
const DEFAULT_LIMIT: u32 = 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RejectionsQuery {
    /// Included. A full hour, in UTC.
    pub(super) from: OffsetDateTime,
    /// Excluded. A full hour, in UTC.
    pub(super) to: OffsetDateTime,
    /// Most samples in the answer.
    pub(super) limit: u32,
}

impl RejectionsQuery {
    /// Reads a query. Without parameters it is for the last 24 hours, this hour included.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub(super) fn read(query: &str, now: OffsetDateTime) -> Result<Self, ParameterError> {
        let [from, to, limit] = values(query, ["from", "to", "limit"], "from, to and limit")?;
        let to = to.map_or_else(|| Ok(end_of_hour(now)), |text| moment("to", &text))?;
        let from = from.map_or_else(|| Ok(to - DEFAULT_PERIOD), |text| moment("from", &text))?;
        check_order(from, to)?;
        if (to - from).whole_hours() > HOURS_MAX {
            return Err(ParameterError::Invalid { name: "from", expected: "at most 2000 hours before to" });
        }
        let limit = match limit {
            Some(text) => whole_number(&text).filter(|limit| *limit <= SAMPLES_KEPT),
            None => Some(DEFAULT_LIMIT),
        };
        let expected = "a whole number from 0 to 100";
        let limit = limit.ok_or(ParameterError::Invalid { name: "limit", expected })?;
        Ok(Self { from, to, limit })
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 14:30:05 UTC);

    fn read(query: &str) -> Result<RejectionsQuery, ParameterError> {
        RejectionsQuery::read(query, NOW)
    }

    #[test]
    fn a_query_without_parameters_is_for_the_last_24_hours() {
        let (from, to) = (datetime!(2026-11-20 15:00 UTC), datetime!(2026-11-21 15:00 UTC));
        assert_eq!(read(""), Ok(RejectionsQuery { from, to, limit: 20 }));
        let day_before = read("to=2026-11-21&limit=0").unwrap();
        assert_eq!((day_before.from, day_before.limit), (datetime!(2026-11-20 00:00 UTC), 0));
        assert_eq!(read("limit=100&from=2026-11-21").unwrap().from, datetime!(2026-11-21 00:00 UTC));
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, name) in [
            ("from=2026-11-21T14:30:00Z", "from"),
            ("to=2026-11-21T14:00:00%2B05:30", "to"),
            ("from=2026-11-22&to=2026-11-21", "from"),
            ("from=2026-08-01", "from"),
            ("limit=101", "limit"),
            ("limit=-1", "limit"),
            ("limit=%2B1", "limit"),
            ("limit=", "limit"),
            ("limit=99999999999", "limit"),
            ("limit=1&limit=1", "limit"),
            ("window=day", "query"),
        ] {
            assert_eq!(read(query).map_err(|error| error.name()), Err(name), "{query}");
        }
        let unknown = read("window=day").unwrap_err().to_string();
        assert!(unknown.ends_with("it takes from, to and limit"), "{unknown}");
    }
}
