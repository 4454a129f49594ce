//! The runtimes, seen through the least that the subjects need: each method is what the runtime
//! itself offers for it.

use std::future::Future;
use std::time::Duration;

/// A single-threaded runtime.
pub trait Runtime {
    /// Its name in the tables.
    const NAME: &'static str;
    /// Runs a future on a new runtime of the calling thread.
    fn block_on<F: Future + 'static>(future: F) -> F::Output
    where
        F::Output: 'static;
    /// Starts a task; what it gives ends when the task did.
    fn spawn<F: Future<Output = ()> + 'static>(future: F) -> impl Future<Output = ()> + 'static;
    /// Lets the others run.
    fn yield_now() -> impl Future<Output = ()>;
    /// Waits.
    fn sleep(duration: Duration) -> impl Future<Output = ()>;
    /// A timeout around a future; whether the future won.
    fn timeout<F: Future<Output = ()>>(duration: Duration, future: F)
    -> impl Future<Output = bool>;
}

/// ringloop on io_uring.
pub struct Ringloop;

impl Runtime for Ringloop {
    const NAME: &'static str = "ringloop";

    fn block_on<F: Future + 'static>(future: F) -> F::Output
    where
        F::Output: 'static,
    {
        match ringloop::run(future) {
            Ok(output) => output,
            Err(_) => panic!("the loop does not run"),
        }
    }

    fn spawn<F: Future<Output = ()> + 'static>(future: F) -> impl Future<Output = ()> + 'static {
        let task = ringloop::create_task(future);
        async move { task.await.expect("the task ends") }
    }

    async fn yield_now() {
        ringloop::yield_now().await.expect("nobody cancels");
    }

    async fn sleep(duration: Duration) {
        ringloop::sleep(duration).await.expect("nobody cancels");
    }

    async fn timeout<F: Future<Output = ()>>(duration: Duration, future: F) -> bool {
        ringloop::timeout(duration, future).await.is_ok()
    }
}

#[cfg(feature = "others")]
pub use others::*;

#[cfg(feature = "others")]
mod others {
    use super::Runtime;
    use std::cell::RefCell;
    use std::future::Future;
    use std::pin::Pin;
    use std::rc::Rc;
    use std::task::{Context, Poll};
    use std::time::Duration;

    /// Wakes itself and gives way once: for runtimes that offer nothing of the kind.
    #[derive(Default)]
    struct YieldOnce(bool);

    impl Future for YieldOnce {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            if self.0 {
                return Poll::Ready(());
            }
            self.0 = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }

    /// tokio, current thread, with a set of local tasks.
    pub struct Tokio;

    impl Runtime for Tokio {
        const NAME: &'static str = "tokio";

        fn block_on<F: Future + 'static>(future: F) -> F::Output
        where
            F::Output: 'static,
        {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            tokio::task::LocalSet::new().block_on(&runtime, future)
        }

        fn spawn<F: Future<Output = ()> + 'static>(
            future: F,
        ) -> impl Future<Output = ()> + 'static {
            let task = tokio::task::spawn_local(future);
            async { task.await.expect("the task ends") }
        }

        async fn yield_now() {
            tokio::task::yield_now().await;
        }

        async fn sleep(duration: Duration) {
            tokio::time::sleep(duration).await;
        }

        async fn timeout<F: Future<Output = ()>>(duration: Duration, future: F) -> bool {
            tokio::time::timeout(duration, future).await.is_ok()
        }
    }

    /// monoio on io_uring, with timers.
    pub struct Monoio;

    impl Runtime for Monoio {
        const NAME: &'static str = "monoio";

        fn block_on<F: Future + 'static>(future: F) -> F::Output
        where
            F::Output: 'static,
        {
            monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
                .enable_timer()
                .build()
                .expect("a runtime")
                .block_on(future)
        }

        fn spawn<F: Future<Output = ()> + 'static>(
            future: F,
        ) -> impl Future<Output = ()> + 'static {
            monoio::spawn(future)
        }

        fn yield_now() -> impl Future<Output = ()> {
            YieldOnce::default()
        }

        async fn sleep(duration: Duration) {
            monoio::time::sleep(duration).await;
        }

        async fn timeout<F: Future<Output = ()>>(duration: Duration, future: F) -> bool {
            monoio::time::timeout(duration, future).await.is_ok()
        }
    }

    /// compio on io_uring.
    pub struct Compio;

    impl Runtime for Compio {
        const NAME: &'static str = "compio";

        fn block_on<F: Future + 'static>(future: F) -> F::Output
        where
            F::Output: 'static,
        {
            compio::runtime::Runtime::new()
                .expect("a runtime")
                .block_on(future)
        }

        fn spawn<F: Future<Output = ()> + 'static>(
            future: F,
        ) -> impl Future<Output = ()> + 'static {
            let task = compio::runtime::spawn(future);
            async {
                if task.await.is_err() {
                    panic!("the task does not end");
                }
            }
        }

        fn yield_now() -> impl Future<Output = ()> {
            YieldOnce::default()
        }

        async fn sleep(duration: Duration) {
            compio::time::sleep(duration).await;
        }

        async fn timeout<F: Future<Output = ()>>(duration: Duration, future: F) -> bool {
            compio::time::timeout(duration, future).await.is_ok()
        }
    }

    /// glommio on one executor.
    pub struct Glommio;

    impl Runtime for Glommio {
        const NAME: &'static str = "glommio";

        fn block_on<F: Future + 'static>(future: F) -> F::Output
        where
            F::Output: 'static,
        {
            glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
                .make()
                .expect("an executor")
                .run(future)
        }

        fn spawn<F: Future<Output = ()> + 'static>(
            future: F,
        ) -> impl Future<Output = ()> + 'static {
            glommio::spawn_local(future)
        }

        async fn yield_now() {
            glommio::executor().yield_now().await;
        }

        async fn sleep(duration: Duration) {
            glommio::timer::sleep(duration).await;
        }

        async fn timeout<F: Future<Output = ()>>(duration: Duration, future: F) -> bool {
            glommio::timer::timeout(duration, async {
                future.await;
                Ok::<_, glommio::GlommioError<()>>(())
            })
            .await
            .is_ok()
        }
    }

    /// smol on a local executor.
    pub struct Smol;

    thread_local! {
        static EXECUTOR: RefCell<Option<Rc<smol::LocalExecutor<'static>>>> =
            const { RefCell::new(None) };
    }

    impl Runtime for Smol {
        const NAME: &'static str = "smol";

        fn block_on<F: Future + 'static>(future: F) -> F::Output
        where
            F::Output: 'static,
        {
            let executor = Rc::new(smol::LocalExecutor::new());
            EXECUTOR.set(Some(executor.clone()));
            let output = smol::block_on(executor.run(future));
            EXECUTOR.set(None);
            output
        }

        fn spawn<F: Future<Output = ()> + 'static>(
            future: F,
        ) -> impl Future<Output = ()> + 'static {
            EXECUTOR.with_borrow(|executor| {
                executor
                    .as_ref()
                    .expect("spawned inside block_on")
                    .spawn(future)
            })
        }

        async fn yield_now() {
            smol::future::yield_now().await;
        }

        async fn sleep(duration: Duration) {
            smol::Timer::after(duration).await;
        }

        async fn timeout<F: Future<Output = ()>>(duration: Duration, future: F) -> bool {
            let first = async {
                future.await;
                true
            };
            smol::future::or(first, async {
                smol::Timer::after(duration).await;
                false
            })
            .await
        }
    }
}
