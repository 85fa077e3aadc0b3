//! highwater-sim
