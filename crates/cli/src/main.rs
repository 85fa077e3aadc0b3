//! highwater
fn main() {}
