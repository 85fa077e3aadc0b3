//! Controllers and several brokers: leaders, fences and takeovers. The rules are those of docs/STORAGE.md.

mod leaders;
mod load;
mod moves;
mod nearest;
mod operators;
mod quorum;
mod races;
mod served;
mod stopping;
mod store_away;
mod stores;
mod takeover;
mod tls;
mod voters;
mod zombie;
