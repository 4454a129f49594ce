//! Other runtimes, each as its documentation tells a server to use it: one thread, one task for
//! each connection, a buffer for each connection unless the runtime has a pool of them.

pub mod compio;
pub mod glommio;
pub mod monoio;
pub mod smol;
pub mod tokio;
