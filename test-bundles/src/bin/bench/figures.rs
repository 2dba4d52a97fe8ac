//! Figures: what was measured of ours and of theirs, how it is summed up, and the one table of it.

use std::fmt::Write as _;

/// A quantity that both have.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What a row of the table is called.
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    /// Ours, theirs.
    pub(crate) samples: [Vec<f64>; 2],
}

/// What a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Megabytes,
    /// Of 1024 bytes.
    Kilobytes,
    Threads,
    LivesPerSecond,
    MegabytesPerSecond,
}

/// A figure of one shim: the middle of its samples, and between which values four fifths of them are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) p10: f64,
    pub(crate) p90: f64,
    pub(crate) count: usize,
}

impl Figure {
    pub(crate) fn new(name: &'static str, unit: Unit) -> Self {
        Self { name, unit, samples: [vec![], vec![]] }
    }

    /// None where nothing was measured of one of them.
    pub(crate) fn summaries(&self) -> Option<[Summary; 2]> {
        let [ours, theirs] = self.samples.each_ref().map(|samples| Summary::of(samples));
        Some([ours?, theirs?])
    }
}

impl Unit {
    /// Of what costs, less is better.
    pub(crate) fn is_cost(self) -> bool {
        !matches!(self, Self::LivesPerSecond | Self::MegabytesPerSecond)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => " ms",
            Self::Megabytes => " MB",
            Self::Kilobytes => " kB",
            Self::Threads => "",
            Self::LivesPerSecond => " per second",
            Self::MegabytesPerSecond => " MB/s",
        }
    }

    /// Three digits that say something.
    pub(crate) fn show(self, value: f64) -> String {
        format!("{}{}", digits(self, value), self.name())
    }
}

fn digits(unit: Unit, value: f64) -> String {
    let decimals = match value.abs() {
        _ if unit == Unit::Threads => 0,
        small if small < 10.0 => 2,
        medium if medium < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

impl Summary {
    fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |percent: usize| sorted[(last * percent + 50) / 100];
        Some(Self { median: at(50), p10: at(10), p90: at(90), count: sorted.len() })
    }

    fn show(self, unit: Unit) -> String {
        let middle = unit.show(self.median);
        let (p10, p90) = (digits(unit, self.p10), digits(unit, self.p90));
        if self.count < 3 || p10 == p90 { middle } else { format!("{middle} ({p10}–{p90})") }
    }
}

/// Ours by theirs, of medians.
pub(crate) fn ratio([ours, theirs]: [Summary; 2]) -> f64 {
    ours.median / theirs.median
}

/// In Markdown, with columns that are straight to whoever reads it as text.
pub(crate) fn table(figures: &[Figure], names: [&str; 2]) -> String {
    let head = ["", names[0], names[1], "ratio"].map(str::to_owned);
    let rows = figures.iter().filter_map(|figure| {
        let both = figure.summaries()?;
        let [ours, theirs] = both.map(|summary| summary.show(figure.unit));
        let ratio = ratio(both);
        Some([figure.name.to_owned(), ours, theirs, if ratio.is_finite() { format!("{ratio:.2}") } else { "–".into() }])
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<_> =
        (0..4).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()).collect();
    let mut text = String::new();
    for (nth, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if nth == 0 {
            let _ =
                writeln!(text, "|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
        }
    }
    text
}
