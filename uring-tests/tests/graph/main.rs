//! What a person sees of a loop's tasks: graphs, tables, trees, dumps.

mod dumps;
mod edges;
mod rendering;
