//! The limits of a project, and what they charge for a batch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::amount::Amount;
use super::charge::{Charge, LimitedCharge};
use super::counter::{Counter, Period};
use crate::meter::{Aggregation, MeasuredValue, MeterDefinition, MeterId};
use crate::row::{self, Row};

/// A limit as it was set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CustomerLimit {
    pub meter: MeterId,
    pub period: Period,
    /// `None` for every customer that has no limit of its own for this meter and period.
    pub subject: Option<String>,
    pub amount: Amount,
}

/// Why a meter cannot be limited.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a meter with the aggregation {0} cannot be limited: what one event adds to it is not known when the event is \
     admitted; only count and sum can"
)]
pub struct LimitRefused(pub Aggregation);

/// Checks that a meter can be limited.
///
/// # Errors
/// [`LimitRefused`] for any aggregation but count and sum.
pub fn check_limited(aggregation: Aggregation) -> Result<(), LimitRefused> {
    match aggregation {
        Aggregation::Count | Aggregation::Sum => Ok(()),
        other => Err(LimitRefused(other)),
    }
}

/// The limits of one project.
#[derive(Clone, Debug, Default)]
pub struct LimitSet {
    /// By the name of the events.
    meters: HashMap<String, Vec<LimitedMeter>>,
}

#[derive(Clone, Debug)]
struct LimitedMeter {
    id: MeterId,
    definition: Arc<MeterDefinition>,
    periods: BTreeMap<Period, PeriodLimits>,
}

/// The limits of a meter for one period.
#[derive(Clone, Debug, Default)]
struct PeriodLimits {
    /// Of every customer that is not in `own`.
    of_others: Option<Amount>,
    own: HashMap<Box<str>, Amount>,
}

impl LimitSet {
    /// The limits of these meters. A limit whose meter is missing is left out.
    pub fn new(
        meters: impl IntoIterator<Item = (MeterId, MeterDefinition)>,
        limits: impl IntoIterator<Item = CustomerLimit>,
    ) -> Self {
        let mut by_meter: HashMap<MeterId, BTreeMap<Period, PeriodLimits>> = HashMap::new();
        for CustomerLimit { meter, period, subject, amount } in limits {
            let limits = by_meter.entry(meter).or_default().entry(period).or_default();
            match subject {
                None => limits.of_others = Some(amount),
                Some(subject) => {
                    limits.own.insert(subject.into(), amount);
                }
            }
        }
        let mut set = Self::default();
        for (id, definition) in meters {
            if let Some(periods) = by_meter.remove(&id) {
                let event = definition.event.clone();
                let limited = LimitedMeter { id, definition: Arc::new(definition), periods };
                set.meters.entry(event).or_default().push(limited);
            }
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.meters.is_empty()
    }

    /// The limits of a customer for this meter.
    pub fn of_customer(&self, meter: MeterId, subject: &str) -> Vec<(Period, Amount)> {
        let limited = self.meters.values().flatten().find(|limited| limited.id == meter);
        let limits = limited.into_iter().flat_map(|limited| &limited.periods);
        limits.filter_map(|(period, limits)| Some((*period, limits.of(subject)?))).collect()
    }

    /// What the rows of a batch are charged, in the order of the counters. An event without a subject, and
    /// one that the meter does not count, takes nothing.
    pub fn charges(&self, rows: &[u8]) -> Vec<LimitedCharge> {
        let mut charges: BTreeMap<Counter, LimitedCharge> = BTreeMap::new();
        for (event, bytes) in (0_u32..).zip(row::split(rows)) {
            let Ok(bytes) = bytes else { break };
            let Ok(read) = Row::read(bytes) else { continue };
            let (Some(subject), Some(meters)) = (read.subject, self.meters.get(read.name)) else { continue };
            for meter in meters {
                let Some(amount) = meter.amount(&read) else { continue };
                for (period, limits) in &meter.periods {
                    let Some(limit) = limits.of(subject) else { continue };
                    let counter = Counter { meter: meter.id, period: *period, subject: subject.to_owned() };
                    let new = |counter: &Counter| {
                        let charge = Charge { counter: counter.clone(), events: Vec::new() };
                        LimitedCharge { charge, limit }
                    };
                    let charged = charges.entry(counter.clone()).or_insert_with(|| new(&counter));
                    charged.charge.events.push((event, amount));
                }
            }
        }
        charges.into_values().collect()
    }
}

impl LimitedMeter {
    /// `None` when the event takes nothing.
    fn amount(&self, event: &Row<'_>) -> Option<Amount> {
        let amount = match self.definition.measure(event).ok()?.value {
            MeasuredValue::None => Amount::ONE,
            MeasuredValue::Number(value) => Amount::of_value(value),
            MeasuredValue::Text(_) => return None,
        };
        (amount > Amount::ZERO).then_some(amount)
    }
}

impl PeriodLimits {
    fn of(&self, subject: &str) -> Option<Amount> {
        self.own.get(subject).copied().or(self.of_others)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::meter::Path;
    use crate::plan::ProjectId;

    fn rows(events: &[(&str, Option<&str>, &str)]) -> Vec<u8> {
        let mut rows = Vec::new();
        for (name, subject, properties) in events {
            let bare = Row::bare(ProjectId(1), Uuid::nil(), name);
            Row { subject: *subject, properties: Some(properties.as_bytes()), ..bare }.write(&mut rows);
        }
        rows
    }

    fn meter(id: i64, aggregation: Aggregation) -> (MeterId, MeterDefinition) {
        let value = (aggregation != Aggregation::Count).then(|| "$.tokens".parse::<Path>().unwrap());
        let (slug, event) = ("tokens".to_owned(), "call".to_owned());
        (MeterId(id), MeterDefinition { slug, event, aggregation, value, groups: Vec::new() })
    }

    fn limit(meter: i64, period: Period, subject: Option<&str>, amount: &str) -> CustomerLimit {
        let subject = subject.map(str::to_owned);
        CustomerLimit { meter: MeterId(meter), period, subject, amount: Amount::parse(amount).unwrap() }
    }

    #[test]
    fn a_customer_without_a_limit_of_its_own_has_that_of_the_others() {
        let limits = [
            limit(1, Period::Month, None, "10"),
            limit(1, Period::Month, Some("acme"), "99"),
            limit(1, Period::Day, Some("acme"), "5"),
        ];
        let set = LimitSet::new([meter(1, Aggregation::Sum)], limits);
        let of = |subject| set.of_customer(MeterId(1), subject);
        assert_eq!(
            of("acme"),
            [(Period::Day, Amount::of_parts(5, 0)), (Period::Month, Amount::of_parts(99, 0))]
        );
        assert_eq!(of("other"), [(Period::Month, Amount::of_parts(10, 0))]);
    }

    #[test]
    fn events_are_charged_by_customer_and_meter_and_others_take_nothing() {
        let limits = [limit(1, Period::Month, None, "10"), limit(2, Period::Hour, Some("a"), "3")];
        let set = LimitSet::new([meter(1, Aggregation::Sum), meter(2, Aggregation::Count)], limits);
        let rows = rows(&[
            ("call", Some("a"), r#"{"tokens":1.5}"#),
            ("other", Some("a"), r#"{"tokens":1}"#),
            ("call", None, r#"{"tokens":1}"#),
            ("call", Some("b"), r#"{"tokens":"2"}"#),
            ("call", Some("a"), r#"{"tokens":true}"#),
            ("call", Some("b"), r#"{"tokens":-2}"#),
        ]);
        let charges = set.charges(&rows);
        let found: Vec<_> = charges
            .iter()
            .map(|LimitedCharge { charge, limit }| {
                let Counter { meter, period, subject } = &charge.counter;
                (
                    meter.0,
                    *period,
                    subject.as_str(),
                    limit.to_string(),
                    charge.events.len(),
                    charge.amount().to_string(),
                )
            })
            .collect();
        let of = |text: &str| text.to_owned();
        assert_eq!(
            found,
            [
                (1, Period::Month, "a", of("10"), 1, of("1.5")),
                (1, Period::Month, "b", of("10"), 1, of("2")),
                (2, Period::Hour, "a", of("3"), 2, of("2")),
            ]
        );
    }

    #[test]
    fn only_counts_and_sums_can_be_limited() {
        assert_eq!(check_limited(Aggregation::Sum), Ok(()));
        let refused = check_limited(Aggregation::UniqueCount).unwrap_err().to_string();
        assert!(refused.contains("unique_count"), "{refused}");
    }
}
