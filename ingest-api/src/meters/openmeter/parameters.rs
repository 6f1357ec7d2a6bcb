//! The parameters of OpenMeter's questions, in a query or as JSON. Pure: the current time is an argument.

use millrace_store::{MeterWindow, MeterZone, end_of_quarter};
use serde::Deserialize;
use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};

use super::super::pairs::pairs;
use super::super::python_dict;
use super::super::question::{DefaultStart, Names, Period, Question, QuestionError, SUBJECT};
use crate::parameters::{Moment, ParameterError, date_or_time, shown, values, whole_number};

const NAMES: Names =
    Names { window: "windowSize", time_zone: "windowTimeZone", group_by: "groupBy", filter: "filterGroupBy" };
const TAKES: &str = "from, to, windowSize, windowTimeZone, subject, groupBy, filterGroupBy[GROUP], \
                     advancedMeterGroupByFilters and clientId";
const FILTER: &str = "an object of names of groups and their values, as in filterGroupBy[model]=gpt-4";
const ADVANCED: &str = r#"an object of names of groups and {"$eq": "value"} or {"$in": ["value"]}"#;
/// Meters on a page, at most.
const PAGE_SIZE_MAX: u32 = 1_000;
const PAGE_MAX: u32 = 1_000_000;

/// A question as an SDK asks it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Parameters {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    window_size: Option<String>,
    window_time_zone: Option<String>,
    subject: Option<Vec<String>>,
    group_by: Option<Vec<String>>,
    filter_group_by: Option<Map<String, Value>>,
    advanced_meter_group_by_filters: Option<Map<String, Value>>,
    /// Names a question whose progress OpenMeter reports. Ours are answered at once.
    client_id: Option<String>,
}

impl Parameters {
    /// Reads a query.
    ///
    /// # Errors
    /// [`ParameterError`] of the name.
    pub(super) fn of_query(query: &str) -> Result<Self, ParameterError> {
        let mut read = Self::default();
        for pair in pairs(query) {
            let text = pair.text().to_owned();
            let (name, slot) = match pair.name.as_str() {
                "from" => ("from", &mut read.from),
                "to" => ("to", &mut read.to),
                "windowSize" => ("windowSize", &mut read.window_size),
                "windowTimeZone" => (NAMES.time_zone, &mut read.window_time_zone),
                "clientId" => ("clientId", &mut read.client_id),
                "subject" => {
                    read.subject.get_or_insert_default().push(text);
                    continue;
                }
                "groupBy" => {
                    read.group_by.get_or_insert_default().push(text);
                    continue;
                }
                "filterGroupBy" => {
                    let filters = read.filter_group_by.get_or_insert_default();
                    filters.extend(filter_of_text(&text).ok_or(invalid(NAMES.filter, FILTER))?);
                    continue;
                }
                "advancedMeterGroupByFilters" => {
                    let filters = serde_json::from_str(&text);
                    read.advanced_meter_group_by_filters =
                        Some(filters.map_err(|_| invalid("advancedMeterGroupByFilters", ADVANCED))?);
                    continue;
                }
                _ => match pair.member_of(NAMES.filter) {
                    Some(group) => {
                        add_value(read.filter_group_by.get_or_insert_default(), group, text);
                        continue;
                    }
                    None => return Err(ParameterError::Unknown { takes: TAKES }),
                },
            };
            let text = if matches!(name, "from" | "to") { pair.time() } else { text };
            if slot.replace(text).is_some() {
                return Err(ParameterError::Twice { name });
            }
        }
        Ok(read)
    }

    /// Reads the body of a POST.
    ///
    /// # Errors
    /// [`ParameterError`] for anything but an object of these parameters.
    pub(super) fn of_body(body: &[u8]) -> Result<Self, ParameterError> {
        let expected = "an object with these members at most: from, to, windowSize, windowTimeZone, subject and groupBy \
                        (arrays), filterGroupBy, advancedMeterGroupByFilters and clientId";
        let wrong = invalid("body", expected);
        // A structure would also be read from an array, and with null for what is absent.
        let object: Map<String, Value> = serde_json::from_slice(body).map_err(|_| wrong)?;
        if object.values().any(Value::is_null) {
            return Err(wrong);
        }
        serde_json::from_value(Value::Object(object)).map_err(|_| wrong)
    }

    /// The question to any meter.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub(super) fn question(&self, now: OffsetDateTime) -> Result<Question, QuestionError> {
        let zone = self.window_time_zone.as_deref().unwrap_or(MeterZone::UTC);
        let zone = MeterZone::find(zone).ok_or(QuestionError::TimeZone { name: NAMES.time_zone })?;
        let window = self.window_size.as_deref().map(window_of).transpose()?;
        let to = self.to.as_deref().map(|text| until_now(text, now)).transpose()?;
        let limits = [self.from.as_deref(), to.as_deref()];
        let period = Period::new(limits, DefaultStart::Earliest, window, zone, now)?;
        let subjects = self.subject.clone().unwrap_or_default();
        let mut filters = Vec::new();
        for (group, value) in self.filter_group_by.iter().flatten() {
            let values = texts(value).ok_or(invalid(NAMES.filter, FILTER))?;
            filters.extend(values.into_iter().map(|value| (group.clone(), Some(value))));
        }
        if self.filter_group_by.is_some() && self.advanced_meter_group_by_filters.is_some() {
            return Err(invalid("advancedMeterGroupByFilters", "absent, or filterGroupBy must be").into());
        }
        for (group, filter) in self.advanced_meter_group_by_filters.iter().flatten() {
            let values = advanced(filter).ok_or(invalid("advancedMeterGroupByFilters", ADVANCED))?;
            filters.extend(values.into_iter().map(|value| (group.clone(), Some(value))));
        }
        let mut question =
            Question { names: &NAMES, period, subjects, group_by: Vec::new(), filters, offset: 0, limit: 0 };
        self.group_by.iter().flatten().for_each(|name| question.add_group(name));
        if !question.subjects.is_empty() {
            question.add_group(SUBJECT);
        }
        Ok(question)
    }
}

fn invalid(name: &'static str, expected: &'static str) -> ParameterError {
    ParameterError::Invalid { name, expected }
}

/// Clients often ask for figures up to now. The current quarter of an hour is all one figure, so its end
/// gives the same answer.
fn until_now(text: &str, now: OffsetDateTime) -> Result<String, ParameterError> {
    let end = end_of_quarter(now);
    match date_or_time("to", text)? {
        Moment::Time(to) if (end - Duration::minutes(15)..end).contains(&to) => Ok(shown(end)),
        Moment::Time(_) | Moment::Date(_) => Ok(text.to_owned()),
    }
}

fn window_of(text: &str) -> Result<MeterWindow, QuestionError> {
    match text {
        "HOUR" => Ok(MeterWindow::Hour),
        "DAY" => Ok(MeterWindow::Day),
        "MONTH" => Ok(MeterWindow::Month),
        "MINUTE" => Ok(MeterWindow::Minute),
        _ => Err(invalid("windowSize", "MINUTE, HOUR, DAY or MONTH").into()),
    }
}

/// `filterGroupBy` in one text: JSON, or what Python prints for a `dict`.
fn filter_of_text(text: &str) -> Option<Map<String, Value>> {
    if let Ok(object) = serde_json::from_str(text) {
        return Some(object);
    }
    Some(python_dict::read(text)?.into_iter().map(|(name, value)| (name, Value::from(value))).collect())
}

fn add_value(filters: &mut Map<String, Value>, group: &str, value: String) {
    match filters.entry(group).or_insert_with(|| Value::Array(Vec::new())) {
        Value::Array(values) => values.push(value.into()),
        one => *one = Value::from(vec![one.take(), value.into()]),
    }
}

/// A text, or an array of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn advanced(filter: &Value) -> Option<Vec<String>> {
    let mut members = filter.as_object()?.iter().filter(|(_, value)| !value.is_null());
    let (name, value) = members.next().filter(|_| members.next().is_none())?;
    match (name.as_str(), value) {
        ("$eq", Value::String(_)) | ("$in", Value::Array(_)) => texts(value),
        _ => None,
    }
}

/// Which part of the list of meters is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ListQuery {
    page: u32,
    page_size: Option<u32>,
}

impl ListQuery {
    /// # Errors
    /// [`ParameterError`].
    pub(super) fn read(query: &str) -> Result<Self, ParameterError> {
        let names = ["page", "pageSize", "includeDeleted"];
        let [page, page_size, deleted] = values(query, names, "page, pageSize and includeDeleted")?;
        if deleted.is_some_and(|deleted| deleted != "false") {
            return Err(invalid("includeDeleted", "false: the figures of a deleted meter are removed"));
        }
        let positive = |text: &str| whole_number(text).filter(|number| *number > 0);
        let page = page.map_or(Some(1), |text| positive(&text)).filter(|page| *page <= PAGE_MAX);
        let page = page.ok_or(invalid("page", "a whole number from 1 to 1000000"))?;
        let size = |text: &str| positive(text).filter(|size| *size <= PAGE_SIZE_MAX);
        let expected = "a whole number from 1 to 1000";
        let page_size = page_size.map(|text| size(&text).ok_or(invalid("pageSize", expected))).transpose()?;
        Ok(Self { page, page_size: page_size.or((page > 1).then_some(100)) })
    }

    /// Meters before the page.
    pub(super) fn skip(self) -> usize {
        (self.page as usize - 1).saturating_mul(self.page_size.unwrap_or(0) as usize)
    }

    /// Meters on the page, at most. Without a size, all of them.
    pub(super) fn size(self) -> usize {
        self.page_size.map_or(usize::MAX, |size| size as usize)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 14:20:05 UTC);

    fn question(query: &str) -> Result<Question, QuestionError> {
        Parameters::of_query(query)?.question(NOW)
    }

    #[test]
    fn a_filter_is_read_as_either_sdk_writes_it() {
        for query in [
            "filterGroupBy[model]=gpt-4&filterGroupBy%5Bmodel%5D=o1",
            "filterGroupBy=%7B%22model%22%3A%5B%22gpt-4%22%2C%22o1%22%5D%7D",
            "advancedMeterGroupByFilters=%7B%22model%22%3A%7B%22%24in%22%3A%5B%22gpt-4%22%2C%22o1%22%5D%7D%7D",
        ] {
            let filters = ["gpt-4", "o1"].map(|value| ("model".to_owned(), Some(value.to_owned())));
            assert_eq!(question(query).unwrap().filters, filters, "{query}");
        }
        let python = question("filterGroupBy=%7B%27model%27%3A%20%27gpt-4%27%7D").unwrap();
        assert_eq!(python.filters, [("model".to_owned(), Some("gpt-4".to_owned()))]);
    }

    #[test]
    fn a_question_in_a_body_is_that_of_a_query() {
        let body = json!({
            "from": "2026-11-01T00:00:00Z", "windowSize": "DAY", "subject": ["a"], "groupBy": ["model"],
            "filterGroupBy": {"model": ["x"]},
        });
        let body = Parameters::of_body(body.to_string().as_bytes()).unwrap().question(NOW).unwrap();
        let query = question(
            "from=2026-11-01T00:00:00Z&windowSize=DAY&subject=a&groupBy=model&filterGroupBy[model]=x",
        );
        assert_eq!(format!("{body:?}"), format!("{:?}", query.unwrap()));
        assert_eq!(body.group_by, ["model", "subject"], "subjects have rows of their own");
        for wrong in ["", "[]", r#"{"subject":"a"}"#, r#"{"other":1}"#, r#"{"from":null}"#] {
            assert!(Parameters::of_body(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_question_up_to_now_ends_with_the_current_quarter() {
        let to = |text: &str| question(&format!("from=2026-11-01T00:00:00Z&to={text}")).map(|q| q.period.to);
        for text in ["2026-11-21T14:20:05.123Z", "2026-11-21T14:29:59.999Z", "2026-11-21T14:30:00Z"] {
            assert_eq!(to(text), Ok(datetime!(2026-11-21 14:30 UTC)), "{text}");
        }
        assert_eq!(to("2026-11-21T14:14:59Z").map_err(|error| error.name()), Err("to"));
        assert_eq!(question("").unwrap().period.to, datetime!(2026-11-21 14:30 UTC));
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, name) in [
            ("windowSize=MINUTE&from=2026-11-01T00:00:00Z", "from"),
            ("windowSize=day", "windowSize"),
            ("windowTimeZone=x", "windowTimeZone"),
            ("from=2026-11-01T00:01:00Z", "from"),
            ("from=2026-11-01T00:00:00Z&from=2026-11-01T00:00:00Z", "from"),
            ("filterGroupBy=model", "filterGroupBy"),
            (
                "advancedMeterGroupByFilters=%7B%22m%22%3A%7B%22%24ne%22%3A%22x%22%7D%7D",
                "advancedMeterGroupByFilters",
            ),
            ("filterGroupBy[m]=x&advancedMeterGroupByFilters=%7B%7D", "advancedMeterGroupByFilters"),
            ("filterCustomerId=x", "query"),
        ] {
            assert_eq!(question(query).map(|_| ()).map_err(|error| error.name()), Err(name), "{query}");
        }
    }

    #[test]
    fn a_list_has_all_meters_or_one_page_of_them() {
        let part = |query: &str| ListQuery::read(query).map(|page| (page.skip(), page.size()));
        assert_eq!(part(""), Ok((0, usize::MAX)));
        assert_eq!(part("page=3&pageSize=10"), Ok((20, 10)));
        assert_eq!(part("page=2"), Ok((100, 100)));
        for query in
            ["page=0", "page=1000001", "pageSize=0", "pageSize=1001", "includeDeleted=true", "order=ASC"]
        {
            assert!(part(query).is_err(), "{query}");
        }
    }
}
