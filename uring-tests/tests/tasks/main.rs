//! Tasks: what their creator gets, done callbacks, eager start, factories, reports.

mod branches;
mod clean_up;
mod done;
mod eager;
mod foreign;
#[allow(dead_code)]
#[path = "../../../examples/own_loop.rs"]
mod own_loop;
mod rows;
