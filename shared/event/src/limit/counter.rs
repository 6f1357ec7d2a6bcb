//! The counters of limits, and their windows of time.

use strum::{AsRefStr, Display, EnumString, IntoStaticStr, VariantArray};

use super::amount::Amount;
use crate::meter::MeterId;
use crate::plan::{month_of, next_month_us, this_month_us};

const HOUR_US: u64 = 3_600_000_000;
const DAY_US: u64 = 24 * HOUR_US;

/// How long a limit counts before it starts again, by the stream's clock in UTC.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    AsRefStr,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Period {
    Hour,
    Day,
    Month,
}

impl Period {
    /// The number of the window that contains this moment, in microseconds since 1970: hours or days since
    /// 1970, or [`month_of`]. It grows with time.
    pub fn window(self, now_us: u64) -> u64 {
        match self {
            Self::Hour => now_us / HOUR_US,
            Self::Day => now_us / DAY_US,
            Self::Month => month_of(now_us).into(),
        }
    }

    /// The first moment of the window that contains `now_us`, and that of the next one.
    pub fn bounds_us(self, now_us: u64) -> (u64, u64) {
        let of_length = |length: u64| {
            let begin = now_us / length * length;
            (begin, begin.saturating_add(length))
        };
        match self {
            Self::Hour => of_length(HOUR_US),
            Self::Day => of_length(DAY_US),
            Self::Month => (this_month_us(now_us), next_month_us(now_us)),
        }
    }

    /// The letter that stands for it in scripts and entries.
    pub fn letter(self) -> char {
        match self {
            Self::Hour => 'h',
            Self::Day => 'd',
            Self::Month => 'm',
        }
    }

    /// The period of a letter.
    pub fn of_letter(letter: u8) -> Option<Self> {
        match letter {
            b'h' => Some(Self::Hour),
            b'd' => Some(Self::Day),
            b'm' => Some(Self::Month),
            _ => None,
        }
    }
}

/// What a limit counts: the use of a meter by one customer. Its project is that of the meter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Counter {
    pub meter: MeterId,
    pub period: Period,
    pub subject: String,
}

/// A counter in one window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CounterState {
    pub counter: Counter,
    /// See [`Period::window`].
    pub window: u64,
    pub used: Amount,
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn a_window_ends_where_the_next_one_begins() {
        // 2024-02-29T23:59:59.999999Z
        let leap_us = 1_709_251_199_999_999;
        for period in Period::VARIANTS {
            let (begin, end) = period.bounds_us(leap_us);
            assert_eq!(end, leap_us + 1, "{period}");
            assert_eq!(period.window(begin), period.window(leap_us));
            assert!(period.window(end) > period.window(leap_us), "{period}");
            assert!(period.window(begin - 1) < period.window(leap_us), "{period}");
            assert_eq!(Period::of_letter(period.letter() as u8), Some(*period));
        }
    }
}
