//! No heap is lost: memory that the kernel may still write to, or read from, is never given back.
//!
//! A loop with much in flight (see `scene.rs`) ends in every way a loop can end. The address sanitizer
//! sees what this program does to memory that was freed; what the kernel does it does not see. So
//! here freed memory is kept, filled, and looked at later (`quarantine.rs`), and what the peers were
//! sent and what was received before the end is compared. Each test runs in a process of its own.
//!
//! | file | what |
//! |---|---|
//! | `endings.rs` | the ways to end; nothing may be found |
//! | `caught.rs` | wrong ends; what is not found there could not be found elsewhere either |
//! | `scene.rs` | a loop with much in flight, and what outlives it |
//! | `disk.rs` | reads past the page cache, which nobody can take back |
//! | `quarantine.rs` | the allocator, and `munmap` |

mod caught;
mod disk;
mod endings;
mod quarantine;
mod scene;

#[global_allocator]
static ALLOCATOR: quarantine::Quarantine = quarantine::Quarantine;
