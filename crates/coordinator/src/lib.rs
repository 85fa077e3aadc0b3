//! highwater-coordinator
