//! The scenarios: the batches, the connections and the rate that every subject is measured with.

use std::ops::RangeInclusive;

use crate::load::{Pacing, Shape};
use crate::subjects::SubjectName;

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// The event funnel of a shop: 5 to 15 events per batch, 1,000 connections
    #[value(name = "realistic")]
    Realistic,
    /// 200 events per batch
    #[value(name = "stress")]
    Stress,
    /// 1 event per batch
    #[value(name = "single")]
    Single,
    /// Like stress, with no, 0.6 % and 10 % duplicate events
    #[value(name = "duplicates")]
    Duplicates,
    /// 1,000 users, 481 requests/s, about 960 events/s
    #[value(name = "steady")]
    Steady,
    /// Like stress, of 10,000 customers, with three meters
    #[value(name = "metered")]
    Metered,
    /// Like stress, into a table that already holds many rows
    #[value(name = "growth")]
    Growth,
}

/// A scenario's load, sent in one of several ways.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
    /// Identifies the part in results files and in the goals.
    pub name: &'static str,
    pub shape: Shape,
    /// Connections open concurrently.
    pub connections: usize,
    pub rate: Rate,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rate {
    /// Each connection sends its next request when the previous one is answered.
    Saturated,
    /// Requests per second.
    Fixed(f64),
    /// A share of the requests per second that were stored in the scenario's first part.
    ShareOfFirst(f64),
}

const REALISTIC: RangeInclusive<usize> = 5..=15;
const STRESS: RangeInclusive<usize> = 200..=200;
const SINGLE: RangeInclusive<usize> = 1..=1;
/// 2 events on average.
const STEADY: RangeInclusive<usize> = 1..=3;
const STEADY_REQUESTS_PER_S: f64 = 481.0;
/// The comfortable rate that a comparable service, one program on SQLite, publishes.
const SINGLE_REQUESTS_PER_S: f64 = 10_000.0;
const STRESS_CONNECTIONS: usize = 32;
const METERED_CUSTOMERS: usize = 10_500;

impl Scenario {
    /// In the order in which they are run and reported.
    pub const ALL: [Self; 7] = [
        Self::Realistic,
        Self::Stress,
        Self::Single,
        Self::Duplicates,
        Self::Steady,
        Self::Metered,
        Self::Growth,
    ];

    /// The name in results files, tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Realistic => "realistic",
            Self::Stress => "stress",
            Self::Single => "single",
            Self::Duplicates => "duplicates",
            Self::Steady => "steady",
            Self::Metered => "metered",
            Self::Growth => "growth",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            Self::Realistic => "the event funnel of a shop, 5 to 15 events per batch, 1,000 connections",
            Self::Stress => "200 events per batch",
            Self::Single => "1 event per batch",
            Self::Duplicates => "200 events per batch; the given share of events was accepted before",
            Self::Steady => "1,000 users, 481 requests/s of 1 to 3 events",
            Self::Metered => {
                "200 events per batch, of 10,000 customers; three meters count the first step of the funnel"
            }
            Self::Growth => "200 events per batch, into a table that already holds many rows",
        }
    }

    /// Whether the scenario is run on this subject. A quick run skips what other scenarios cover already.
    pub fn is_for(self, subject: SubjectName, is_quick: bool) -> bool {
        let is_more =
            subject.is_variant() || matches!(subject, SubjectName::UnnestInRequest | SubjectName::Outbox);
        match self {
            Self::Growth | Self::Metered => subject == SubjectName::Millrace,
            Self::Duplicates if is_quick => subject == SubjectName::Millrace,
            // Neither the variants nor these peers do anything of their own with duplicates.
            Self::Duplicates => !is_more,
            Self::Stress => true,
            _ if is_quick => !is_more,
            // The type of the columns costs by the event, and TLS and replicas by the request.
            Self::Single | Self::Steady => subject != SubjectName::MillraceJson,
            Self::Realistic => true,
        }
    }

    /// The scenario's parts, in order. A quick run skips those that only add detail.
    pub fn parts(self, is_quick: bool) -> Vec<Part> {
        let part =
            |name, events, connections, rate| Part { name, shape: Shape::new(events), connections, rate };
        let saturated_and_less = |events: RangeInclusive<usize>, connections| {
            vec![
                part("saturated", events.clone(), connections, Rate::Saturated),
                part("nine tenths", events.clone(), connections, Rate::ShareOfFirst(0.9)),
                part("half load", events, connections, Rate::ShareOfFirst(0.5)),
            ]
        };
        let mut parts = match self {
            Self::Realistic => saturated_and_less(REALISTIC, 1_000),
            Self::Stress => saturated_and_less(STRESS, STRESS_CONNECTIONS),
            Self::Single => vec![
                part("64 connections", SINGLE, 64, Rate::Saturated),
                part("256 connections", SINGLE, 256, Rate::Saturated),
                part("1,000 connections", SINGLE, 1_000, Rate::Saturated),
                part("10,000 requests/s", SINGLE, 256, Rate::Fixed(SINGLE_REQUESTS_PER_S)),
            ],
            Self::Duplicates => [("none", 0.0), ("0.6 %", 0.006), ("10 %", 0.1)]
                .into_iter()
                .map(|(name, duplicates)| Part {
                    shape: Shape { duplicates, ..Shape::new(STRESS) },
                    ..part(name, STRESS, STRESS_CONNECTIONS, Rate::Saturated)
                })
                .collect(),
            Self::Steady => vec![part("481 requests/s", STEADY, 1_000, Rate::Fixed(STEADY_REQUESTS_PER_S))],
            Self::Metered => vec![Part {
                shape: Shape { distinct: METERED_CUSTOMERS, ..Shape::new(STRESS) },
                ..part("three meters", STRESS, STRESS_CONNECTIONS, Rate::Saturated)
            }],
            Self::Growth => vec![part("saturated", STRESS, STRESS_CONNECTIONS, Rate::Saturated)],
        };
        if is_quick {
            parts.retain(|part| {
                let is_detail = matches!(part.name, "64 connections" | "1,000 connections");
                !is_detail && !matches!(part.rate, Rate::ShareOfFirst(_))
            });
        }
        parts
    }
}

impl Rate {
    /// The pacing, given the requests per second that were stored in the scenario's first part.
    pub fn pacing(self, first_requests_per_s: f64) -> Pacing {
        match self {
            Self::Saturated => Pacing::ClosedLoop,
            Self::Fixed(requests_per_s) => Pacing::FixedRate { requests_per_s },
            Self::ShareOfFirst(share) => {
                Pacing::FixedRate { requests_per_s: (first_requests_per_s * share).max(1.0) }
            }
        }
    }
}
