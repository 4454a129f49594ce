//! Groups of tasks, and values that go with a task, of the runtimes that have some.

use crate::runtimes::*;
use crate::subjects::measure;
use criterion::Criterion;
use ringloop::ContextVar;

/// Children of one group.
pub const CHILDREN: u64 = 100;

static VALUE: ContextVar<u64> = ContextVar::new("value");

/// The subjects, for the runtimes that have them.
pub fn all(criterion: &mut Criterion) {
    measure::<Ringloop, _>(criterion, "group", async |count| {
        for _ in 0..count {
            let group = ringloop::task_group(async |group| {
                for _ in 0..CHILDREN {
                    group
                        .create_task(async { Ok::<_, ringloop::Cancelled>(()) })
                        .expect("the group takes tasks");
                }
                Ok(())
            });
            assert!(group.await.is_ok());
        }
    });
    measure::<Ringloop, _>(criterion, "context-read", async |count| {
        VALUE.set(7);
        for _ in 0..count {
            assert_eq!(std::hint::black_box(&VALUE).get(), Some(7));
        }
    });
    // To be compared with the same without a variable: what the inheriting costs.
    measure::<Ringloop, _>(criterion, "spawn-join-context", async |count| {
        VALUE.set(7);
        for _ in 0..count {
            Ringloop::spawn(async {}).await;
        }
    });
    #[cfg(feature = "others")]
    others::all(criterion);
}

#[cfg(feature = "others")]
mod others {
    use super::CHILDREN;
    use crate::runtimes::*;
    use crate::subjects::measure;
    use criterion::Criterion;
    use tokio::task::JoinSet;

    tokio::task_local! {
        static VALUE: u64;
    }

    pub(super) fn all(criterion: &mut Criterion) {
        measure::<Tokio, _>(criterion, "group", async |count| {
            for _ in 0..count {
                let mut group = JoinSet::new();
                for _ in 0..CHILDREN {
                    group.spawn_local(async {});
                }
                while let Some(child) = group.join_next().await {
                    child.expect("the child ends");
                }
            }
        });
        measure::<Tokio, _>(criterion, "context-read", |count| {
            VALUE.scope(7, async move {
                for _ in 0..count {
                    assert_eq!(std::hint::black_box(&VALUE).get(), 7);
                }
            })
        });
    }
}
