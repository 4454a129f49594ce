//! What every driver promises, driven by hand.

mod cancel;
mod descriptors;
mod full;
mod orphans;
mod park;
mod streams;
