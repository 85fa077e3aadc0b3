//! Basic parts of a process for the crates above: tasks, clocks, randomness, byte budgets, and errors as text.

mod backoff;
mod byte_budget;
mod control;
mod crash_point;
mod panics;
mod reasons;
mod rng;
mod standstill;
mod task_kind;
mod tasks;
mod until;
mod wall_clock;
mod work_pool;

pub use backoff::Backoff;
pub use byte_budget::{ByteBudget, BytePermit, TooLarge};
pub use control::{Control, ControlRuntime};
pub use crash_point::crash_point;
pub use panics::{catch_panic, panic_text};
pub use reasons::reasons;
pub use rng::SeededRng;
pub use standstill::Standstill;
pub use task_kind::{AfterReturn, TaskKind};
pub use tasks::Tasks;
pub use until::until;
pub use wall_clock::WallClock;
pub use work_pool::WorkPool;
