//! Bar charts as SVG, one group of bars for each row of a table.

use std::fmt::Write;

/// A chart of ratios: bars from 1, so that their length is what a server costs more or less.
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// Names of the bars in a group.
    pub series: Vec<String>,
    /// Names of the groups, and their values, one for each of the series; NaN leaves a gap.
    pub groups: Vec<(String, Vec<f64>)>,
    /// Where the axis begins and ends; longer bars are cut there, their value is written.
    pub range: (f64, f64),
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 150.0;
const BAR: f64 = 13.0;
const COLOURS: [&str; 12] = [
    "#7f7f7f", "#bcbd22", "#1f77b4", "#6baed6", "#08519c", "#9ecae1", "#d62728", "#ff7f0e",
    "#2ca02c", "#9467bd", "#8c564b", "#e377c2",
];

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Chart {
    /// The drawing.
    pub fn svg(&self) -> String {
        let (low, high) = self.range;
        let group_height = self.series.len() as f64 * BAR + 34.0;
        let height = 40.0 + self.groups.len() as f64 * group_height;
        let x = |value: f64| {
            LEFT + (value.clamp(low, high) - low) / (high - low) * (WIDTH - LEFT - 60.0)
        };
        let mut svg = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"10\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}</text>",
            escape(&self.title)
        );
        for (group, (name, values)) in self.groups.iter().enumerate() {
            let top = 40.0 + group as f64 * group_height;
            let _ = writeln!(
                svg,
                "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{}</text>",
                top + 11.0,
                escape(name)
            );
            for (place, (series, &value)) in self.series.iter().zip(values).enumerate() {
                let y = top + 18.0 + place as f64 * BAR;
                let _ = writeln!(
                    svg,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                    LEFT - 6.0,
                    y + 10.0,
                    escape(series)
                );
                if value.is_finite() {
                    let (from, to) = (x(1.0f64.min(value)), x(1.0f64.max(value)));
                    let _ = writeln!(
                        svg,
                        "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{}\" \
                         fill=\"{}\"/><text x=\"{:.1}\" y=\"{:.1}\">{value:.2}</text>",
                        (to - from).max(1.0),
                        BAR - 2.0,
                        COLOURS[place % COLOURS.len()],
                        to + 4.0,
                        y + 10.0
                    );
                }
            }
            let _ = writeln!(
                svg,
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\" stroke=\"black\"/>",
                x(1.0),
                top + 15.0,
                top + 18.0 + self.series.len() as f64 * BAR
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}
