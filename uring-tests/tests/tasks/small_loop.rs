//! A small loop of another make: it shares nothing with `BaseEventLoop`, and reuses tasks, futures,
//! callbacks and the registry. It sleeps by parking its thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ringloop::driver::Unpark;
use ringloop::event_loop::{FutureLoop, Handle, Running, TimerHandle};
use ringloop::ready::{Kind, ReadyEntry, ReadyQueue};
use ringloop::task::{
    CallBody, CallKey, CallOnce, Callbacks, RawTask, Report, TaskBody, TaskHost, TaskOptions, Tasks,
};
use ringloop::{AbstractEventLoop, LoopError};

struct WakeThread(Thread);

impl Unpark for WakeThread {
    fn unpark(&self) {
        self.0.unpark();
    }
}

/// What tasks and futures see of the loop.
#[derive(Default)]
pub struct Queue {
    ready: Rc<ReadyQueue>,
    callbacks: Rc<Callbacks>,
    closed: Cell<bool>,
    pub reports: RefCell<Vec<&'static str>>,
}

impl Queue {
    fn push(&self, callback: &mut dyn CallBody) -> Result<CallKey, LoopError> {
        if self.closed.get() {
            return Err(LoopError::Closed);
        }
        let key = self.callbacks.insert(callback);
        let entry = ReadyEntry::callback(key.index, key.generation);
        self.ready.push(entry);
        Ok(key)
    }
}

impl TaskHost for Queue {
    fn call_soon(&self, callback: &mut dyn CallBody) {
        let _ = self.push(callback);
    }

    fn call_exception_handler(&self, report: Report) {
        self.reports.borrow_mut().push(report.message);
    }
}

impl FutureLoop for Queue {
    fn call_soon(&self, callback: &mut dyn CallBody) -> Result<(), LoopError> {
        self.push(callback).map(|_| ())
    }
}

pub struct SmallLoop {
    me: Weak<Self>,
    pub queue: Rc<Queue>,
    pub tasks: Rc<Tasks>,
    /// Earliest first.
    timers: RefCell<Vec<(u64, CallKey)>>,
    began: Instant,
    stopping: Cell<bool>,
}

impl SmallLoop {
    pub fn new() -> Rc<Self> {
        let queue = Rc::new(Queue::default());
        let unpark = Arc::new(WakeThread(thread::current()));
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            tasks: Tasks::new(queue.ready.clone(), unpark, queue.clone()),
            queue,
            timers: RefCell::default(),
            began: Instant::now(),
            stopping: Cell::new(false),
        })
    }

    fn run_once(&self) {
        let next = self.timers.borrow().first().map(|timer| timer.0);
        if !self.stopping.get() && self.queue.ready.is_empty() && self.tasks.prepare_sleep() {
            match next.map(|when| Duration::from_nanos(when.saturating_sub(self.time()))) {
                Some(time) => thread::park_timeout(time),
                None => thread::park(),
            }
            self.tasks.finish_sleep();
        }
        self.tasks
            .drain_remote(|call| drop(self.call_soon_dyn(&mut CallOnce::new(call))));
        let now = self.time();
        let due = |timer: &mut (u64, CallKey)| timer.0 <= now;
        for (_, key) in self.timers.borrow_mut().extract_if(.., due) {
            let entry = ReadyEntry::callback(key.index, key.generation);
            self.queue.ready.push(entry);
        }
        for _ in 0..self.queue.ready.len() {
            let entry = self.queue.ready.pop().expect("it was counted");
            let (index, generation) = (entry.index, entry.generation);
            if entry.kind == Kind::Task {
                self.tasks.step(index, generation);
            } else {
                let ran = self.queue.callbacks.run(CallKey { index, generation });
                ran.expect("no callback panics here");
            }
        }
    }
}

impl AbstractEventLoop for SmallLoop {
    fn run_forever(&self) -> io::Result<()> {
        let me = self.me.upgrade().ok_or(LoopError::Closed)?;
        let _published = Running::publish(me)?;
        let entered = self.tasks.enter();
        let _entered = entered.map_err(|_| LoopError::AnotherRunning)?;
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
        self.queue.callbacks.clear();
        self.tasks.close();
        Ok(())
    }

    fn call_soon_dyn(&self, callback: &mut dyn CallBody) -> Result<Handle, LoopError> {
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
}
