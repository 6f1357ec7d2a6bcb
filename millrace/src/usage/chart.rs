//! Draws bar charts as text. Pure.

use crate::output::grouped;

/// Width of the longest bar in a narrow terminal.
const BAR_COLUMNS_MIN: usize = 10;
/// Blocks of one to seven eighths of a column.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

#[derive(Clone, Copy, Debug)]
pub(super) struct Bars {
    /// Width of the whole chart.
    pub(super) columns: usize,
    /// Whether to draw blocks in steps of an eighth of a column, instead of `#`.
    pub(super) smooth: bool,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    /// The number as it is shown.
    pub(super) number: String,
    /// The length of the bar relative to the others.
    pub(super) size: u64,
}

impl Bar {
    pub(super) fn of_count(label: String, count: u64) -> Self {
        Self { label, number: grouped(count.into()), size: count }
    }
}

impl Bars {
    /// One line for each bar, with its label and number. The longest bar fills the width.
    pub(super) fn draw(self, bars: Vec<Bar>) -> String {
        let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
        let labels = width(&mut bars.iter().map(|bar| bar.label.chars().count()));
        let numbers = width(&mut bars.iter().map(|bar| bar.number.len()));
        let room = self.columns.saturating_sub(labels + numbers + 4).max(BAR_COLUMNS_MIN);
        let most = bars.iter().map(|bar| bar.size).max().unwrap_or(0);
        let mut text = String::new();
        for Bar { label, number, size } in bars {
            let bar = self.bar(size, most, room);
            let line = format!("{label:<labels$}  {number:>numbers$}  {bar}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// A number above 0 has a visible bar.
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
            .draw(bars.iter().map(|(label, count)| Bar::of_count((*label).to_owned(), *count)).collect())
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_the_smallest_is_visible() {
        let expected = "\
mon           0
tue           1  #
wed       1,000  ####################
thursday    512  ##########
";
        assert_eq!(bars(37, false), expected);
    }

    #[test]
    fn a_smooth_chart_has_eighths_of_a_column() {
        let expected = "\
mon           0
tue           1  ▏
wed       1,000  ██████████
thursday    512  █████
";
        assert_eq!(bars(27, true), expected);
        assert_eq!(bars(0, true), expected, "a terminal without a width gets the narrowest bars");
        assert_eq!(Bars { columns: 80, smooth: true }.bar(13, 80, 10), "█▋");
    }
}
