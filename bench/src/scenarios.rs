//! What is asked of every subject: which batches, by how many clients, how fast.

use std::ops::RangeInclusive;

use crate::load::{Pace, Shape};
use crate::subjects::Name;

/// A scenario.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// The funnel of a shop: 5 to 15 events a batch, 1,000 connections
    #[value(name = "realistic")]
    Realistic,
    /// 200 events a batch
    #[value(name = "stress")]
    Stress,
    /// 1 event a batch
    #[value(name = "single")]
    Single,
    /// The same as stress with 0.6 % and with 10 % of events that were sent before
    #[value(name = "duplicates")]
    Duplicates,
    /// 1,000 users at 481 requests/s, about 913 events/s
    #[value(name = "steady")]
    Steady,
    /// The same as stress on a table that already holds many rows
    #[value(name = "growth")]
    Growth,
}

/// One way of sending a scenario's batches.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// What a batch looks like.
    pub shape: Shape,
    /// Connections open at once.
    pub connections: usize,
    /// When requests are sent.
    pub send: Sending,
}

/// When requests are sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Sending {
    /// As fast as they are answered.
    Saturated,
    /// At a fixed pace, in requests a second.
    Fixed(f64),
    /// At this share of the pace at which the first part's were stored.
    ShareOfTheFirst(f64),
}

const REALISTIC: RangeInclusive<usize> = 5..=15;
const STRESS: RangeInclusive<usize> = 200..=200;
const SINGLE: RangeInclusive<usize> = 1..=1;
/// 2 events on average.
const STEADY: RangeInclusive<usize> = 1..=3;
const STEADY_REQUESTS_PER_S: f64 = 481.0;
/// What a service of one binary on SQLite publishes as its comfortable rate.
const SINGLE_REQUESTS_PER_S: f64 = 10_000.0;
const STRESS_CONNECTIONS: usize = 32;

impl Scenario {
    /// All of them, in the order in which they are run and told.
    pub const ALL: [Self; 6] =
        [Self::Realistic, Self::Stress, Self::Single, Self::Duplicates, Self::Steady, Self::Growth];

    /// As it is written in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Realistic => "realistic",
            Self::Stress => "stress",
            Self::Single => "single",
            Self::Duplicates => "duplicates",
            Self::Steady => "steady",
            Self::Growth => "growth",
        }
    }

    /// What it is, in words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Realistic => "a shop's funnel, 5 to 15 events a batch, 1,000 connections",
            Self::Stress => "200 events a batch",
            Self::Single => "1 event a batch",
            Self::Duplicates => "200 events a batch, some of which were sent before",
            Self::Steady => "1,000 users, 481 requests/s of 1 to 3 events",
            Self::Growth => "200 events a batch, into a table that already holds many rows",
        }
    }

    /// Whether it says something of this subject, and in the short form, whether it shows anything that others do not.
    pub fn is_for(self, subject: Name, is_quick: bool) -> bool {
        match self {
            Self::Growth => subject == Name::Millrace,
            Self::Duplicates if is_quick => subject == Name::Millrace,
            _ => true,
        }
    }

    /// Its parts, in order. The short form leaves out what only adds detail.
    pub fn parts(self, is_quick: bool) -> Vec<Part> {
        let part = |name, events, connections, send| {
            let shape = Shape { events, duplicates: 0.0 };
            Part { name, shape, connections, send }
        };
        let saturated_and_less = |events: RangeInclusive<usize>, connections| {
            vec![
                part("saturated", events.clone(), connections, Sending::Saturated),
                part("nine tenths", events.clone(), connections, Sending::ShareOfTheFirst(0.9)),
                part("half load", events, connections, Sending::ShareOfTheFirst(0.5)),
            ]
        };
        let mut parts = match self {
            Self::Realistic => saturated_and_less(REALISTIC, 1_000),
            Self::Stress => saturated_and_less(STRESS, STRESS_CONNECTIONS),
            Self::Single => vec![
                part("64 connections", SINGLE, 64, Sending::Saturated),
                part("256 connections", SINGLE, 256, Sending::Saturated),
                part("1,000 connections", SINGLE, 1_000, Sending::Saturated),
                part("10,000 requests/s", SINGLE, 256, Sending::Fixed(SINGLE_REQUESTS_PER_S)),
            ],
            Self::Duplicates => [("none", 0.0), ("0.6 %", 0.006), ("10 %", 0.1)]
                .into_iter()
                .map(|(name, duplicates)| Part {
                    shape: Shape { events: STRESS, duplicates },
                    ..part(name, STRESS, STRESS_CONNECTIONS, Sending::Saturated)
                })
                .collect(),
            Self::Steady => {
                vec![part("481 requests/s", STEADY, 1_000, Sending::Fixed(STEADY_REQUESTS_PER_S))]
            }
            Self::Growth => vec![part("saturated", STRESS, STRESS_CONNECTIONS, Sending::Saturated)],
        };
        if is_quick {
            parts.retain(|part| {
                let is_detail = matches!(part.name, "64 connections" | "1,000 connections");
                !is_detail && !matches!(part.send, Sending::ShareOfTheFirst(_))
            });
        }
        parts
    }
}

impl Sending {
    /// The pace, when the first part was stored at this many requests a second.
    pub fn pace(self, first_per_s: f64) -> Pace {
        match self {
            Self::Saturated => Pace::Closed,
            Self::Fixed(requests_per_s) => Pace::Fixed { requests_per_s },
            Self::ShareOfTheFirst(share) => Pace::Fixed { requests_per_s: (first_per_s * share).max(1.0) },
        }
    }
}
