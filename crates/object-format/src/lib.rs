//! highwater-object-format
