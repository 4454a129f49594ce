//! Making loops and running programs on them: the top floor.

mod builder;
mod interrupt;
mod life;
mod run;

pub use builder::Builder;
pub use life::{EXECUTOR_DEADLINE, Runner, RunnerClosed};
pub use run::{block_on, run};
