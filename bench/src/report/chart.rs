//! Draws bar charts and line charts as SVG.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::error::BenchError;

/// The end of the axis, relative to the highest bar. Leaves space for the legend.
const HEADROOM: f64 = 1.5;
const HEADROOM_LOG: f64 = 40.0;
const SIZE: (u32, u32) = (900, 420);
const FONT: &str = "sans-serif";
/// Colors that people with color blindness can distinguish, and two grays.
/// (Source: M. Okabe and K. Ito, "Color Universal Design", 2008.)
const COLORS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(240, 228, 66),
    RGBColor(0, 0, 0),
    RGBColor(120, 120, 120),
    RGBColor(190, 190, 190),
];
/// The start of a logarithmic axis, which cannot start at zero.
const LOG_FLOOR: f64 = 0.05;

/// Bars in groups.
#[derive(Clone, Debug)]
pub struct BarChart<'a> {
    pub title: &'a str,
    /// The label of each group.
    pub groups: &'a [String],
    /// For each color its label and a value per group; `None` leaves the bar out.
    pub series: &'a [(String, Vec<Option<f64>>)],
    pub unit: &'a str,
    pub is_logarithmic: bool,
}

/// Lines over time in seconds.
#[derive(Clone, Debug)]
pub struct LineChart<'a> {
    pub title: &'a str,
    /// For each line its label and its points.
    pub series: &'a [(String, Vec<(f64, f64)>)],
    pub unit: &'a str,
}

type DrawResult = Result<(), Box<dyn Error + Send + Sync>>;

impl BarChart<'_> {
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), BenchError> {
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        let values = self.series.iter().flat_map(|(_, values)| values.iter().flatten());
        let most = values.copied().fold(0.0, f64::max);
        let drawn = if self.is_logarithmic {
            self.draw(&area, (LOG_FLOOR..(most * HEADROOM_LOG).max(1.0)).log_scale(), LOG_FLOOR)
        } else {
            self.draw(&area, 0.0..(most * HEADROOM).max(1.0), 0.0)
        };
        drawn.map_err(|error| BenchError::new(format!("cannot write the chart {}: {error}", file.display())))
    }

    fn draw<'b, Y>(&self, area: &DrawingArea<SVGBackend<'b>, Shift>, axis: Y, floor: f64) -> DrawResult
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
        // Labels are possible at halves, so each group is one unit wide and has its label in the middle.
        let label = |x: &f64| {
            let is_middle = (x.fract() - 0.5).abs() < 0.01;
            self.groups.get(*x as usize).filter(|_| is_middle).cloned().unwrap_or_default()
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(2 * groups + 1)
            .x_label_formatter(&label)
            .y_desc(self.unit)
            .y_label_formatter(&axis_label)
            .label_style((FONT, 13))
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| error.to_string())?;
        let width = 0.8 / self.series.len() as f64;
        for (index, (label, values)) in self.series.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            let bars = values.iter().enumerate().filter_map(|(group, value)| {
                let left = group as f64 + 0.1 + index as f64 * width;
                Some(Rectangle::new([(left, floor), (left + width * 0.92, (*value)?)], color.filled()))
            });
            chart
                .draw_series(bars)
                .map_err(|error| error.to_string())?
                .label(label)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
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

impl LineChart<'_> {
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), BenchError> {
        self.draw(file)
            .map_err(|error| BenchError::new(format!("cannot write the chart {}: {error}", file.display())))
    }

    fn draw(&self, file: &Path) -> DrawResult {
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
            .y_label_formatter(&axis_label)
            .label_style((FONT, 13))
            .light_line_style(WHITE)
            .draw()?;
        for (index, (label, points)) in self.series.iter().enumerate() {
            let color = COLORS[(2 * index) % COLORS.len()];
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
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

/// The label of a value on an axis.
fn axis_label(value: &f64) -> String {
    match *value {
        value if value >= 1_000_000.0 => format!("{} M", value / 1e6),
        value if value >= 1_000.0 => format!("{} k", value / 1e3),
        value => format!("{value}"),
    }
}
