//! Promises about delivery to consumers.

use std::time::Duration;

use millrace_stream::EntryId;

use super::*;

pub async fn entries_of_a_silent_consumer_are_taken_over_and_their_deliveries_counted(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    for _ in 0..25 {
        assert_admitted(admit(&stream, &batch(1)).await);
    }
    let mut dead = stream.reader(0, "dead").await.unwrap();
    assert_eq!(dead.next(100, Duration::ZERO).await.unwrap().len(), 25);
    let mut successor = stream.reader(0, "successor").await.unwrap();
    let none = successor.take_over(Duration::from_secs(3_600), 100).await.unwrap();
    assert!(none.deliveries.is_empty());
    let some = successor.take_over(Duration::ZERO, 10).await.unwrap();
    assert_eq!(some.deliveries.len(), 10);
    assert!(some.deliveries.iter().all(|delivery| delivery.delivered == 2));
    let all = successor.take_over(Duration::ZERO, 100).await.unwrap();
    assert_eq!(all.deliveries.len(), 25);
    assert_eq!((all.deliveries[0].delivered, all.deliveries[24].delivered), (3, 2));
    assert!(all.vanished.is_empty());
    let settlements: Vec<_> = all.deliveries.iter().map(|delivery| settlement(delivery, 0, 0)).collect();
    assert_eq!(stream.settle(0, &settlements).await.unwrap(), 25);
}

pub async fn entries_that_were_delivered_and_not_settled_are_read_again(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    for _ in 0..5 {
        assert_admitted(admit(&stream, &batch(1)).await);
    }
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let delivered: Vec<_> = reader.next(3, Duration::ZERO).await.unwrap().iter().map(|d| d.id).collect();
    drop(reader);
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let mut again = Vec::new();
    let mut after = EntryId::default();
    loop {
        let page = reader.own_pending(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.iter().all(|delivery| delivery.delivered == 2));
        after = last.id;
        again.extend(page.iter().map(|delivery| delivery.id));
    }
    assert_eq!(again, delivered);
    assert_eq!(reader.next(10, Duration::ZERO).await.unwrap().len(), 2);
}

pub async fn an_admission_wakes_a_waiting_reader(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let wait = tokio::spawn(async move {
        loop {
            let deliveries = reader.next(1, Duration::from_secs(5)).await.unwrap();
            if !deliveries.is_empty() {
                return deliveries;
            }
        }
    });
    let batch = batch(1);
    assert_admitted(admit(&stream, &batch).await);
    assert_eq!(only_batch(&wait.await.unwrap()[0]).batch_id, batch.batch_id);
}

pub async fn consumers_are_retired_only_when_nothing_is_pending_for_them(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    let mut busy = stream.reader(0, "busy").await.unwrap();
    let delivered = busy.next(1, Duration::ZERO).await.unwrap();
    let mut idle = stream.reader(0, "idle").await.unwrap();
    assert_admitted(admit(&stream, &batch(1)).await);
    let done = idle.next(1, Duration::ZERO).await.unwrap().remove(0);
    stream.settle(0, &[settlement(&done, 0, 0)]).await.unwrap();
    assert_eq!(stream.retire_consumers(0, Duration::from_secs(3_600)).await.unwrap(), 0);
    assert_eq!(stream.retire_consumers(0, Duration::ZERO).await.unwrap(), 1);
    busy.leave().await.unwrap();
    let pending = busy.own_pending(EntryId::default(), 10).await.unwrap();
    assert_eq!(pending[0].id, delivered[0].id);
    stream.settle(0, &[settlement(&pending[0], 0, 0)]).await.unwrap();
    busy.leave().await.unwrap();
    assert_eq!(stream.retire_consumers(0, Duration::ZERO).await.unwrap(), 0);
}
