//! The features of dependencies that differ between `cargo test --workspace` and `cargo test -p CRATE`.
//!
//! Cargo builds a dependency with the features that the selected packages ask for. Some packages, such as the load
//! generator or the code generator, ask for more features of a crate that the AWS SDKs depend on too. Without this
//! crate a test of one package would therefore compile the SDKs a second time, for minutes. Each package that depends
//! on the SDKs has this crate as a dev-dependency, so that its tests ask for the same features as the whole workspace
//! does. A dev-dependency adds nothing to the binary that is published.
//!
//! | dependency | its features come from |
//! |---|---|
//! | `chrono`, `num_traits` and `rand_0_9` | openraft |
//! | `const_oid` | x509-cert |
//! | `foldhash`, `rand` and `regex_syntax` | quick_cache, proptest and the log's filter |
//! | `hyper`, `hyper_util` and `tower` | axum |
//! | `highwater_io` | the tests that inject faults into files |
//! | `rustix` | the load generator and the metrics of the process |
//! | `serde_core` and `serde_json` | toml and the code generator |
//! | `tokio` | turmoil and the tests in virtual time |
//!
//! A test of the workspace compares the features and names those that are missing here (`tests/tests/features.rs`).
