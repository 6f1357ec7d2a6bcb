//! The fields of an entry: how version 2 is written, and how both versions are read.

use bytes::Bytes;
use uuid::Uuid;

use super::bounds::{BATCHES_MAX, EVENTS_MAX, ROWS_BYTES_MAX};
use super::damage::Damage;
use super::frame::pack_rows;
use super::packed_entry::{EntryBatch, PackedEntry};
use crate::event::BatchId;
use crate::limit::decode_charges;
use crate::plan::ProjectId;

/// The version that this build writes. It also reads version 1.
pub const VERSION: &str = "2";
/// The version of release 0.1.
const VERSION_1: &[u8] = b"1";
/// The characters of the field `a`.
const ADMITTED: u8 = b'1';
const NOT_ADMITTED: u8 = b'0';
/// Bytes of a batch in the field `t`.
const TABLE_ROW_BYTES: usize = 32;
/// Where the parts of a row of the table begin; the first is the batch id.
const PROJECT_AT: usize = 16;
const COUNT_AT: usize = 24;
const ROWS_BYTES_AT: usize = 28;

impl PackedEntry {
    /// The field `t`.
    pub fn table(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(self.batches.len() * TABLE_ROW_BYTES);
        for batch in &self.batches {
            table.extend_from_slice(batch.batch_id.as_bytes());
            table.extend_from_slice(&batch.project.0.to_be_bytes());
            table.extend_from_slice(&batch.count.to_be_bytes());
            table.extend_from_slice(&batch.rows_bytes.to_be_bytes());
        }
        table
    }

    /// The fields of the entry, in the order in which they are written.
    pub fn fields(&self) -> [(&'static str, Bytes); 4] {
        let admitted =
            self.batches.iter().map(|batch| if batch.is_admitted { ADMITTED } else { NOT_ADMITTED });
        [
            ("v", Bytes::from_static(VERSION.as_bytes())),
            ("a", admitted.collect()),
            ("t", self.table().into()),
            ("r", self.data.clone()),
        ]
    }

    /// All fields, as they are in a dead letter: each as `name=value`, followed by a line feed.
    pub fn raw(&self) -> Bytes {
        raw(self.fields().iter().map(|(name, value)| (name.as_bytes(), value)))
    }

    /// Reads the fields of an entry, and ignores unknown ones.
    ///
    /// # Errors
    /// [`Damage`] when the version is unknown, or a field is missing or malformed.
    pub fn from_fields(fields: &[(Bytes, Bytes)]) -> Result<Self, Damage> {
        let fields = Fields(fields);
        match fields.find("v").map(|version| &version[..]) {
            Some(VERSION_1) => fields.version_1(),
            Some(version) if version == VERSION.as_bytes() => fields.version_2(),
            Some(version) => {
                let shown = String::from_utf8_lossy(&version[..version.len().min(20)]);
                Err(fields.damage(format!("unsupported entry version {shown:?}, expected {VERSION:?}")))
            }
            None => Err(fields.damage("missing field v".to_owned())),
        }
    }
}

/// The batches of an entry of version 2, from its fields `t` and `a`. Without `a`, all of them were admitted.
///
/// # Errors
/// What is wrong, for operators.
pub fn batches_of_table(table: &[u8], admitted: Option<&[u8]>) -> Result<Vec<EntryBatch>, String> {
    let (rows, rest) = table.as_chunks::<TABLE_ROW_BYTES>();
    if rows.is_empty() || rows.len() > BATCHES_MAX || !rest.is_empty() {
        return Err(format!("a table of {} bytes is not one of 1 to {BATCHES_MAX} batches", table.len()));
    }
    let admitted = admitted.unwrap_or(&[ADMITTED; BATCHES_MAX][..rows.len()]);
    if admitted.len() != rows.len() || admitted.iter().any(|mark| !matches!(*mark, ADMITTED | NOT_ADMITTED)) {
        return Err(format!("field a does not say of {} batches whether each was admitted", rows.len()));
    }
    if !admitted.contains(&ADMITTED) {
        return Err("no batch of the entry was admitted".to_owned());
    }
    let marked = rows.iter().zip(admitted);
    let batches: Vec<_> = marked.map(|(row, mark)| table_row(row, *mark == ADMITTED)).collect();
    let rows_bytes: u64 = batches.iter().map(|batch| u64::from(batch.rows_bytes)).sum();
    if rows_bytes > ROWS_BYTES_MAX as u64 {
        return Err(format!("{rows_bytes} bytes of rows are over the limit of {ROWS_BYTES_MAX}"));
    }
    if batches.iter().any(|batch| batch.count > EVENTS_MAX) {
        return Err(format!("a batch has more than {EVENTS_MAX} events"));
    }
    Ok(batches)
}

fn table_row(row: &[u8; TABLE_ROW_BYTES], is_admitted: bool) -> EntryBatch {
    fn part<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
        row[at..at + N].try_into().expect("a row has all parts")
    }
    EntryBatch {
        batch_id: Uuid::from_bytes(part(row, 0)),
        project: ProjectId(i64::from_be_bytes(part(row, PROJECT_AT))),
        count: u32::from_be_bytes(part(row, COUNT_AT)),
        rows_bytes: u32::from_be_bytes(part(row, ROWS_BYTES_AT)),
        is_admitted,
    }
}

/// The fields of an entry of version 1, as release 0.1 writes them. For those who must produce what this
/// build only reads.
pub fn fields_of_version_1(
    batch_id: BatchId,
    project: ProjectId,
    count: u32,
    rows: &[u8],
) -> [(&'static str, Bytes); 6] {
    [
        ("v", Bytes::from_static(VERSION_1)),
        ("b", Bytes::copy_from_slice(batch_id.as_bytes())),
        ("p", project.to_string().into()),
        ("n", count.to_string().into()),
        ("u", rows.len().to_string().into()),
        ("d", pack_rows(rows)),
    ]
}

/// The fields of an entry as they were read.
struct Fields<'a>(&'a [(Bytes, Bytes)]);

impl Fields<'_> {
    fn find(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        std::str::from_utf8(self.find(name)?).ok()?.parse().ok()
    }

    fn version_1(&self) -> Result<PackedEntry, Damage> {
        let (batch_id, project, count) = self.named();
        let rows_bytes = self.number::<u32>("u");
        match (batch_id, project, count, rows_bytes, self.find("d")) {
            (Some(batch_id), Some(project), Some(count), Some(rows_bytes), Some(data)) => {
                let batch = EntryBatch { batch_id, project, count, rows_bytes, is_admitted: true };
                Ok(PackedEntry { batches: vec![batch], data: data.clone(), charges: Vec::new() })
            }
            _ => Err(self.damage("one of the fields b, p, n, u, d is missing or malformed".to_owned())),
        }
    }

    fn version_2(&self) -> Result<PackedEntry, Damage> {
        let (Some(admitted), Some(table), Some(data)) = (self.find("a"), self.find("t"), self.find("r"))
        else {
            return Err(self.damage("one of the fields a, t, r is missing".to_owned()));
        };
        let batches = batches_of_table(table, Some(admitted)).map_err(|reason| self.damage(reason))?;
        let charges = match self.find("l") {
            Some(charges) => decode_charges(charges, batches.len()).map_err(|reason| self.damage(reason))?,
            None => Vec::new(),
        };
        Ok(PackedEntry { batches, data: data.clone(), charges })
    }

    /// The batch id, project and count of version 1.
    fn named(&self) -> (Option<Uuid>, Option<ProjectId>, Option<u32>) {
        let batch_id = self.find("b").and_then(|value| Uuid::from_slice(value).ok());
        let count = self.number::<u32>("n").filter(|count| *count <= EVENTS_MAX);
        (batch_id, self.number("p").map(ProjectId), count)
    }

    fn damage(&self, reason: String) -> Damage {
        let (batch_id, project, count) = self.named();
        let all = || raw(self.0.iter().map(|(name, value)| (&name[..], value)));
        Damage { reason, batch_id, project, count, raw: self.find("d").cloned().unwrap_or_else(all) }
    }
}

fn raw<'a>(fields: impl Iterator<Item = (&'a [u8], &'a Bytes)>) -> Bytes {
    let mut all = Vec::new();
    for (name, value) in fields {
        all.extend_from_slice(name);
        all.push(b'=');
        all.extend_from_slice(value);
        all.push(b'\n');
    }
    all.into()
}
