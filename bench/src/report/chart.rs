//! Charts, as SVG: bars in groups, and lines over time.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::failure::Failure;

/// Room above the highest bar, for the names of the colours.
const HEADROOM: f64 = 1.5;
const HEADROOM_LOG: f64 = 40.0;
const SIZE: (u32, u32) = (900, 420);
const FONT: &str = "sans-serif";
/// Colours that people tell apart who do not see all of them.
/// (Source: M. Okabe and K. Ito, "Color Universal Design", 2008.)
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];
/// A bar is drawn from here when the axis is logarithmic.
const LOG_FLOOR: f64 = 0.05;

/// A chart of bars.
#[derive(Clone, Debug)]
pub struct Bars<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What stands below each group.
    pub groups: &'a [String],
    /// For each colour its name, and a value for each group; `None` where there is none.
    pub series: &'a [(String, Vec<Option<f64>>)],
    /// What the values are.
    pub unit: &'a str,
    /// Whether ten times as much is one step more.
    pub is_logarithmic: bool,
}

/// A chart of lines over seconds.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    /// What it shows.
    pub title: &'a str,
    /// For each line its name and its points.
    pub series: &'a [(String, Vec<(f64, f64)>)],
    /// What the values are.
    pub unit: &'a str,
}

type Drawn = Result<(), Box<dyn Error + Send + Sync>>;

impl Bars<'_> {
    /// Writes it to a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        let values = self.series.iter().flat_map(|(_, values)| values.iter().flatten());
        let most = values.copied().fold(0.0, f64::max);
        let drawn = if self.is_logarithmic {
            self.draw(&area, (LOG_FLOOR..(most * HEADROOM_LOG).max(1.0)).log_scale(), LOG_FLOOR)
        } else {
            self.draw(&area, 0.0..(most * HEADROOM).max(1.0), 0.0)
        };
        drawn.map_err(|error| Failure::new(format!("{}: {error}", file.display())))
    }

    fn draw<'b, Y>(&self, area: &DrawingArea<SVGBackend<'b>, Shift>, axis: Y, floor: f64) -> Drawn
    where
        Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        Y::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        area.fill(&WHITE).map_err(|error| error.to_string())?;
        let groups = self.groups.len();
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 20))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(80)
            .build_cartesian_2d(0.0..groups as f64, axis)
            .map_err(|error| error.to_string())?;
        // The name stands in the middle of its group, which is where a label can be: at halves.
        let name = |x: &f64| {
            let is_middle = (x.fract() - 0.5).abs() < 0.01;
            self.groups.get(*x as usize).filter(|_| is_middle).cloned().unwrap_or_default()
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(2 * groups + 1)
            .x_label_formatter(&name)
            .y_desc(self.unit)
            .y_label_formatter(&amount)
            .label_style((FONT, 13))
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| error.to_string())?;
        let width = 0.8 / self.series.len() as f64;
        for (place, (name, values)) in self.series.iter().enumerate() {
            let colour = COLOURS[place % COLOURS.len()];
            let bars = values.iter().enumerate().filter_map(|(group, value)| {
                let left = group as f64 + 0.1 + place as f64 * width;
                Some(Rectangle::new([(left, floor), (left + width * 0.92, (*value)?)], colour.filled()))
            });
            chart
                .draw_series(bars)
                .map_err(|error| error.to_string())?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font((FONT, 13))
            .draw()
            .map_err(|error| error.to_string())?;
        Ok(area.present().map_err(|error| error.to_string())?)
    }
}

impl Lines<'_> {
    /// Writes it to a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        self.draw(file).map_err(|error| Failure::new(format!("{}: {error}", file.display())))
    }

    fn draw(&self, file: &Path) -> Drawn {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let (last, most) =
            points().fold((1.0, 1.0), |(x, y), point| (f64::max(x, point.0), f64::max(y, point.1)));
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, (FONT, 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(80)
            .build_cartesian_2d(0.0..last, 0.0..most * 1.1)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_desc("seconds")
            .y_desc(self.unit)
            .y_label_formatter(&amount)
            .label_style((FONT, 13))
            .light_line_style(WHITE)
            .draw()?;
        for (place, (name, points)) in self.series.iter().enumerate() {
            let colour = COLOURS[(2 * place) % COLOURS.len()];
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .label_font((FONT, 13))
            .draw()?;
        Ok(area.present()?)
    }
}

/// A value on an axis.
fn amount(value: &f64) -> String {
    match *value {
        value if value >= 1_000_000.0 => format!("{} M", value / 1e6),
        value if value >= 1_000.0 => format!("{} k", value / 1e3),
        value => format!("{value}"),
    }
}
