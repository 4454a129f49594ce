//! Locks and queues, of the runtimes that have some.

use crate::runtimes::*;
use crate::subjects::measure;
use criterion::Criterion;
use std::future::Future;
use std::rc::Rc;

/// A lock and a queue for the tasks of one thread, as the runtime or its own crates offer them.
trait Primitives: Runtime {
    type Lock: 'static;
    type Sender: 'static;
    type Receiver: 'static;

    fn lock() -> Self::Lock;
    /// Acquires it, runs `held`, releases it.
    fn hold(lock: &Self::Lock, held: impl Future<Output = ()>) -> impl Future<Output = ()>;
    /// A queue with room for so many.
    fn queue(size: usize) -> (Self::Sender, Self::Receiver);
    fn put(queue: &Self::Sender, item: u64) -> impl Future<Output = ()>;
    fn get(queue: &mut Self::Receiver) -> impl Future<Output = u64>;
}

impl Primitives for Ringloop {
    type Lock = ringloop::sync::Lock;
    type Sender = Rc<ringloop::sync::Queue<u64>>;
    type Receiver = Self::Sender;

    fn lock() -> Self::Lock {
        ringloop::sync::Lock::new(())
    }

    async fn hold(lock: &Self::Lock, held: impl Future<Output = ()>) {
        let _guard = lock.acquire().await.expect("nobody cancels");
        held.await;
    }

    fn queue(size: usize) -> (Self::Sender, Self::Receiver) {
        let queue = Rc::new(ringloop::sync::Queue::new(size));
        (queue.clone(), queue)
    }

    async fn put(queue: &Self::Sender, item: u64) {
        queue.put(item).await.expect("nobody cancels");
    }

    async fn get(queue: &mut Self::Receiver) -> u64 {
        queue.get().await.expect("nobody cancels")
    }
}

/// The subjects, for the runtimes that have them.
pub fn all(criterion: &mut Criterion) {
    runtime::<Ringloop>(criterion);
    #[cfg(feature = "others")]
    {
        runtime::<Tokio>(criterion);
        runtime::<Glommio>(criterion);
        runtime::<Smol>(criterion);
    }
}

fn runtime<R: Primitives>(criterion: &mut Criterion) {
    measure::<R, _>(criterion, "lock", async |count| {
        let lock = R::lock();
        for _ in 0..count {
            R::hold(&lock, async {}).await;
        }
    });
    measure::<R, _>(criterion, "lock-contended", async |count| {
        let lock = Rc::new(R::lock());
        let tasks = [(); 2].map(|()| {
            let lock = lock.clone();
            R::spawn(async move {
                for _ in 0..count {
                    // The other one waits meanwhile, and gets it next: not every lock is fair.
                    R::hold(&lock, R::yield_now()).await;
                    R::yield_now().await;
                }
            })
        });
        for task in tasks {
            task.await;
        }
    });
    measure::<R, _>(criterion, "queue", async |count| {
        let (sender, mut receiver) = R::queue(1);
        for number in 0..count {
            R::put(&sender, number).await;
            assert_eq!(R::get(&mut receiver).await, number);
        }
    });
    measure::<R, _>(criterion, "queue-hand-over", async |count| {
        let (sender, mut receiver) = R::queue(1);
        let consumer = R::spawn(async move {
            for number in 0..count {
                assert_eq!(R::get(&mut receiver).await, number);
            }
        });
        for number in 0..count {
            R::put(&sender, number).await;
        }
        consumer.await;
    });
}

#[cfg(feature = "others")]
mod others {
    use super::Primitives;
    use crate::runtimes::*;
    use std::future::Future;

    impl Primitives for Tokio {
        type Lock = tokio::sync::Mutex<()>;
        type Sender = tokio::sync::mpsc::Sender<u64>;
        type Receiver = tokio::sync::mpsc::Receiver<u64>;

        fn lock() -> Self::Lock {
            tokio::sync::Mutex::new(())
        }

        async fn hold(lock: &Self::Lock, held: impl Future<Output = ()>) {
            let _guard = lock.lock().await;
            held.await;
        }

        fn queue(size: usize) -> (Self::Sender, Self::Receiver) {
            tokio::sync::mpsc::channel(size)
        }

        async fn put(queue: &Self::Sender, item: u64) {
            queue.send(item).await.expect("it is open");
        }

        async fn get(queue: &mut Self::Receiver) -> u64 {
            queue.recv().await.expect("it is open")
        }
    }

    impl Primitives for Glommio {
        /// It has no plain mutex.
        type Lock = glommio::sync::RwLock<()>;
        type Sender = glommio::channels::local_channel::LocalSender<u64>;
        type Receiver = glommio::channels::local_channel::LocalReceiver<u64>;

        fn lock() -> Self::Lock {
            glommio::sync::RwLock::new(())
        }

        async fn hold(lock: &Self::Lock, held: impl Future<Output = ()>) {
            let _guard = lock.write().await.expect("it is open");
            held.await;
        }

        fn queue(size: usize) -> (Self::Sender, Self::Receiver) {
            glommio::channels::local_channel::new_bounded(size)
        }

        async fn put(queue: &Self::Sender, item: u64) {
            queue.send(item).await.expect("it is open");
        }

        async fn get(queue: &mut Self::Receiver) -> u64 {
            queue.recv().await.expect("it is open")
        }
    }

    impl Primitives for Smol {
        type Lock = smol::lock::Mutex<()>;
        type Sender = smol::channel::Sender<u64>;
        type Receiver = smol::channel::Receiver<u64>;

        fn lock() -> Self::Lock {
            smol::lock::Mutex::new(())
        }

        async fn hold(lock: &Self::Lock, held: impl Future<Output = ()>) {
            let _guard = lock.lock().await;
            held.await;
        }

        fn queue(size: usize) -> (Self::Sender, Self::Receiver) {
            smol::channel::bounded(size)
        }

        async fn put(queue: &Self::Sender, item: u64) {
            queue.send(item).await.expect("it is open");
        }

        async fn get(queue: &mut Self::Receiver) -> u64 {
            queue.recv().await.expect("it is open")
        }
    }
}
