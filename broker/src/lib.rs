//! highwater-broker
