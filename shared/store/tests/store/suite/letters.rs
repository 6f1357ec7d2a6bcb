//! Promises about reading dead letters.

use millrace_store::{LetterFilter, LetterPayload, StoreError};
use time::OffsetDateTime;

use super::*;

/// A request whose whole entry goes to the dead letters.
pub fn dead_entry(project: ProjectId, seq: u64, count: u32, reason: &str, raw: &[u8]) -> WriteRequest {
    let payload = Payload::DeadLetter { reason: reason.to_owned(), raw: raw.to_vec().into() };
    WriteRequest { count, payload, ..request(project, new_batch_id(), entry(now_ms(), seq), &[]) }
}

pub async fn every_filter_finds_its_dead_letters(harness: &dyn Harness) {
    let store = harness.store();
    let (shop, other) = (project(&store, "shop").await, project(&store, "other").await);
    let requests = [
        dead_entry(shop, 0, 3, "Damaged at the end", b"abc"),
        dead_entry(other, 1, 1, "from the future", b""),
        dead_entry(shop, 2, 7, "from the past", b"defgh"),
    ];
    writer(&store).await.write(&requests).await.expect("written");
    let found = async |filter: LetterFilter| {
        let letters = store.dead_letters(&filter, None, 10).await.expect("letters");
        letters.into_iter().map(|letter| letter.event_count).collect::<Vec<_>>()
    };
    let any = LetterFilter::default;
    assert_eq!(found(any()).await, [7, 1, 3], "newest first");
    assert_eq!(found(LetterFilter { project: Some("shop".to_owned()), ..any() }).await, [7, 3]);
    assert_eq!(found(LetterFilter { reason: Some("FROM the".to_owned()), ..any() }).await, [7, 1]);
    assert_eq!(found(LetterFilter { sqlstate: Some("22P02".to_owned()), ..any() }).await, [0; 0]);
    assert_eq!(found(LetterFilter { code: Some("too_deep".to_owned()), ..any() }).await, [0; 0]);
    let now = OffsetDateTime::now_utc();
    let (earlier, later) = (now - Duration::from_secs(3_600), now + Duration::from_secs(3_600));
    assert_eq!(found(LetterFilter { since: Some(earlier), until: Some(later), ..any() }).await, [7, 1, 3]);
    assert_eq!(found(LetterFilter { since: Some(later), ..any() }).await, [0; 0]);
    assert_eq!(found(LetterFilter { until: Some(earlier), ..any() }).await, [0; 0]);

    let newest = store.dead_letters(&any(), None, 1).await.expect("letters").remove(0);
    assert_eq!((newest.project, newest.project_name.as_deref()), (shop, Some("shop")));
    assert_eq!((newest.batch_id, newest.event_index, newest.payload_bytes), (requests[2].batch_id, None, 5));
    assert_eq!(newest.received_at.unix_timestamp_nanos() / 1_000_000, i128::from(requests[2].entry.ms));
    assert_eq!((newest.redriven_at, newest.redrive_id, newest.attempted_at), (None, None, None));
    let older = store.dead_letters(&any(), Some(newest.id), 10).await.expect("letters");
    assert_eq!(older.iter().map(|letter| letter.event_count).collect::<Vec<_>>(), [1, 3]);
    let ids = vec![older[1].id, newest.id, 999];
    assert_eq!(found(LetterFilter { ids: ids.clone(), ..any() }).await, [7, 3]);
    let payloads = store.letter_payloads(&ids).await.expect("payloads");
    let expected = [(older[1].id, &b"abc"[..]), (newest.id, b"defgh")];
    assert_eq!(payloads, expected.map(|(id, bytes)| LetterPayload { id, payload: bytes.to_vec() }));

    let call = request_of_rows(shop, entry(now_ms(), 3), &[call_row(shop, "too_deep", b"[[[")]);
    writer(&store).await.write(&[call]).await.expect("written");
    assert_eq!(found(LetterFilter { code: Some("too_deep".to_owned()), ..any() }).await, [1]);
    assert_eq!(found(LetterFilter { code: Some("invalid_type".to_owned()), ..any() }).await, [0; 0]);

    let misspelled = LetterFilter { project: Some("shpo".to_owned()), ..any() };
    let refused = store.dead_letters(&misspelled, None, 10).await.expect_err("refused");
    assert!(matches!(&refused, StoreError::Invalid(text) if text.contains("shpo")), "{refused}");
}
