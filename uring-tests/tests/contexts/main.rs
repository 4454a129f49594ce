//! Context variables: who sees which value.

mod inherit;
mod rules;
mod threads;
