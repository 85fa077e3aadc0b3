//! highwater-partition-log
