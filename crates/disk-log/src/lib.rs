//! highwater-disk-log
