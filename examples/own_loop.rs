//! A loop of one's own: tasks, futures, timers, jobs and calls from other threads, on a thread that
//! sleeps by parking. No I/O, and no `unsafe`.
//!
//! ```sh
//! cargo run --example own_loop
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ringloop::driver::Unpark;
use ringloop::event_loop::{
    ExceptionContext, FutureLoop, Handle, Running, ThreadSafeHandle, TimerHandle,
};
use ringloop::ready::{Kind, ReadyEntry, ReadyQueue};
use ringloop::task::{
    CallBody, CallKey, CallOnce, Callbacks, LoopId, RawTask, Report, TaskBody, TaskHost,
    TaskOptions, Tasks,
};
use ringloop::{
    AbstractEventLoop, EventLoopExt, LoopError, LoopHandle, create_task, get_running_loop,
    run_coroutine_threadsafe, sleep, timeout, to_thread,
};

/// What ends the loop's sleep.
struct WakeThread(Thread);

impl Unpark for WakeThread {
    fn unpark(&self) {
        self.0.unpark();
    }
}

/// What runs next. Tasks and futures see nothing else of the loop, so that they do not keep it alive.
#[derive(Default)]
struct Queue {
    ready: Rc<ReadyQueue>,
    callbacks: Rc<Callbacks>,
    loop_id: Cell<Option<LoopId>>,
    closed: Cell<bool>,
}

impl Queue {
    fn push(&self, callback: &mut dyn CallBody) -> Result<CallKey, LoopError> {
        if self.closed.get() {
            return Err(LoopError::Closed);
        }
        let key = self.callbacks.insert(callback);
        self.make_ready(key);
        Ok(key)
    }

    fn make_ready(&self, key: CallKey) {
        self.ready
            .push(ReadyEntry::callback(key.index, key.generation));
    }
}

/// What futures need.
impl FutureLoop for Queue {
    fn call_soon(&self, callback: &mut dyn CallBody) -> Result<(), LoopError> {
        self.push(callback).map(drop)
    }

    fn loop_id(&self) -> Option<LoopId> {
        self.loop_id.get()
    }
}

/// What tasks need.
impl TaskHost for Queue {
    fn call_soon(&self, callback: &mut dyn CallBody) {
        // Closed: nobody hears it.
        let _ = self.push(callback);
    }

    fn call_exception_handler(&self, report: Report) {
        eprintln!("{report:?}");
    }
}

/// The loop.
pub struct OwnLoop {
    me: Weak<Self>,
    queue: Rc<Queue>,
    tasks: Rc<Tasks>,
    /// Earliest first; equal ones in the order in which they were made.
    timers: RefCell<Vec<(u64, CallKey)>>,
    began: Instant,
    stopping: Cell<bool>,
}

impl OwnLoop {
    /// A new one, which runs in this thread.
    pub fn new() -> Rc<Self> {
        let queue = Rc::new(Queue::default());
        let unpark = Arc::new(WakeThread(thread::current()));
        let tasks = Tasks::new(queue.ready.clone(), unpark, queue.clone());
        queue.loop_id.set(Some(tasks.loop_id()));
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            queue,
            tasks,
            timers: RefCell::default(),
            began: Instant::now(),
            stopping: Cell::new(false),
        })
    }

    fn run_once(&self) {
        // Whatever another thread sends once `prepare_sleep` has said yes ends the sleep.
        let busy = self.stopping.get() || !self.queue.ready.is_empty();
        if !busy && self.tasks.prepare_sleep() {
            match self.timers.borrow().first() {
                Some((when, _)) => {
                    let rest = when.saturating_sub(self.time());
                    thread::park_timeout(Duration::from_nanos(rest));
                }
                None => thread::park(),
            }
            self.tasks.finish_sleep();
        }
        self.take_calls();
        let now = self.time();
        for (_, key) in self
            .timers
            .borrow_mut()
            .extract_if(.., |timer| timer.0 <= now)
        {
            self.queue.make_ready(key);
        }
        // What these make ready waits for the next iteration.
        for _ in 0..self.queue.ready.len() {
            let Some(ReadyEntry {
                kind,
                index,
                generation,
                ..
            }) = self.queue.ready.pop()
            else {
                break;
            };
            if kind == Kind::Task {
                self.tasks.step(index, generation);
            } else if let Err(panic) = self.queue.callbacks.run(CallKey { index, generation }) {
                let message = format!("Exception in callback {}", panic.name);
                self.call_exception_handler(ExceptionContext::panic(message, panic.payload));
            }
        }
    }

    /// Queues what other threads sent.
    fn take_calls(&self) {
        self.tasks.drain_remote(|call| {
            let _ = self.queue.push(&mut CallOnce::new(call));
        });
    }
}

impl AbstractEventLoop for OwnLoop {
    fn run_forever(&self) -> io::Result<()> {
        let me = self.me.upgrade().ok_or(LoopError::Closed)?;
        // For `get_running_loop()`, and for wakers and the current task.
        let _running = Running::publish(me)?;
        let _entered = self.tasks.enter().map_err(|_| LoopError::AnotherRunning)?;
        loop {
            self.run_once();
            if self.stopping.replace(false) {
                return Ok(());
            }
        }
    }

    fn stop(&self) {
        self.stopping.set(true);
    }

    fn close(&self) -> Result<(), LoopError> {
        self.queue.closed.set(true);
        drop(self.queue.callbacks.clear());
        self.tasks.close();
        Ok(())
    }

    fn call_soon_dyn(&self, callback: &mut dyn CallBody) -> Result<Handle, LoopError> {
        self.take_calls();
        let key = self.queue.push(callback)?;
        Ok(Handle::of(&self.queue.callbacks, key))
    }

    fn call_at_dyn(&self, when: u64, body: &mut dyn CallBody) -> Result<TimerHandle, LoopError> {
        let key = self.queue.callbacks.insert(body);
        let mut timers = self.timers.borrow_mut();
        let place = timers.partition_point(|timer| timer.0 <= when);
        timers.insert(place, (when, key));
        Ok(TimerHandle::of(&self.queue.callbacks, key, when))
    }

    fn call_soon_threadsafe_dyn(&self, callback: ThreadSafeHandle) -> Result<(), LoopError> {
        self.call_soon(callback.into_call()).map(drop)
    }

    fn handle(&self) -> Result<LoopHandle, LoopError> {
        Ok(self.tasks.remote().into())
    }

    fn time(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn future_loop(&self) -> Result<Rc<dyn FutureLoop>, LoopError> {
        Ok(self.queue.clone())
    }

    fn create_task_dyn(
        &self,
        body: &mut dyn TaskBody,
        options: TaskOptions,
    ) -> Result<RawTask, LoopError> {
        if self.queue.closed.get() {
            return Err(LoopError::Closed);
        }
        Ok(self.tasks.spawn(body, options))
    }

    fn run_in_executor_dyn(&self, job: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        thread::Builder::new().spawn(job).map(drop)
    }

    fn call_exception_handler(&self, context: ExceptionContext) {
        self.default_exception_handler(&context);
    }
}

async fn everything() {
    const HOUR: Duration = Duration::from_secs(3600);
    let event_loop = get_running_loop();

    let future = event_loop.create_future();
    let setter = future.clone();
    let callback = move || setter.set_result("a timer").expect("nobody else sets it");
    let delay = Duration::from_millis(1);
    event_loop.call_later(delay, callback).expect("it is open");
    println!("told by {}", future.await.expect("nobody cancels it"));

    let late = timeout(delay, sleep(HOUR)).await;
    println!("an hour in a millisecond: {}", late.unwrap_err());

    let task = create_task(sleep(HOUR));
    task.cancel_with("not needed");
    println!("the task was {}", task.await.unwrap_err());

    let handle = event_loop.handle().expect("it has one");
    let ask = move || {
        let answer = run_coroutine_threadsafe(|| async { 6 * 7 }, &handle);
        answer.expect("it is open").result().expect("it is given")
    };
    println!(
        "another thread was told {}",
        to_thread(ask).await.expect("it ends")
    );
}

fn main() -> io::Result<()> {
    let own = OwnLoop::new();
    own.run_until_complete(everything())?;
    own.close()?;
    Ok(())
}
