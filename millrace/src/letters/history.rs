//! `millrace dead-letters history`

use millrace_event::printable::printable;
use millrace_store::{RedriveRecord, Store};
use serde_json::{Value, json};

use super::redrive::put_counts;

use crate::failure::Failure;
use crate::moment::shown;
use crate::output::{Output, cut_table, grouped};

pub(super) async fn run(store: &dyn Store, output: &Output, limit: u32) -> Result<(), Failure> {
    let records = store.redrives(limit).await?;
    let json = json!({ "redrives": records.iter().map(as_json).collect::<Vec<_>>() });
    output.print(&text(&records), &json)
}

fn text(records: &[RedriveRecord]) -> String {
    if records.is_empty() {
        return "There was no redrive.".to_owned();
    }
    let row = |record: &RedriveRecord| {
        let counts = record.redriven;
        let operator = format!("{}@{}", record.order.os_user, record.order.host);
        let mut row = vec![shown(record.started_at), printable(&operator)];
        let counts = [counts.letters, counts.stored, counts.duplicate, counts.refused];
        row.extend(counts.map(|count| grouped(count.into())));
        row.push(printable(&record.order.filter));
        row
    };
    let head = ["started", "by", "letters", "stored", "duplicate", "refused", "filter"];
    cut_table(&head, &records.iter().map(row).collect::<Vec<_>>())
}

fn as_json(record: &RedriveRecord) -> Value {
    let mut value = json!({
        "redrive_id": record.order.id,
        "started_at": shown(record.started_at),
        "os_user": record.order.os_user,
        "host": record.order.host,
        "filter": record.order.filter,
    });
    put_counts(&mut value, record.redriven);
    value
}
