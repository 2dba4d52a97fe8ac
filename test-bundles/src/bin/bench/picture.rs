//! The figures as bars, drawn as SVG: theirs is a whole bar each time, ours the part of it that is left.

use std::fmt::Write as _;

use crate::figures::{Figure, ratio};

const WIDTH: u32 = 760;
const ROW: u32 = 26;
const TOP: u32 = 34;
const LABEL: u32 = 330;
const BAR: f64 = 270.0;

/// Of all figures those that cost something, and of which there is something.
pub(crate) fn svg(figures: &[Figure]) -> String {
    let rows: Vec<_> = figures
        .iter()
        .filter(|figure| figure.unit.is_cost())
        .filter_map(|figure| Some((figure, figure.summaries()?)))
        .filter(|(_, both)| ratio(*both).is_finite())
        .collect();
    let height = TOP + ROW * u32::try_from(rows.len()).unwrap_or(u32::MAX / ROW) + 10;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LABEL}\" y=\"20\" fill=\"#c2410c\">this shim</text>\n\
         <text x=\"{}\" y=\"20\" fill=\"#64748b\">beside runc's shim, which is the whole bar</text>\n",
        LABEL + 65
    );
    for (nth, (figure, both)) in (0..).zip(&rows) {
        let y = TOP + ROW * nth;
        let (middle, bar) = (y + 14, y + 3);
        let part = BAR * ratio(*both).clamp(0.0, 1.0);
        let name = escape(&figure.name.replace('`', ""));
        let [ours, theirs] = both.map(|summary| figure.unit.show(summary.median));
        let values = escape(&format!("{ours} / {theirs}"));
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"#0f172a\">{name}</text>\
             <rect x=\"{LABEL}\" y=\"{bar}\" width=\"{BAR}\" height=\"14\" fill=\"#cbd5e1\"/>\
             <rect x=\"{LABEL}\" y=\"{bar}\" width=\"{part:.1}\" height=\"14\" fill=\"#c2410c\"/>\
             <text x=\"{}\" y=\"{middle}\" fill=\"#0f172a\">{values}</text>",
            LABEL - 10,
            f64::from(LABEL) + BAR + 10.0,
        );
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
