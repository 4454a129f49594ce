//! Tasks: what their creator gets, done callbacks, eager start, factories, reports.

mod branches;
mod clean_up;
mod done;
mod eager;
mod foreign;
mod rows;
mod small_loop;
