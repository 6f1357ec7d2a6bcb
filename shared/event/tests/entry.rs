//! The formats of a row and of a stream entry: a written row or entry is read back equal, and damage is
//! detected.

use bytes::Bytes;
use millrace_event::EntryId;
use millrace_event::entry::{
    BATCHES_MAX, EntryBatch, NewBatch, PackedEntry, ROWS_BYTES_MAX, fields_of_version_1, id_of_damaged,
    pack_rows, size_shares, unpack_dead,
};
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, EventTime, Row};
use proptest::prelude::*;
use uuid::Uuid;

#[derive(Clone, Debug)]
struct OwnedRow {
    time: EventTime,
    event_id: Uuid,
    by_id: bool,
    name: String,
    subject: Option<String>,
    client_id: Option<String>,
    properties: Option<Vec<u8>>,
}

impl OwnedRow {
    fn write(&self, project: ProjectId, out: &mut Vec<u8>) {
        let row = Row {
            project,
            time: self.time,
            event_id: self.event_id,
            by_id: self.by_id,
            name: &self.name,
            subject: self.subject.as_deref(),
            client_id: self.client_id.as_deref(),
            properties: self.properties.as_deref(),
            context: None,
        };
        row.write(out);
    }
}

fn any_row() -> impl Strategy<Value = OwnedRow> {
    let time = prop_oneof![
        (-62_000_000_000_000_000_i64..253_402_300_800_000_000).prop_map(EventTime::At),
        Just(EventTime::Undated),
        Just(EventTime::Anonymous),
    ];
    let text = proptest::option::of("\\PC{0,20}");
    let json = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50));
    (time, (any::<[u8; 16]>(), any::<bool>()), "\\PC{1,20}", text.clone(), text, json).prop_map(
        |(time, (id, by_id), name, subject, client_id, properties)| OwnedRow {
            time,
            event_id: Uuid::from_bytes(id),
            by_id,
            name,
            subject,
            client_id,
            properties,
        },
    )
}

fn rows_of(project: ProjectId, rows: &[OwnedRow]) -> Vec<u8> {
    let mut bytes = Vec::new();
    rows.iter().for_each(|row| row.write(project, &mut bytes));
    bytes
}

fn as_read(fields: &[(&'static str, Bytes)]) -> Vec<(Bytes, Bytes)> {
    fields.iter().map(|(name, value)| (Bytes::from_static(name.as_bytes()), value.clone())).collect()
}

fn with_field(fields: &[(Bytes, Bytes)], name: &str, value: &[u8]) -> Vec<(Bytes, Bytes)> {
    let mut changed = fields.to_vec();
    changed
        .iter_mut()
        .filter(|(field, _)| field == name)
        .for_each(|(_, old)| *old = Bytes::copy_from_slice(value));
    changed
}

/// A batch as it was made: its project, its rows, and whether it is admitted.
#[derive(Clone, Debug)]
struct Made {
    project: ProjectId,
    rows: Vec<OwnedRow>,
    /// So many rows that they are compressed by themselves.
    is_large: bool,
    is_admitted: bool,
}

impl Made {
    fn bytes(&self) -> Vec<u8> {
        rows_of(self.project, &self.rows).repeat(self.repeats())
    }

    fn repeats(&self) -> usize {
        if self.is_large { 700 } else { 1 }
    }

    fn count(&self) -> u32 {
        (self.rows.len() * self.repeats()) as u32
    }

    fn batch(&self) -> NewBatch {
        NewBatch::new(Uuid::now_v7(), self.project, self.count(), self.bytes())
    }
}

fn any_batches() -> impl Strategy<Value = Vec<Made>> {
    let made =
        (0_i64..4, proptest::collection::vec(any_row(), 0..4), prop::bool::weighted(0.1), any::<bool>());
    let made = made.prop_map(|(project, rows, is_large, is_admitted)| Made {
        project: ProjectId(project),
        rows,
        is_large,
        is_admitted,
    });
    proptest::collection::vec(made, 1..12)
}

/// The entry of these batches. The stream does not append an entry of which it admits nothing.
fn entry_of(made: &[Made]) -> PackedEntry {
    let batches: Vec<_> = made.iter().map(Made::batch).collect();
    let mut entry = PackedEntry::pack(&batches);
    for (batch, made) in entry.batches.iter_mut().zip(made) {
        batch.is_admitted = made.is_admitted;
    }
    entry.batches[0].is_admitted = true;
    entry
}

/// The rows of the admitted batches, if the entry can be unpacked and all of them are whole.
fn unpacked(entry: &PackedEntry) -> Option<Vec<Bytes>> {
    let batches = entry.unpack().ok()?;
    batches.into_iter().map(|(batch, rows)| batch.check(&rows).ok().map(|()| rows)).collect()
}

proptest! {
    #[test]
    fn exactly_the_admitted_batches_of_an_entry_are_read_as_they_were_written(made in any_batches()) {
        let entry = entry_of(&made);
        let mut fields = as_read(&entry.fields());
        fields.insert(2, (Bytes::from_static(b"later"), Bytes::from_static(b"an unknown field")));
        let read = PackedEntry::from_fields(&fields).unwrap();
        prop_assert_eq!(&read, &entry);
        let expected: Vec<_> =
            made.iter().zip(&entry.batches).filter(|(_, batch)| batch.is_admitted).map(|(made, _)| made).collect();
        let rows: Vec<_> = expected.iter().map(|made| made.bytes()).collect();
        prop_assert_eq!(unpacked(&read).unwrap(), rows);
        let counts: Vec<_> = read.admitted().map(|batch| (batch.project, batch.count)).collect();
        prop_assert_eq!(counts, expected.iter().map(|made| (made.project, made.count())).collect::<Vec<_>>());
    }

    #[test]
    fn an_entry_of_version_1_is_read_as_one_batch(rows in proptest::collection::vec(any_row(), 0..20), project: i64) {
        let (project, batch_id) = (ProjectId(project), Uuid::now_v7());
        let (bytes, count) = (rows_of(project, &rows), rows.len() as u32);
        let read = PackedEntry::from_fields(&as_read(&fields_of_version_1(batch_id, project, count, &bytes))).unwrap();
        let rows_bytes = bytes.len() as u32;
        prop_assert_eq!(&read.batches, &[EntryBatch { batch_id, project, count, rows_bytes, is_admitted: true }]);
        prop_assert_eq!(unpacked(&read).unwrap(), [&bytes[..]]);
        prop_assert_eq!(unpack_dead(project, count, &pack_rows(&bytes)).unwrap(), bytes);
    }

    #[test]
    fn the_parts_of_an_entry_add_up_to_its_size(made in any_batches(), size: u32) {
        let entry = entry_of(&made);
        let shares = size_shares(&entry.batches, size);
        prop_assert_eq!(shares.len(), entry.admitted().count());
        prop_assert_eq!(shares.iter().map(|share| u64::from(*share)).sum::<u64>(), u64::from(size));
    }

    #[test]
    fn any_fields_can_be_read_and_unpacked(
        table in proptest::collection::vec(any::<u8>(), 0..200),
        admitted in "[01]{0,6}|.{0,6}",
        data in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let fields = [("v", b"2".to_vec()), ("a", admitted.into_bytes()), ("t", table), ("r", data)];
        let fields = fields.map(|(name, value)| (Bytes::from_static(name.as_bytes()), value.into()));
        if let Ok(entry) = PackedEntry::from_fields(&fields) {
            prop_assert!(entry.batches.len() <= BATCHES_MAX);
            prop_assert!(unpacked(&entry).is_none() || entry.events() == 0);
        }
    }

    #[test]
    fn rows_are_split_as_written_and_times_are_set_in_place(rows in proptest::collection::vec(any_row(), 1..20), received in 0_i64..4_000_000_000_000_000) {
        let bytes = rows_of(ProjectId(3), &rows);
        let found: Vec<_> = row::split(&bytes).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(found.len(), rows.len());
        for (found, written) in found.iter().zip(&rows) {
            prop_assert_eq!(row::project(found), ProjectId(3));
            prop_assert_eq!(row::event_id(found), written.event_id);
            prop_assert_eq!(row::time(found), written.time);
            let mut stamped = Vec::new();
            row::write_stamped(found, received, &mut stamped);
            prop_assert_eq!(stamped.len(), found.len());
            let expected = match written.time { EventTime::At(us) => us, _ => received };
            prop_assert_eq!(row::time(&stamped), EventTime::At(expected));
            prop_assert_eq!(row::key(found, received).timestamp_us, expected);
            prop_assert_eq!(&stamped[58..], &found[58..]);
        }
    }

    #[test]
    fn a_row_for_json_columns_differs_by_the_version_bytes_of_jsonb_only(row in any_row(), received in 0_i64..4_000_000_000_000_000) {
        let bytes = rows_of(ProjectId(3), &[row]);
        let (mut stamped, mut for_json) = (Vec::new(), Vec::new());
        row::write_stamped(&bytes, received, &mut stamped);
        row::write_stamped_for_json(&bytes, received, &mut for_json);
        let mut expected = stamped[..58].to_vec();
        for (index, field) in row::variable_fields(&stamped).into_iter().enumerate() {
            let field = field.map(|field| if index < 3 { field } else { &field[1..] });
            let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap());
            expected.extend_from_slice(&length.to_be_bytes());
            expected.extend_from_slice(field.unwrap_or_default());
        }
        prop_assert_eq!(for_json, expected);
    }

    #[test]
    fn damage_is_reported_and_never_panics(
        made in any_batches(),
        field in 0_usize..3,
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let entry = entry_of(&made);
        let (name, value) = entry.fields()[1 + field].clone();
        let mut changed = value.to_vec();
        let index = at.index(changed.len());
        changed[index] ^= flip;
        let fields = with_field(&as_read(&entry.fields()), name, &changed);
        match PackedEntry::from_fields(&fields) {
            Err(damage) => {
                prop_assert!(name != "r", "only batches are read from the fields");
                let kept = damage.raw.windows(changed.len()).any(|part| part == changed);
                prop_assert!(kept, "the bytes of every field are kept");
            }
            // An id, a count or a mark can be another one. The rows are never others.
            Ok(damaged) => if let (Some(found), "r") = (unpacked(&damaged), name) {
                prop_assert_eq!(found, unpacked(&entry).unwrap(), "the checksum did not detect a change");
            },
        }
        let (project, rows) = (made[0].project, made[0].bytes());
        let data = pack_rows(&rows);
        prop_assert!(unpack_dead(project, made[0].count() + 1, &data).is_err());
        prop_assert!(rows.is_empty() || unpack_dead(ProjectId(9), made[0].count(), &data).is_err());
    }

    #[test]
    fn any_bytes_can_be_split(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(row::split(&bytes).filter(Result::is_err).count() <= 1);
    }
}

#[test]
fn an_entry_of_version_1_with_a_missing_field_reports_the_readable_fields() {
    let fields = as_read(&fields_of_version_1(Uuid::now_v7(), ProjectId(9), 0, b""));
    for (index, name) in ["v", "b", "p", "n", "u", "d"].iter().enumerate() {
        let mut fewer = fields.clone();
        fewer.remove(index);
        let damage = PackedEntry::from_fields(&fewer).unwrap_err();
        assert_eq!(damage.project.is_none(), *name == "p");
        assert_eq!(damage.batch_id.is_none(), *name == "b");
    }
    let damage = PackedEntry::from_fields(&with_field(&fields, "n", b"4294967295")).unwrap_err();
    assert_eq!(damage.count, None, "no entry has room for that many events");
    let damage = PackedEntry::from_fields(&with_field(&fields, "v", b"3")).unwrap_err();
    assert_eq!((damage.project, damage.count, damage.raw), (Some(ProjectId(9)), Some(0), pack_rows(b"")));
    assert!(damage.reason.contains("version"), "{}", damage.reason);
    assert_ne!(id_of_damaged(0, EntryId { ms: 1, seq: 2 }), id_of_damaged(1, EntryId { ms: 1, seq: 2 }));
}

#[test]
fn an_entry_whose_batches_cannot_be_told_keeps_all_of_its_fields() {
    let batch = NewBatch::new(Uuid::now_v7(), ProjectId(9), 0, Vec::new());
    let entry = PackedEntry::pack([&batch; 2]);
    let fields = as_read(&entry.fields());
    let table = entry.table();
    let mut too_many_rows = table.clone();
    too_many_rows[28..32].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut too_many_events = table.clone();
    too_many_events[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
    let damaged = [
        ("a", &b"1"[..], "each was admitted"),
        ("a", b"1x", "each was admitted"),
        ("a", b"00", "no batch"),
        ("t", b"", "table of 0 bytes"),
        ("t", &table[1..], "table of 63 bytes"),
        ("t", &table.repeat(BATCHES_MAX / 2 + 1), "table of 2112 bytes"),
        ("t", &too_many_rows, "over the limit"),
        ("t", &too_many_events, "more than"),
        ("v", b"3", "unsupported entry version"),
    ];
    for (name, value, reason) in damaged {
        let fields = with_field(&fields, name, value);
        let damage = PackedEntry::from_fields(&fields).unwrap_err();
        assert!(damage.reason.contains(reason), "{name}: {}", damage.reason);
        assert_eq!((damage.batch_id, damage.project, damage.count), (None, None, None));
        let all: Vec<u8> =
            fields.iter().flat_map(|(name, value)| [&name[..], b"=", value, b"\n"].concat()).collect();
        assert_eq!(damage.raw, all);
    }
    for at in 1..4 {
        let mut fewer = fields.clone();
        fewer.remove(at);
        assert!(PackedEntry::from_fields(&fewer).unwrap_err().reason.contains("missing"));
    }
    assert_eq!(
        entry.raw(),
        fields.iter().flat_map(|(n, v)| [&n[..], b"=", v, b"\n"].concat()).collect::<Vec<_>>()
    );
}

/// As the dead letters of a program that knows only version 1 have it.
#[test]
fn no_field_of_version_2_is_one_of_version_1() {
    let names = |fields: &[(&'static str, Bytes)]| fields.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let batch = NewBatch::new(Uuid::now_v7(), ProjectId(9), 0, Vec::new());
    let (old, new) =
        (fields_of_version_1(Uuid::nil(), ProjectId(1), 0, b""), PackedEntry::pack([&batch]).fields());
    let new = names(&new);
    assert_eq!(names(&old).into_iter().filter(|name| new.contains(name)).collect::<Vec<_>>(), ["v"]);
}

#[test]
fn batches_that_share_a_frame_take_less_than_alone() {
    let rows = |number: u32| {
        let mut rows = Vec::new();
        for event in 0..10 {
            let properties = format!(r#"{{"path":"/orders/{number}","items":{event},"currency":"EUR"}}"#);
            Row {
                project: ProjectId(1),
                time: EventTime::At(1_795_000_000_000_000 + i64::from(event)),
                event_id: Uuid::new_v4(),
                by_id: false,
                name: "order_completed",
                subject: None,
                client_id: None,
                properties: Some(properties.as_bytes()),
                context: None,
            }
            .write(&mut rows);
        }
        rows
    };
    let batches: Vec<_> =
        (0..64).map(|number| NewBatch::new(Uuid::now_v7(), ProjectId(1), 10, rows(number))).collect();
    let alone: usize = batches.iter().map(|batch| PackedEntry::pack([batch]).data.len()).sum();
    let together = PackedEntry::pack(&batches).data.len();
    assert!(together * 4 < alone * 3, "{together} and {alone} bytes");
}

#[test]
fn a_decompression_bomb_is_reported_as_damage() {
    let bomb: Bytes = zstd::bulk::compress(&vec![0_u8; 50 << 20], 3).unwrap().into();
    let batch = NewBatch::new(Uuid::nil(), ProjectId(1), 1, vec![0; 100]);
    let mut packed = PackedEntry { data: bomb, ..PackedEntry::pack([&batch]) };
    assert!(packed.unpack().is_err());
    packed.batches[0].rows_bytes = u32::MAX;
    assert!(packed.unpack().unwrap_err().contains("over the limit"));
    let larger = zstd::bulk::compress(&vec![0_u8; ROWS_BYTES_MAX + 1], 3).unwrap();
    let complaint = unpack_dead(ProjectId(1), 1, &larger).unwrap_err();
    assert!(complaint.contains("over"), "{complaint}");
}
