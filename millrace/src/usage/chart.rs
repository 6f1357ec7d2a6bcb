//! Bars of text. Pure.

use crate::output::grouped;

/// The narrowest that bars become, however narrow the terminal is.
const BAR_COLUMNS_MIN: usize = 10;
/// Parts of a full block, from one eighth to seven.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// How bars are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bars {
    /// The width of everything.
    pub(super) columns: usize,
    /// With blocks in steps of an eighth of a column; otherwise with `#`.
    pub(super) smooth: bool,
}

impl Bars {
    /// One line for each: its label, its number, its bar. The longest bar is as long as there is room.
    pub(super) fn draw(self, bars: Vec<(String, u64)>) -> String {
        let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
        let labels = width(&mut bars.iter().map(|(label, _)| label.chars().count()));
        let numbers = width(&mut bars.iter().map(|(_, count)| grouped((*count).into()).len()));
        let room = self.columns.saturating_sub(labels + numbers + 4).max(BAR_COLUMNS_MIN);
        let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let mut text = String::new();
        for (label, count) in bars {
            let bar = self.bar(count, most, room);
            let line = format!("{label:<labels$}  {:>numbers$}  {bar}", grouped(count.into()));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Whatever is not nothing can be seen.
    fn bar(self, count: u64, most: u64, room: usize) -> String {
        let steps_each = if self.smooth { 8 } else { 1 };
        if count == 0 {
            return String::new();
        }
        let steps = u128::from(count) * (room * steps_each) as u128 / u128::from(most);
        let steps = usize::try_from(steps).unwrap_or(room).max(1);
        if !self.smooth {
            return "#".repeat(steps);
        }
        let part = (steps % 8).checked_sub(1).map(|eighth| EIGHTHS[eighth]);
        "█".repeat(steps / 8).chars().chain(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(columns: usize, smooth: bool) -> String {
        let bars = [("mon", 0), ("tue", 1), ("wed", 1_000), ("thursday", 512)];
        Bars { columns, smooth }
            .draw(bars.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect())
    }

    #[test]
    fn bars_fill_the_room_and_the_smallest_can_be_seen() {
        let expected = "\
mon           0
tue           1  #
wed       1,000  ####################
thursday    512  ##########
";
        assert_eq!(bars(37, false), expected);
    }

    #[test]
    fn a_terminal_that_can_shows_eighths_of_a_column() {
        let expected = "\
mon           0
tue           1  ▏
wed       1,000  ██████████
thursday    512  █████
";
        assert_eq!(bars(27, true), expected);
        assert_eq!(bars(0, true), expected, "a terminal without width gets the narrowest bars");
        assert_eq!(Bars { columns: 80, smooth: true }.bar(13, 80, 10), "█▋");
    }
}
