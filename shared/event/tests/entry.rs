//! The formats of a row and of a stream entry: a written row or entry is read back equal, and damage is
//! detected.

use bytes::Bytes;
use millrace_event::EntryId;
use millrace_event::entry::{PackedBatch, ROWS_BYTES_MAX, id_of_damaged, unpack_dead};
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

fn fields_of(packed: &PackedBatch) -> Vec<(Bytes, Bytes)> {
    packed.fields().map(|(name, value)| (Bytes::from_static(name.as_bytes()), value)).to_vec()
}

proptest! {
    #[test]
    fn an_entry_is_read_as_it_was_written(rows in proptest::collection::vec(any_row(), 0..20), project: i64) {
        let project = ProjectId(project);
        let bytes = rows_of(project, &rows);
        let packed = PackedBatch::pack(Uuid::now_v7(), project, rows.len() as u32, &bytes);
        let mut fields = fields_of(&packed);
        fields.insert(2, (Bytes::from_static(b"later"), Bytes::from_static(b"an unknown field")));
        let read = PackedBatch::from_fields(&fields).unwrap();
        prop_assert_eq!(&read, &packed);
        prop_assert_eq!(read.unpack().unwrap(), &bytes);
        prop_assert_eq!(unpack_dead(project, packed.count, &packed.data).unwrap(), bytes);
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
        rows in proptest::collection::vec(any_row(), 1..8),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let bytes = rows_of(ProjectId(3), &rows);
        let packed = PackedBatch::pack(Uuid::now_v7(), ProjectId(3), rows.len() as u32, &bytes);
        let mut data = packed.data.to_vec();
        let index = at.index(data.len());
        data[index] ^= flip;
        let damaged = PackedBatch { data: data.into(), ..packed.clone() };
        if let Ok(unpacked) = damaged.unpack() {
            prop_assert_eq!(&unpacked, &bytes, "the checksum did not detect a change");
        }
        if let Ok(unpacked) = unpack_dead(damaged.project, damaged.count, &damaged.data) {
            prop_assert_eq!(unpacked, bytes, "the checksum did not detect a change");
        }
        let miscounted = PackedBatch { count: packed.count + 1, ..packed.clone() };
        let foreign = PackedBatch { project: ProjectId(4), ..packed };
        for wrong in [miscounted, foreign] {
            prop_assert!(wrong.unpack().is_err());
            prop_assert!(unpack_dead(wrong.project, wrong.count, &wrong.data).is_err());
        }
    }

    #[test]
    fn any_bytes_can_be_split(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(row::split(&bytes).filter(Result::is_err).count() <= 1);
    }
}

#[test]
fn an_entry_with_an_unknown_version_or_a_missing_field_reports_the_readable_fields() {
    let packed = PackedBatch::pack(Uuid::now_v7(), ProjectId(9), 0, b"");
    let fields = fields_of(&packed);
    for (index, name) in ["v", "b", "p", "n", "u", "d"].iter().enumerate() {
        let mut fewer = fields.clone();
        fewer.remove(index);
        let damage = PackedBatch::from_fields(&fewer).unwrap_err();
        assert_eq!(damage.project.is_none(), *name == "p");
        assert_eq!(damage.batch_id.is_none(), *name == "b");
    }
    let mut absurd = fields.clone();
    absurd[3].1 = Bytes::from_static(b"4294967295");
    assert_eq!(
        PackedBatch::from_fields(&absurd).unwrap_err().count,
        None,
        "no entry has room for that many events"
    );
    let mut newer = fields;
    newer[0].1 = Bytes::from_static(b"2");
    let damage = PackedBatch::from_fields(&newer).unwrap_err();
    assert_eq!((damage.project, damage.count, damage.raw), (Some(ProjectId(9)), Some(0), packed.data));
    assert!(damage.reason.contains("version"), "{}", damage.reason);
    assert_ne!(id_of_damaged(0, EntryId { ms: 1, seq: 2 }), id_of_damaged(1, EntryId { ms: 1, seq: 2 }));
}

/// PostgreSQL would report these as internal errors, and the worker would retry them indefinitely.
#[test]
fn rows_with_an_unknown_json_version_or_an_invalid_time_are_malformed() {
    let row = Row {
        project: ProjectId(1),
        time: EventTime::At(1_795_000_000_000_000),
        event_id: Uuid::new_v4(),
        by_id: false,
        name: "a",
        subject: None,
        client_id: None,
        properties: None,
        context: Some(b"{}"),
    };
    let mut good = Vec::new();
    row.write(&mut good);
    let is_row = |bytes: &[u8]| row::split(bytes).all(|row| row.is_ok());
    assert!(is_row(&good));
    let version_at = good.len() - 3;
    let mut newer = good.clone();
    newer[version_at] = 2;
    assert!(!is_row(&newer), "another version of jsonb");
    let mut empty = good[..version_at].to_vec();
    empty[version_at - 4..].copy_from_slice(&0_i32.to_be_bytes());
    assert!(!is_row(&empty), "jsonb without a version");
    for no_time in [i64::MIN + 1, -211_813_488_000_000_001, i64::MAX - 2] {
        let mut timeless = good.clone();
        timeless[18..26].copy_from_slice(&no_time.to_be_bytes());
        assert!(!is_row(&timeless), "{no_time} is not a time");
    }
}

#[test]
fn a_decompression_bomb_is_reported_as_damage() {
    let bomb = zstd::bulk::compress(&vec![0_u8; 50 << 20], 3).unwrap();
    let packed = PackedBatch {
        batch_id: Uuid::nil(),
        project: ProjectId(1),
        count: 1,
        rows_bytes: 100,
        data: bomb.into(),
    };
    assert!(packed.unpack().is_err());
    assert!(PackedBatch { rows_bytes: u32::MAX, ..packed }.unpack().is_err());
    let larger = zstd::bulk::compress(&vec![0_u8; ROWS_BYTES_MAX + 1], 3).unwrap();
    let complaint = unpack_dead(ProjectId(1), 1, &larger).unwrap_err();
    assert!(complaint.contains("over"), "{complaint}");
}
