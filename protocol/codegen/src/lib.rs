//! highwater-codegen
