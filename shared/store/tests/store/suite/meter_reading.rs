//! Promises about the definitions of meters, and about reading them.

use millrace_event::meter::{Aggregation, MeterDefinition};
use millrace_store::{GroupFilter, MeterQuery, MeterRow, MeterStart, MeterWindow, StoreError};

use super::metered::{MINUTE_MS, answer, call, calls, create, definition, every_check_holds, whole};
use super::*;

pub async fn subjects_and_groups_are_kept_apart_and_filtered(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let now = now_ms();
    let batch = [
        call(now, 1, "acme", r#"{"n":1,"model":"large"}"#),
        call(now, 2, "acme", r#"{"n":2,"model":"small"}"#),
        call(now, 3, "beta", r#"{"n":4,"model":"large"}"#),
        call(now, 4, "beta", r#"{"n":8}"#),
        call(now, 5, "it's \"b\"", r#"{"n":16,"model":1.50}"#),
    ];
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    let whole = whole(now, now);
    let rows = async |query: MeterQuery| {
        let shown = |row: MeterRow| {
            let groups: Vec<_> =
                row.groups.into_iter().map(|group| group.unwrap_or_else(|| "-".to_owned())).collect();
            format!("{}{}={}", row.subject.unwrap_or_default(), groups.join(""), row.value)
        };
        answer(&store, &info, &query).await.into_iter().map(shown).collect::<Vec<_>>()
    };
    let by_subject = MeterQuery { by_subject: true, ..whole.clone() };
    assert_eq!(rows(by_subject.clone()).await, ["acme=3", "beta=12", "it's \"b\"=16"]);
    let by_group = MeterQuery { by_groups: vec![0], ..whole.clone() };
    assert_eq!(rows(by_group.clone()).await, ["1.5=16", "large=5", "small=2", "-=8"]);
    let filter = |values: &[Option<&str>]| {
        let values = values.iter().map(|value| value.map(str::to_owned)).collect();
        vec![GroupFilter { group: 0, values }]
    };
    assert_eq!(
        rows(MeterQuery { filters: filter(&[Some("large")]), ..by_subject.clone() }).await,
        ["acme=1", "beta=4"]
    );
    assert_eq!(rows(MeterQuery { filters: filter(&[None]), ..by_subject.clone() }).await, ["beta=8"]);
    let subjects = vec!["acme".to_owned(), "it's \"b\"".to_owned()];
    assert_eq!(rows(MeterQuery { subjects, ..by_group }).await, ["1.5=16", "large=1", "small=2"]);
    assert_eq!(rows(MeterQuery { offset: 1, limit: 1, ..by_subject }).await, ["beta=12"], "a page");
    every_check_holds(&store).await;
}

pub async fn windows_follow_the_time_zone_also_when_clocks_change(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Count, MeterStart::Now).await;
    // In Berlin, 2026-03-29 has 23 hours: it begins at 23:00 UTC of the day before and ends at 22:00 UTC.
    let begin = 1_774_738_800_000;
    let hour = 60 * MINUTE_MS;
    let times = [begin - 1, begin, begin + 23 * hour - 1, begin + 23 * hour];
    let batch: Vec<_> = (0..).zip(times).map(|(id, ms)| call(ms, id, "a", "{}")).collect();
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    let windows = async |window, zone: &str| {
        let query = MeterQuery {
            window: Some(window),
            time_zone: zone.to_owned(),
            ..whole(begin - DAY_MS, begin + 2 * DAY_MS)
        };
        let rows = answer(&store, &info, &query).await;
        rows.into_iter()
            .map(|row| ((row.end_us - row.start_us) / 3_600_000_000, row.events))
            .collect::<Vec<_>>()
    };
    assert_eq!(windows(MeterWindow::Day, "Europe/Berlin").await, [(24, 1), (23, 2), (24, 1)]);
    assert_eq!(windows(MeterWindow::Hour, "Asia/Kathmandu").await, [(1, 2), (1, 2)]);
    // There, the hour from 2 to 3 comes twice on 2026-10-25.
    let twice = 1_792_887_300_000;
    let batch = [
        call(twice, 10, "a", "{}"),
        call(twice + hour, 11, "a", "{}"),
        call(twice + hour + 1, 12, "a", "{}"),
    ];
    writer(&store).await.write(&[calls(project, 2, &batch)]).await.expect("written");
    let query = MeterQuery {
        window: Some(MeterWindow::Hour),
        time_zone: "Europe/Berlin".to_owned(),
        ..whole(twice - DAY_MS, twice + DAY_MS)
    };
    let hours = answer(&store, &info, &query).await;
    let shown = |row: MeterRow| ((twice.cast_signed() * 1_000 - row.start_us) / 60_000_000, row.events);
    assert_eq!(hours.into_iter().map(shown).collect::<Vec<_>>(), [(15, 1), (-45, 2)]);
    let months = windows(MeterWindow::Month, "Europe/Berlin").await;
    assert_eq!(months.iter().map(|month| month.1).collect::<Vec<_>>(), [4], "cut to the period: {months:?}");
    let query = MeterQuery {
        time_zone: "Mars/Olympus".to_owned(),
        window: Some(MeterWindow::Day),
        ..whole(begin, begin)
    };
    let refused = store.meter_usage(&info.meter, &query).await.expect_err("no such time zone");
    assert!(
        matches!(&refused, StoreError::Invalid(message) if message.contains("Mars/Olympus")),
        "{refused}"
    );
}

pub async fn a_deleted_meter_counts_nothing_and_leaves_its_slug(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let taken = store.create_meter("p", &info.meter.definition, MeterStart::Now).await.expect_err("taken");
    assert!(matches!(&taken, StoreError::Conflict(message) if message.contains("sum")), "{taken}");
    let now = now_ms();
    let mut lane = writer(&store).await;
    lane.write(&[calls(project, 1, &[call(now, 1, "a", r#"{"n":1}"#)])]).await.expect("written");
    assert!(store.delete_meter("p", "sum").await.expect("deleted"));
    assert!(!store.delete_meter("p", "sum").await.expect("nothing"));
    lane.write(&[calls(project, 2, &[call(now, 2, "a", r#"{"n":1}"#)])]).await.expect("written");
    while store.move_additions().await.expect("removed") > 0 {}
    assert_eq!(answer(&store, &info, &whole(now, now)).await, []);
    assert_eq!(store.meters(None).await.expect("meters"), []);
    create(&store, Aggregation::Sum, MeterStart::Now).await;
}

pub async fn a_definition_that_is_not_usable_is_refused(harness: &dyn Harness) {
    let store = harness.store();
    project(&store, "p").await;
    let usable = definition(Aggregation::Sum);
    let group = usable.groups[0].clone();
    for (definition, fault) in [
        (MeterDefinition { slug: "Tokens".to_owned(), ..usable.clone() }, "slug"),
        (MeterDefinition { slug: String::new(), ..usable.clone() }, "slug"),
        (MeterDefinition { event: String::new(), ..usable.clone() }, "name of the events"),
        (MeterDefinition { value: None, ..usable.clone() }, "needs a value"),
        (MeterDefinition { aggregation: Aggregation::Count, ..usable.clone() }, "takes no value"),
        (MeterDefinition { groups: vec![group.clone(); 2], ..usable.clone() }, "twice"),
        (MeterDefinition { groups: vec![group; 9], ..usable.clone() }, "more than 8"),
    ] {
        let refused = store.create_meter("p", &definition, MeterStart::Now).await.expect_err("refused");
        assert!(
            matches!(&refused, StoreError::Invalid(message) if message.contains(fault)),
            "{fault}: {refused}"
        );
    }
    let refused = store.create_meter("other", &usable, MeterStart::Now).await.expect_err("refused");
    assert!(matches!(&refused, StoreError::Missing(message) if message.contains("other")), "{refused}");
}
