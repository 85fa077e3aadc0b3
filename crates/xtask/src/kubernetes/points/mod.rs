//! What is proved on a real control plane, point by point.

mod install;
mod losses;
mod lost_volume;
mod refusals;
mod scale;
mod security;
mod upgrade;

use anyhow::Result;

use super::release::Release;

/// What is proved. Every point begins and ends with three brokers and three controllers that are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Point {
    /// Clients inside and outside find an installed release, over three zones.
    Install,
    /// The number of brokers is raised to five and lowered to two.
    Scale,
    /// Wrong values are refused, or a start says what is wrong.
    Refusals,
    /// The restricted profile admits every pod.
    Security,
    /// Another image replaces the first under load.
    Upgrade,
    /// Nodes are drained and die, processes are killed, a volume is lost.
    Losses,
}

impl Point {
    /// All of them, in the order in which they run.
    pub(crate) const ALL: [Self; 6] = [
        Self::Install,
        Self::Scale,
        Self::Refusals,
        Self::Security,
        Self::Upgrade,
        Self::Losses,
    ];

    /// Proves the point.
    pub(super) fn prove(self, release: &Release) -> Result<()> {
        match self {
            Self::Install => install::prove(release),
            Self::Scale => scale::prove(release),
            Self::Refusals => refusals::prove(release),
            Self::Security => security::prove(release),
            Self::Upgrade => upgrade::prove(release),
            Self::Losses => losses::prove(release),
        }
    }
}
