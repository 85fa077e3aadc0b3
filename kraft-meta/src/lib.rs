//! highwater-kraft-meta
