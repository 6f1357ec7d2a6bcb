//! The choices that an owner makes for a key or a project: what a key may do, how repetitions are
//! recognized, which event times are accepted, and whether the
//! addresses of clients are stored. Pure data; the store keeps it.

/// What a key may do. The names are those of the database and of the command line.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, strum::EnumString, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "kebab-case")]
pub enum KeyScope {
    /// Sends events, and reads nothing. For keys that are public, such as in a web page.
    Write,
    /// Reads usage, limits, batches and rejections, and sends nothing.
    Read,
    /// Does both.
    #[default]
    Full,
}

impl KeyScope {
    /// Whether a key of this scope may do what `needed` does.
    pub fn allows(self, needed: Self) -> bool {
        self == Self::Full || self == needed
    }
}

/// How a repeated event of a project is recognized.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, strum::EnumString, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "kebab-case")]
pub enum Dedupe {
    /// By its id, with any timestamp, for as long as the ledger is kept.
    Id,
    /// By its id and its timestamp, for as long as the event is kept.
    #[default]
    IdAndTimestamp,
}

/// What happens to an event outside its project's bounds of event time.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, strum::EnumString, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "kebab-case")]
pub enum OutOfBounds {
    /// It takes its time of receipt. Its context keeps the time as it was sent.
    #[default]
    ReceiveTime,
    /// It is refused like any invalid event.
    Refuse,
}

/// The widest bound of event time: a hundred years, in seconds.
pub const BOUND_S_MAX: u64 = 100 * 365 * 86_400;

/// The choices for one project. The default is that of a new project.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProjectPolicy {
    pub dedupe: Dedupe,
    /// How long before its receipt an event may have happened, in seconds. `None` has no bound.
    pub oldest_s: Option<u64>,
    /// How long after its receipt an event may happen, in seconds. `None` has no bound.
    pub newest_s: Option<u64>,
    pub out_of_bounds: OutOfBounds,
    /// Whether events keep the address of their client.
    pub store_ip: bool,
}

impl ProjectPolicy {
    /// Whether the bounds allow this event time. Both times are microseconds since 1970.
    pub fn allows(&self, timestamp_us: i64, received_us: i64) -> bool {
        let bound_us = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        self.oldest_s.is_none_or(|oldest| timestamp_us >= received_us.saturating_sub(bound_us(oldest)))
            && self.newest_s.is_none_or(|newest| timestamp_us <= received_us.saturating_add(bound_us(newest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_inclusive_and_count_from_the_receive_time() {
        let policy = ProjectPolicy { oldest_s: Some(60), newest_s: Some(1), ..ProjectPolicy::default() };
        let received_us = 1_795_219_200_000_000;
        for (offset_us, allowed) in
            [(-60_000_000, true), (-60_000_001, false), (0, true), (1_000_000, true), (1_000_001, false)]
        {
            assert_eq!(policy.allows(received_us + offset_us, received_us), allowed, "{offset_us}");
        }
        assert!(ProjectPolicy::default().allows(i64::MIN, received_us));
        let widest = ProjectPolicy { oldest_s: Some(u64::MAX), newest_s: Some(u64::MAX), ..policy };
        assert!(widest.allows(i64::MIN, i64::MIN) && widest.allows(i64::MAX, i64::MAX));
    }
}
