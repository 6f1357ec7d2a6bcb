//! The id of an entry as one integer, so that it can be the row id. Entries are then in the table in the
//! order in which they were admitted: they are appended at its end and deleted at its beginning.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};

use crate::EntryId;

/// The 43 bits above these are milliseconds since 1970, enough until the year 2248. There are only a million
/// entries in one millisecond while the stream's clock stands still, because the clock of the machine was set
/// back. The next entry then counts as received a millisecond later.
const SEQ_BITS: u32 = 20;

/// The position of an entry. The default is before all entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(super) struct Position(i64);

impl Position {
    /// The first position of a millisecond.
    pub(super) const fn at_ms(ms: u64) -> Self {
        Self((ms << SEQ_BITS).cast_signed())
    }

    /// `None` when no entry can have this id.
    pub(super) const fn of(id: EntryId) -> Option<Self> {
        if id.seq >> SEQ_BITS == 0 && id.ms >> (63 - SEQ_BITS) == 0 {
            Some(Self((id.ms << SEQ_BITS | id.seq).cast_signed()))
        } else {
            None
        }
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// When the entry was received, in milliseconds since 1970.
    pub(super) const fn ms(self) -> u64 {
        self.0.cast_unsigned() >> SEQ_BITS
    }

    pub(super) const fn id(self) -> EntryId {
        EntryId { ms: self.ms(), seq: self.0.cast_unsigned() & ((1 << SEQ_BITS) - 1) }
    }
}

impl ToSql for Position {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for Position {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_keeps_the_id_and_the_order_of_its_entry() {
        let id = EntryId { ms: 1_790_000_000_000, seq: 1_048_575 };
        let last = Position::of(id).unwrap();
        assert_eq!(last.id(), id);
        assert!(Position::at_ms(id.ms) < last);
        assert_eq!(last.next().id(), EntryId { ms: id.ms + 1, seq: 0 });
    }

    #[test]
    fn an_id_that_no_entry_can_have_has_no_position() {
        assert_eq!(Position::of(EntryId { ms: 1, seq: 1 << SEQ_BITS }), None);
        assert_eq!(Position::of(EntryId { ms: u64::MAX, seq: 0 }), None);
    }
}
