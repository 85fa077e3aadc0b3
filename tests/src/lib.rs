//! highwater-tests
