//! The suites about Kubernetes: the image and the chart.

mod chart;
mod schemas;

use crate::image;
use crate::report::Report;

/// Every suite.
pub(crate) fn run_all(report: &mut Report) {
    report.suite("image", image::check);
    report.suite("chart", chart::check);
    report.suite("chart-processes", chart::processes);
}
