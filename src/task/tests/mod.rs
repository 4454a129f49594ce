//! Tests of the floor at its own level: tasks are driven by hand, entry by entry.

mod basics;
mod calls;
mod can;
mod model;
mod program;
mod random;
mod reg;
mod rules;
mod scopes;

use super::*;
use crate::driver::Unpark;
use crate::ready::{Kind, ReadyEntry, ReadyQueue};
use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

/// Counts what an eventfd would be written for.
#[derive(Default)]
pub struct CountUnparks(AtomicUsize);

impl Unpark for CountUnparks {
    fn unpark(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl CountUnparks {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A report as tests compare it: message, name of the task, text of the panic.
pub type Told = (&'static str, Option<String>, Option<String>);

struct Host {
    ready: Rc<ReadyQueue>,
    callbacks: Rc<Callbacks>,
    told: Rc<RefCell<Vec<Told>>>,
}

impl TaskHost for Host {
    fn call_soon(&self, callback: &mut dyn CallBody) {
        let key = self.callbacks.insert(callback);
        self.ready
            .push(ReadyEntry::callback(key.index, key.generation));
    }

    fn call_exception_handler(&self, report: Report) {
        let text = |payload: Box<dyn Any + Send>| panic_message(&*payload).to_owned();
        let task = report.task.map(|task| task.name());
        let told = (report.message, task, report.payload.map(text));
        self.told.borrow_mut().push(told);
    }
}

/// A loop of nothing but its ready queue. Closed when dropped.
pub struct Loop {
    pub tasks: Rc<Tasks>,
    pub callbacks: Rc<Callbacks>,
    pub ready: Rc<ReadyQueue>,
    pub unparks: Arc<CountUnparks>,
    pub told: Rc<RefCell<Vec<Told>>>,
}

impl Loop {
    pub fn new() -> Self {
        let ready = Rc::new(ReadyQueue::new());
        let unparks = Arc::new(CountUnparks::default());
        let told: Rc<RefCell<Vec<Told>>> = Rc::default();
        let host = Rc::new(Host {
            ready: ready.clone(),
            callbacks: Rc::default(),
            told: told.clone(),
        });
        let tasks = Tasks::new(ready.clone(), unparks.clone(), host.clone());
        Self {
            tasks,
            callbacks: host.callbacks.clone(),
            ready,
            unparks,
            told,
        }
    }

    pub fn spawn<F: Future + 'static>(&self, future: F) -> Task<F::Output> {
        self.tasks.create_task(future, TaskOptions::default())
    }

    /// One iteration: runs exactly what is queued now. Returns how many entries there were.
    pub fn turn(&self) -> usize {
        let _entered = self.tasks.enter().unwrap();
        self.tasks.drain_remote(|call| call());
        let count = self.ready.len();
        for _ in 0..count {
            let entry = self.ready.pop().unwrap();
            let ReadyEntry {
                index, generation, ..
            } = entry;
            match entry.kind {
                Kind::Task => self.tasks.step(index, generation),
                Kind::Callback => drop(self.callbacks.run(CallKey { index, generation }).unwrap()),
                Kind::Completion | Kind::Bell => unreachable!("there is no driver"),
            }
        }
        count
    }

    /// Turns until nothing is queued.
    pub fn run(&self) {
        for _ in 0..100_000 {
            if self.turn() == 0 {
                return;
            }
        }
        panic!("the loop does not come to rest");
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.take()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

/// A result set from outside, as a leaf future of this crate waits for it.
pub struct Leaf<T>(Rc<RefCell<Slot<T>>>);

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> Clone for Leaf<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Leaf<T> {
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(Slot {
            value: None,
            waker: None,
        })))
    }

    pub fn set(&self, value: T) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.value = Some(value);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn has_value(&self) -> bool {
        self.0.borrow().value.is_some()
    }

    /// As a leaf of this crate awaits: cancelled by a value.
    pub async fn wait(&self) -> Result<T, Cancelled> {
        let mut wait = Wait::new();
        poll_fn(|cx| {
            wait.check()?;
            if let Some(value) = self.0.borrow_mut().value.take() {
                wait.finish();
                return Poll::Ready(Ok(value));
            }
            self.0.borrow_mut().waker = Some(cx.waker().clone());
            wait.suspend(cx, WaitsFor::Other("leaf"))?;
            Poll::Pending
        })
        .await
    }

    /// As a future of another crate awaits.
    pub async fn foreign(&self) -> T {
        poll_fn(|cx| match self.0.borrow_mut() {
            mut slot if slot.value.is_none() => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            mut slot => Poll::Ready(slot.value.take().unwrap()),
        })
        .await
    }
}

/// Gives the loop one turn; cancelled by a value.
pub async fn pause() -> Result<(), Cancelled> {
    let mut wait = Wait::new();
    let mut yielded = false;
    poll_fn(|cx| {
        wait.check()?;
        if yielded {
            wait.finish();
            return Poll::Ready(Ok(()));
        }
        yielded = true;
        wait.suspend(cx, WaitsFor::Sleep)?;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// A yield as `sleep(0)` makes it.
pub async fn pass() -> Result<(), Cancelled> {
    let mut turn = Turn::new();
    poll_fn(|cx| turn.poll(cx)).await
}

/// Gives the loop one turn, as a future of another crate does.
pub async fn foreign_pause() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// The message of a task that ended cancelled.
pub fn message_of<T: std::fmt::Debug>(result: Option<Result<T, JoinError>>) -> Option<String> {
    match result {
        Some(Err(JoinError::Cancelled(cancelled))) => cancelled.message().map(str::to_owned),
        other => panic!("not cancelled: {other:?}"),
    }
}
