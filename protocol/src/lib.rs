//! highwater-protocol
