//! Ratios as a plot: each is a line from the least to the greatest, with a dot at its median, on a logarithmic scale.
//!
//! The SVG is written by hand in a hundred lines, because a library would bring thirty crates.

use super::results::Spread;

const ROW: f64 = 18.0;
const LABELS: f64 = 340.0;
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 40.0;
/// The ends of the scale; a value outside is drawn at its edge.
const LEAST: f64 = 0.01;
const GREATEST: f64 = 100.0;
const GRID: [f64; 9] = [0.01, 0.03, 0.1, 0.25, 0.5, 1.0, 2.0, 10.0, 100.0];

fn x(ratio: f64) -> f64 {
    let share = (ratio.clamp(LEAST, GREATEST) / LEAST).ln() / (GREATEST / LEAST).ln();
    LABELS + share * (WIDTH - LABELS - MARGIN)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Draws Highwater's figures divided by another broker's.
pub(super) fn draw(ratios: &[(String, Spread)]) -> String {
    let rows = u32::try_from(ratios.len()).unwrap_or(u32::MAX);
    let bottom = MARGIN + f64::from(rows) * ROW;
    let height = bottom + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"16\" font-size=\"13\">Highwater / Apache Kafka: median and range; grey where the range \
         crosses 1</text>\n"
    );
    for ratio in GRID {
        let (x, color) = (
            x(ratio),
            if (ratio - 1.0).abs() < f64::EPSILON {
                "black"
            } else {
                "#ddd"
            },
        );
        svg.push_str(&format!(
            "<line x1=\"{x:.1}\" y1=\"{MARGIN}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{color}\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{ratio}</text>\n",
            bottom + 14.0
        ));
    }
    for (row, (label, spread)) in (0_u32..).zip(ratios) {
        let y = MARGIN + (f64::from(row) + 0.5) * ROW;
        let color = if spread.is_tie() { "#999" } else { "#06c" };
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <line x1=\"{:.1}\" y1=\"{y}\" x2=\"{:.1}\" y2=\"{y}\" stroke=\"{color}\" stroke-width=\"2\"/>\n\
             <circle cx=\"{:.1}\" cy=\"{y}\" r=\"4\" fill=\"{color}\"><title>{:.3}</title></circle>\n",
            LABELS - 8.0,
            y + 4.0,
            escape(label),
            x(spread.min),
            x(spread.max),
            x(spread.median),
            spread.median
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lies_in_the_middle_and_extremes_at_the_edges() {
        assert!((x(1.0) - f64::midpoint(x(LEAST), x(GREATEST))).abs() < 1e-6);
        assert!((x(1e9) - (WIDTH - MARGIN)).abs() < 1e-6);
        assert!((x(0.0) - LABELS).abs() < 1e-6);
    }
}
