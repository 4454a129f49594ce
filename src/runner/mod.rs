//! Making loops and running programs on them: the top floor.

mod builder;
mod run;

pub use builder::Builder;
pub use run::{block_on, run};
