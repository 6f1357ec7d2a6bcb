//! `GET /v1/meters`, `GET /v1/meters/{slug}` and `GET /v1/meters/{slug}/query`.

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use hyper::{StatusCode, http::HeaderName};
use millrace_event::meter::{Aggregation, MeterFault};
use millrace_event::printable::{escaped_json, text_of_bytes};
use millrace_store::{MeterFaultCount, MeterInfo, MeterRow, MeterWindow, MeterZone};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::figures::{Figures, NOT_FOUND, figures, groups_of, meters, moment, number};
use super::pairs::pairs;
use super::question::{DefaultStart, Names, Period, Question, QuestionError, ROWS_MAX, SUBJECT};
use super::table;
use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::error::Problem;
use crate::parameters::{ParameterError, shown, values, whole_number};
use crate::request::Request;

/// Rows of one page, unless the request says another number.
const LIMIT: u32 = 1_000;
/// Rows that can be left out at the start.
const OFFSET_MAX: u32 = 10_000_000;
const NAMES: Names =
    Names { window: "window", time_zone: "timezone", group_by: "group_by", filter: "filter" };
const TAKES: &str = "from, to, window, timezone, subject, group_by, filter[GROUP], limit, offset and format, all but subject, group_by \
     and filter once";
/// Where the next page begins, if there is one.
const NEXT_OFFSET: HeaderName = HeaderName::from_static("next-offset");

#[derive(Serialize)]
struct MeterList {
    meters: Vec<MeterEntry>,
}

/// A meter, as the native interface shows it.
#[derive(Serialize)]
pub struct MeterEntry {
    slug: String,
    event: String,
    aggregation: &'static str,
    value: Option<String>,
    /// The path of each group, by its name.
    groups: Map<String, Value>,
    created_at: String,
    /// Events that were received before are not counted. Absent if all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    received_from: Option<String>,
    backfill: &'static str,
}

#[derive(Serialize)]
struct MeterReport {
    #[serde(flatten)]
    meter: MeterEntry,
    faults: Vec<Fault>,
}

#[derive(Serialize)]
struct Fault {
    fault: &'static str,
    events: u64,
    last_at: String,
    sample: String,
}

#[derive(Serialize)]
struct FiguresReport<'a> {
    meter: &'a str,
    from: String,
    to: String,
    window: Option<&'static str>,
    timezone: &'a str,
    rows: Vec<FigureRow<'a>>,
    next_offset: Option<u32>,
}

#[derive(Serialize)]
struct FigureRow<'a> {
    start: String,
    end: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    groups: Map<String, Value>,
    events: u64,
    value: &'a RawValue,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Json,
    Csv,
}

/// The meters of the project.
///
/// # Errors
/// 400 for a parameter, 503 when the store cannot be reached.
pub async fn list(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let infos = meters(request.service, key.account.project).await?;
    Ok(answer::json(StatusCode::OK, &MeterList { meters: infos.iter().map(MeterEntry::of).collect() }))
}

/// One meter, and what it does not count.
///
/// # Errors
/// 404 when the project has no such meter, and as [`list`].
pub async fn show(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let [] = values(request.head.uri.query().unwrap_or_default(), [], "none")?;
    let Request { service, .. } = request;
    let asked = async {
        let infos = service.store.meters(Some(key.account.project)).await?;
        let Some(info) = by_slug(&infos, request.id) else { return Ok(None) };
        Ok(Some((info.clone(), service.store.meter_faults(info.meter.id).await?)))
    };
    let (info, faults) = service.reports.ask(asked).await?.ok_or(NOT_FOUND)?;
    let report = MeterReport { meter: MeterEntry::of(&info), faults: faults.iter().map(Fault::of).collect() };
    let json = serde_json::to_string(&report).expect("string keys and whole numbers");
    Ok(answer::json_text(StatusCode::OK, escaped_json(&json)))
}

/// The figures of a meter.
///
/// # Errors
/// 400 for a wrong parameter, and as [`show`].
pub async fn query(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let query = request.head.uri.query().unwrap_or_default();
    let (mut question, format) = read(query, OffsetDateTime::now_utc())?;
    let format = format.unwrap_or_else(|| accepted(&request.head.headers));
    // One row more says whether there is another page.
    let limit = question.limit;
    question.limit += 1;
    let find = |infos: &[MeterInfo]| by_slug(infos, request.id).cloned();
    let mut found = figures(request.service, key.account.project, find, &question).await?;
    let has_more = found.rows.len() > limit as usize;
    found.rows.truncate(limit as usize);
    let next_offset = has_more.then(|| question.offset + limit);
    let mut answer = match format {
        Format::Json => json(&question, &found, next_offset)?,
        Format::Csv => table::of_figures(&question, &found.rows, table::NATIVE),
    };
    if let Some(next) = next_offset {
        answer.headers_mut().insert(NEXT_OFFSET, HeaderValue::from(next));
    }
    Ok(answer)
}

pub(super) fn by_slug<'a>(infos: &'a [MeterInfo], slug: &str) -> Option<&'a MeterInfo> {
    infos.iter().find(|info| info.meter.definition.slug == slug)
}

fn json(question: &Question, found: &Figures, next_offset: Option<u32>) -> Result<Answer, Problem> {
    let period = &question.period;
    let row = |row| FigureRow::of(question, row);
    let report = FiguresReport {
        meter: &found.info.meter.definition.slug,
        from: shown(period.from),
        to: shown(period.to),
        window: period.window.map(Into::into),
        timezone: period.zone.name(),
        rows: found.rows.iter().map(row).collect::<Result<_, _>>()?,
        next_offset,
    };
    Ok(answer::json(StatusCode::OK, &report))
}

/// Reads a query. Without parameters it is one figure for this month until the end of this quarter of an
/// hour.
fn read(query: &str, now: OffsetDateTime) -> Result<(Question, Option<Format>), QuestionError> {
    let mut once: [(&'static str, Option<String>); 7] =
        ["from", "to", "window", "timezone", "limit", "offset", "format"].map(|name| (name, None));
    let (mut subjects, mut group_by, mut filters) = (Vec::new(), Vec::new(), Vec::new());
    for pair in pairs(query) {
        if let Some((name, value)) = once.iter_mut().find(|(name, _)| *name == pair.name) {
            let text = if matches!(*name, "from" | "to") { pair.time() } else { pair.text().to_owned() };
            if value.replace(text).is_some() {
                return Err(ParameterError::Twice { name }.into());
            }
        } else if pair.name == SUBJECT {
            subjects.push(pair.text().to_owned());
        } else if pair.name == NAMES.group_by {
            group_by.extend(pair.text().split(',').map(str::to_owned));
        } else if let Some(group) = pair.member_of(NAMES.filter) {
            filters.push((group.to_owned(), pair.value.clone()));
        } else {
            return Err(ParameterError::Unknown { takes: TAKES }.into());
        }
    }
    let [from, to, window, zone, limit, offset, format] = once.map(|(_, value)| value);
    let zone = MeterZone::find(zone.as_deref().unwrap_or(MeterZone::UTC))
        .ok_or(QuestionError::TimeZone { name: NAMES.time_zone })?;
    let window = window.as_deref().map(window_of).transpose()?;
    let period = Period::new([from.as_deref(), to.as_deref()], DefaultStart::Month, window, zone, now)?;
    let mut question =
        Question { names: &NAMES, period, subjects, group_by: Vec::new(), filters, offset: 0, limit: LIMIT };
    group_by.iter().for_each(|name| question.add_group(name));
    if let Some(text) = limit {
        let expected = "a whole number from 1 to 10000";
        question.limit = whole_number(&text)
            .filter(|limit| (1..=ROWS_MAX).contains(limit))
            .ok_or(ParameterError::Invalid { name: "limit", expected })?;
    }
    if let Some(text) = offset {
        let expected = "a whole number from 0 to 10000000";
        question.offset = whole_number(&text)
            .filter(|offset| *offset <= OFFSET_MAX)
            .ok_or(ParameterError::Invalid { name: "offset", expected })?;
    }
    let format = match format.as_deref() {
        None => None,
        Some("json") => Some(Format::Json),
        Some("csv") => Some(Format::Csv),
        Some(_) => return Err(ParameterError::Invalid { name: "format", expected: "json or csv" }.into()),
    };
    Ok((question, format))
}

fn window_of(text: &str) -> Result<MeterWindow, QuestionError> {
    match text {
        "hour" => Ok(MeterWindow::Hour),
        "day" => Ok(MeterWindow::Day),
        "month" => Ok(MeterWindow::Month),
        "minute" => Ok(MeterWindow::Minute),
        _ => Err(ParameterError::Invalid { name: "window", expected: "minute, hour, day or month" }.into()),
    }
}

/// The first type that the client names and the report has.
fn accepted(headers: &HeaderMap) -> Format {
    let types = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        types.flat_map(|value| value.split(',')).map(|one| one.split(';').next().unwrap_or_default());
    let known = types.find_map(|one| match one.trim().to_ascii_lowercase().as_str() {
        "text/csv" => Some(Format::Csv),
        "application/json" | "application/*" | "*/*" => Some(Format::Json),
        _ => None,
    });
    known.unwrap_or(Format::Json)
}

/// Whether the client wants CSV.
pub(super) fn wants_csv(headers: &HeaderMap) -> bool {
    accepted(headers) == Format::Csv
}

impl MeterEntry {
    pub fn of(info: &MeterInfo) -> Self {
        let meter = &info.meter;
        let definition = &meter.definition;
        let groups = definition.groups.iter();
        Self {
            slug: definition.slug.clone(),
            event: definition.event.clone(),
            aggregation: name_of(definition.aggregation),
            value: definition.value.as_ref().map(ToString::to_string),
            groups: groups.map(|group| (group.name.clone(), Value::from(group.path.to_string()))).collect(),
            created_at: shown(info.created_at),
            received_from: (meter.received_from_us != i64::MIN)
                .then(|| shown(moment(meter.received_from_us))),
            backfill: if meter.counted_until_us == i64::MAX { "complete" } else { "running" },
        }
    }
}

fn name_of(aggregation: Aggregation) -> &'static str {
    aggregation.into()
}

impl Fault {
    fn of(count: &MeterFaultCount) -> Self {
        let fault: MeterFault = count.fault;
        Self {
            fault: fault.into(),
            events: count.events,
            last_at: shown(count.last_at),
            sample: text_of_bytes(&count.sample),
        }
    }
}

impl<'a> FigureRow<'a> {
    fn of(question: &Question, row: &'a MeterRow) -> Result<Self, Problem> {
        Ok(Self {
            start: shown(moment(row.start_us)),
            end: shown(moment(row.end_us)),
            subject: row.subject.as_deref(),
            groups: groups_of(question, row),
            events: row.events,
            value: number(row)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 14:20:05 UTC);

    fn read(query: &str) -> Result<(Question, Option<Format>), QuestionError> {
        super::read(query, NOW)
    }

    #[test]
    fn a_question_without_parameters_is_for_this_month_until_the_end_of_this_quarter() {
        let (question, format) = read("").unwrap();
        assert_eq!(question.period.from, datetime!(2026-11-01 0:00 UTC));
        assert_eq!(question.period.to, datetime!(2026-11-21 14:30 UTC));
        assert_eq!((question.limit, question.offset, format), (1_000, 0, None));
        let (in_tokyo, _) = read("timezone=Asia/Tokyo").unwrap();
        assert_eq!(in_tokyo.period.from, datetime!(2026-10-31 15:00 UTC));
    }

    #[test]
    fn a_date_is_the_start_of_a_day_in_the_zone_of_the_question() {
        let (question, _) =
            read("from=2026-10-01&to=2026-11-01&timezone=Europe/Berlin&window=month").unwrap();
        assert_eq!(question.period.from, datetime!(2026-09-30 22:00 UTC));
        assert_eq!(question.period.to, datetime!(2026-10-31 23:00 UTC));
        let (question, _) = read("from=2026-10-01T00:00:00+05:45&to=2026-11-01").unwrap();
        assert_eq!(question.period.from, datetime!(2026-09-30 18:15 UTC));
    }

    #[test]
    fn subjects_groups_and_filters_may_be_repeated() {
        let (question, format) = read(
            "subject=a+b&subject=c&group_by=model,subject&group_by=model&filter%5Bmodel%5D=x&filter[model]&format=csv",
        )
        .unwrap();
        assert_eq!(question.subjects, ["a b", "c"]);
        assert_eq!(question.group_by, ["model", "subject"]);
        let filters = [("model".to_owned(), Some("x".to_owned())), ("model".to_owned(), None)];
        assert_eq!((question.filters.as_slice(), format), (&filters[..], Some(Format::Csv)));
    }

    #[test]
    fn a_wrong_parameter_is_named_with_what_would_be_right() {
        for (query, name, text) in [
            ("from=2026-11-01T00:10:00Z", "from", "use 2026-11-01T00:00:00Z or 2026-11-01T00:15:00Z"),
            ("to=2026-11-02T00:00:01Z", "to", "at a quarter of an hour"),
            ("from=yesterday", "from", "RFC 3339"),
            ("from=2026-11-22", "from", "before the end"),
            ("from=2010-01-01", "from", "3660 days"),
            ("from=2025-01-01&window=hour", "from", "2000 windows"),
            ("from=2026-11-01&from=2026-11-01", "from", "given twice"),
            ("from=2026-11-19&window=minute", "from", "2000 windows"),
            ("window=week", "window", "minute, hour, day or month"),
            ("timezone=Berlin", "timezone", "Europe/Berlin"),
            ("limit=0", "limit", "from 1 to 10000"),
            ("limit=10001", "limit", "from 1 to 10000"),
            ("offset=-1", "offset", "from 0 to"),
            ("format=xml", "format", "json or csv"),
            ("groupBy=model", "query", "group_by"),
            ("filter=x", "query", "filter[GROUP]"),
        ] {
            let error = read(query).unwrap_err();
            assert_eq!(error.name(), name, "{query}: {error}");
            assert!(error.to_string().contains(text), "{query}: {error}");
        }
    }

    #[test]
    fn the_first_type_that_the_client_names_and_the_report_has_is_sent() {
        let format = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            accepted(&headers)
        };
        assert_eq!(format("text/csv"), Format::Csv);
        assert_eq!(format("text/html, Text/CSV;q=0.9, */*"), Format::Csv);
        assert_eq!(format("application/json, text/csv"), Format::Json);
        assert_eq!((format("*/*"), accepted(&HeaderMap::new())), (Format::Json, Format::Json));
    }
}
