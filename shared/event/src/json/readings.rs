//! The ways to read brackets and quotes that do not match, and the order in which they are tried.
//!
//! This module must never look at a body: [`super::scan`] does.

/// How broken brackets and quotes are read.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub quotes: Quotes,
    pub stray_bracket: StrayBracket,
}

/// Where a string ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// At the next quote. A string that seems to end in the next event has no end.
    Strict,
    /// At a quote before one of `,:]}` or the end, so that a stray quote ends no string; or else with its
    /// event, so that a string without a closing quote ends there.
    Checked,
    /// At the next quote, wherever it is.
    Counted,
}

/// What a closing bracket does that closes nothing of its kind in the item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StrayBracket {
    IsSkipped,
    /// It was written for a bracket of the other kind.
    ClosesInnermost,
    /// It closes the container of the item, whose own brackets were left open.
    ClosesContainer,
}

/// The first reading, and the only one of valid JSON.
pub(super) const STRICT: Rules = Rules { quotes: Quotes::Strict, stray_bracket: StrayBracket::IsSkipped };

const QUOTES: [Quotes; 3] = [Quotes::Strict, Quotes::Checked, Quotes::Counted];
const STRAY_BRACKETS: [StrayBracket; 3] =
    [StrayBracket::IsSkipped, StrayBracket::ClosesInnermost, StrayBracket::ClosesContainer];

/// Faults that another reading may avoid.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub is_string_open: bool,
    pub was_bracket_stray: bool,
    pub was_bracket_missing: bool,
    /// A string that never ends was taken to end before the brackets at the end of the body.
    pub was_body_completed: bool,
}

/// Makes passes until one succeeds. A pass is left out when its rules cannot change the result.
pub(super) fn by_rules<T>(mut pass: impl FnMut(Rules, &mut Faults) -> Option<T>) -> Option<T> {
    let mut seen = Faults::default();
    let readings = QUOTES.into_iter().flat_map(|quotes| STRAY_BRACKETS.map(|bracket| (quotes, bracket)));
    for (quotes, stray_bracket) in readings {
        let is_new_reading = (quotes == Quotes::Strict || seen.is_string_open)
            && (stray_bracket == StrayBracket::IsSkipped || seen.was_bracket_stray);
        if !is_new_reading {
            continue;
        }
        let mut faults = Faults::default();
        if let Some(result) = pass(Rules { quotes, stray_bracket }, &mut faults) {
            return Some(result);
        }
        seen.is_string_open |= faults.is_string_open;
        seen.was_bracket_stray |= faults.was_bracket_stray;
    }
    None
}
