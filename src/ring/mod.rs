//! The kernel side: one io_uring. Knows no operation's meaning.

mod buf_ring;

pub use buf_ring::BufRing;
