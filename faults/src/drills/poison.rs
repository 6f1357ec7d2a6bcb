//! Bad data: events that the API must refuse, rows that PostgreSQL refuses, and damaged entries. None has a
//! number in its properties, so that the oracle does not take it for one of its events.

use bytes::Bytes;
use millrace_event::entry::{NewBatch, PackedEntry, fields_of_version_1};
use millrace_event::plan::ProjectId;
use millrace_event::row::{EventTime, Row};
use testkit::oracle::{Event, EventKind};
use uuid::Uuid;

/// Offset of the timestamp in a row, from the table in `shared/event/src/row.rs`.
const TIMESTAMP_AT: usize = 18;
/// A time that PostgreSQL accepts.
const SOME_TIME_US: i64 = 1_795_000_000_000_000;
/// More levels of nesting than the stack of PostgreSQL allows.
const LEVELS: usize = 100_000;

/// Events that the API must refuse, each with its defect.
pub(super) fn hostile_events() -> Vec<(&'static str, Vec<u8>)> {
    let properties = |json: &str| format!(r#"{{"name":"hostile","properties":{{"x":{json}}}}}"#).into_bytes();
    vec![
        ("a lone surrogate", properties(r#""\ud800""#)),
        ("surrogates in the wrong order", properties(r#""\udc00\ud800""#)),
        ("a number with a huge exponent", properties("1e400000")),
        ("a number that only PostgreSQL can hold", properties("1e131071")),
        ("10,000 digits", properties(&"9".repeat(10_000))),
        ("NaN", properties("NaN")),
        ("10,000 levels of nesting", properties(&(r#"{"a":"#.repeat(10_000) + "1" + &"}".repeat(10_000)))),
        ("bad UTF-8", b"{\"name\":\"a\xff\xfe\"}".to_vec()),
        ("overlong UTF-8", b"{\"name\":\"\xc0\xaf\"}".to_vec()),
        ("a raw U+0000", b"{\"name\":\"a\0b\"}".to_vec()),
        ("half an object", br#"{"name":"a""#.to_vec()),
        ("no name", b"{}".to_vec()),
        ("an empty name", br#"{"name":""}"#.to_vec()),
        ("a name of 1 MB", format!(r#"{{"name":"{}"}}"#, "n".repeat(1 << 20)).into_bytes()),
        ("an impossible date", br#"{"name":"a","timestamp":"2026-02-30T00:00:00Z"}"#.to_vec()),
        ("properties that are a list", br#"{"name":"a","properties":[1,2]}"#.to_vec()),
        ("no event", b"null".to_vec()),
    ]
}

/// The row of an event of the oracle, as the API writes it.
pub(super) fn good_row(project: ProjectId, event: &Event) -> Vec<u8> {
    let (properties, context) =
        (event.properties.to_string(), event.context.as_ref().map(ToString::to_string));
    let time = match (event.time_us, event.kind) {
        (Some(us), _) => EventTime::At(us),
        (None, EventKind::Anonymous) => EventTime::Anonymous,
        (None, _) => EventTime::Undated,
    };
    let row = Row {
        project,
        time,
        // For other ids and without one, the API derives a UUID. Any UUID works here.
        event_id: event.uuid.unwrap_or_else(Uuid::new_v4),
        by_id: false,
        name: &event.name,
        subject: event.subject.as_deref(),
        client_id: event.id.as_deref().filter(|_| event.uuid.is_none()),
        properties: Some(properties.as_bytes()),
        context: context.as_deref().map(str::as_bytes),
    };
    written(&row)
}

/// Rows in the correct format that PostgreSQL refuses, each for another reason.
pub(super) fn rows(project: ProjectId) -> Vec<Vec<u8>> {
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(LEVELS), "]".repeat(LEVELS));
    let json: [&[u8]; 8] = [
        br#"{"a":"\u0000"}"#,
        br#"{"a":"\ud800"}"#,
        b"{",
        b"",
        br#"{"a":1e400000}"#,
        b"{\"a\":\"\xff\xfe\"}",
        b"{\"a\":\"\0\"}",
        deep.as_bytes(),
    ];
    let mut rows: Vec<_> =
        json.iter().map(|json| written(&Row { properties: Some(json), ..plain(project) })).collect();
    rows.push(written(&Row { name: "a\0b", ..plain(project) }));
    rows.push(written(&Row { subject: Some("\0"), ..plain(project) }));
    rows
}

/// A row with this timestamp in the format of PostgreSQL.
fn at_time(project: ProjectId, wire: i64) -> Vec<u8> {
    let mut row = written(&plain(project));
    row[TIMESTAMP_AT..TIMESTAMP_AT + 8].copy_from_slice(&wire.to_be_bytes());
    row
}

/// An entry that cannot be read.
pub(super) struct Damaged {
    pub(super) fields: Vec<(&'static str, Bytes)>,
    /// Number of events in it; 1 when that is unknown.
    pub(super) dead: u64,
    /// Whether its project can be read.
    pub(super) is_owned: bool,
}

/// Events in an entry before it was damaged.
const COUNT: u32 = 3;

/// Entries that cannot be read, each for another reason.
pub(super) fn damaged_entries(project: ProjectId) -> Vec<Damaged> {
    // Alternately, because a drill takes as many as it has time for.
    let (mut groups, mut singles) =
        (damaged_groups(project).into_iter(), damaged_singles(project).into_iter());
    let mut all = Vec::new();
    loop {
        match (groups.next(), singles.next()) {
            (None, None) => return all,
            (group, single) => all.extend(group.into_iter().chain(single)),
        }
    }
}

/// Damages the value of a field.
type Damage = fn(&mut Vec<u8>);

/// Entries of version 2, with two batches each.
fn damaged_groups(project: ProjectId) -> Vec<Damaged> {
    let rows = written(&plain(project)).repeat(COUNT as usize);
    let of_rows = |second: &[u8]| {
        let batch = |rows: &[u8]| NewBatch::new(Uuid::now_v7(), project, COUNT, rows.to_vec());
        PackedEntry::pack(&[batch(&rows), batch(second)])
    };
    let with = |name: &str, change: Damage| {
        let mut fields = of_rows(&rows).fields().to_vec();
        let (_, value) =
            fields.iter_mut().find(|(field, _)| *field == name).expect("an entry has every field");
        let mut changed = value.to_vec();
        change(&mut changed);
        *value = changed.into();
        fields
    };
    let without =
        |name: &str| of_rows(&rows).fields().into_iter().filter(|(field, _)| *field != name).collect();
    // The rows of every batch are lost with the whole.
    let torn: [Damage; 3] =
        [|rows| rows.truncate(rows.len() / 2), |rows| rows[20] ^= 0x10, |rows| rows.clear()];
    let torn =
        torn.map(|change| Damaged { fields: with("r", change), dead: 2 * u64::from(COUNT), is_owned: true });
    // The batches are not known.
    let unknown: [(&str, Damage); 5] = [
        ("a", |marks| marks.truncate(1)),
        ("a", |marks| marks.fill(b'0')),
        ("t", |table| table.truncate(33)),
        ("t", |table| table[28] = 0xFF),
        ("v", |version| *version = b"99".to_vec()),
    ];
    let unknown = unknown.map(|(name, change)| with(name, change));
    let unknown = unknown.into_iter().chain(["a", "t", "r"].map(without));
    let unknown = unknown.map(|fields| Damaged { fields, dead: 1, is_owned: false });
    torn.into_iter().chain(unknown).collect()
}

/// Entries of version 1, with one batch each, and what is no entry at all.
fn damaged_singles(project: ProjectId) -> Vec<Damaged> {
    let rows = written(&plain(project)).repeat(COUNT as usize);
    let packed = |rows: &[u8]| fields_of_version_1(Uuid::now_v7(), project, COUNT, rows).to_vec();
    let whole = || packed(&rows);
    let with = |name: &str, value: &[u8]| {
        let mut fields = whole();
        let field =
            fields.iter_mut().find(|(field, _)| *field == name).expect("a whole entry has every field");
        field.1 = Bytes::copy_from_slice(value);
        fields
    };
    let without = |name: &str| whole().into_iter().filter(|(field, _)| *field != name).collect();
    let data = whole().pop().expect("data is the last field").1;
    let mut flipped = data.to_vec();
    flipped[data.len() / 2] ^= 0x10;
    let foreign = written(&plain(ProjectId(project.0 + 1)));
    // Before the first time that PostgreSQL accepts, and after the last one. The two largest numbers have a
    // meaning of their own.
    let [early, late] = [-300_000_000_000_000_000, i64::MAX - 2].map(|time| at_time(project, time));
    let owned = [
        with("v", b"99"),
        without("v"),
        without("d"),
        with("b", b"no batch id"),
        with("u", b"1"),
        with("u", b"4000000000"),
        with("d", &data[..data.len() / 2]),
        with("d", &flipped),
        with("d", b""),
        with("d", b"these are no rows"),
        packed(b"neither are these"),
        packed(&[&rows[..rows.len() / 3 * 2], &foreign].concat()),
        packed(&[&rows[..rows.len() / 3 * 2], &early].concat()),
        packed(&[&rows[..rows.len() / 3 * 2], &late].concat()),
        packed(&json_of_another_format(project, &[2, b'{', b'}'])),
        packed(&json_of_another_format(project, &[])),
    ];
    let owned = owned.map(|fields| Damaged { fields, dead: u64::from(COUNT), is_owned: true });
    let miscounted = Damaged { fields: with("n", b"4"), dead: 4, is_owned: true };
    let uncounted = [with("n", b"4000000000"), with("n", b"three"), without("n")];
    let uncounted = uncounted.map(|fields| Damaged { fields, dead: 1, is_owned: true });
    let without_project = [without("p"), with("p", b"unknown")];
    let without_project =
        without_project.map(|fields| Damaged { fields, dead: u64::from(COUNT), is_owned: false });
    let stray = Damaged { fields: vec![("x", Bytes::from_static(b"y"))], dead: 1, is_owned: false };
    owned.into_iter().chain([miscounted]).chain(uncounted).chain(without_project).chain([stray]).collect()
}

/// The rows of an entry, the last with these bytes as its properties.
fn json_of_another_format(project: ProjectId, properties: &[u8]) -> Vec<u8> {
    let row = written(&plain(project));
    let mut last = written(&Row { properties: None, ..plain(project) });
    // Properties and context are the last two fields, and both are NULL.
    last.truncate(last.len() - 8);
    let length = i32::try_from(properties.len()).expect("the properties are short");
    last.extend_from_slice(&length.to_be_bytes());
    last.extend_from_slice(properties);
    last.extend_from_slice(&(-1_i32).to_be_bytes());
    [row.repeat(COUNT as usize - 1), last].concat()
}

fn plain(project: ProjectId) -> Row<'static> {
    Row {
        time: EventTime::At(SOME_TIME_US),
        properties: Some(b"{}"),
        ..Row::bare(project, Uuid::new_v4(), "poison")
    }
}

fn written(row: &Row<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    row.write(&mut bytes);
    bytes
}
