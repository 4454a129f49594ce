//! What random programs are made of: tasks that wait for something and that may be stopped in every
//! way there is.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringloop::{Cancelled, Task, timeout};
use uring_tests::Rng;

use crate::support::Turned;

/// Iterations after which whatever was woken has run, and what that woke.
const LONG_ENOUGH: usize = 30;

/// Polls `inner` until that is done, or the race is lost: then drops it, whatever it had to say.
struct Race<F> {
    inner: Option<Pin<Box<F>>>,
    line: Rc<Line>,
}

#[derive(Default)]
struct Line {
    lost: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl<F: Future> Future for Race<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.line.lost.get() {
            self.inner = None;
            return Poll::Ready(None);
        }
        let inner = self.inner.as_mut().expect("polled until it is done");
        match inner.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => {
                self.line.waker.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

/// A task that waits once.
pub struct Actor {
    pub id: usize,
    task: Task<()>,
    line: Rc<Line>,
    /// It was asked to stop, or will be as soon as it suspends: it need not come to anything.
    condemned: Rc<Cell<bool>>,
}

impl Actor {
    pub fn done(&self) -> bool {
        self.task.done()
    }
}

/// All of them.
#[derive(Default)]
pub struct Actors {
    all: Vec<Actor>,
    next: usize,
}

impl Actors {
    /// A task that waits for `wait` and tells `end` what came of it: `None` when it was stopped.
    /// A sixth of them is stopped by a timeout at its first suspension.
    pub fn add<T: 'static>(
        &mut self,
        l: &Turned,
        rng: &mut Rng,
        wait: impl AsyncFnOnce(usize) -> Result<T, Cancelled> + 'static,
        end: impl FnOnce(usize, Option<T>) + 'static,
    ) -> usize {
        let id = self.next;
        self.next += 1;
        let short = rng.chance(1, 6);
        let (line, condemned) = (Rc::new(Line::default()), Rc::new(Cell::new(short)));
        let race = line.clone();
        let task = l.spawn(async move {
            // An abort drops the body: that is told too.
            let mut end = AtLast(id, Some(Box::new(end)));
            let wait = async move {
                let waiting = wait(id);
                if short {
                    timeout(Duration::ZERO, waiting).await.ok()?.ok()
                } else {
                    waiting.await.ok()
                }
            };
            let outcome = Race {
                inner: Some(Box::pin(wait)),
                line: race,
            }
            .await
            .flatten();
            if let Some(end) = end.1.take() {
                end(id, outcome);
            }
        });
        self.all.push(Actor {
            id,
            task,
            line,
            condemned,
        });
        id
    }

    /// Stops somebody who has not been stopped: by a request, a drop of the whole task, or a drop
    /// of the wait alone. Returns whom.
    pub fn stop_one(&mut self, rng: &mut Rng) -> Option<usize> {
        let live: Vec<_> = self.live().collect();
        if live.is_empty() {
            return None;
        }
        let actor = live[rng.below(live.len())];
        match rng.below(3) {
            0 => assert!(actor.task.cancel()),
            1 => actor.task.abort(),
            _ => {
                actor.line.lost.set(true);
                if let Some(waker) = actor.line.waker.take() {
                    waker.wake();
                }
            }
        }
        actor.condemned.set(true);
        Some(actor.id)
    }

    /// Those who wait and should get what they wait for.
    pub fn live(&self) -> impl Iterator<Item = &Actor> {
        let live = |actor: &&Actor| !actor.done() && !actor.condemned.get();
        self.all.iter().filter(live)
    }

    pub fn is_condemned(&self, id: usize) -> bool {
        self.all[id].condemned.get()
    }

    /// How many have not ended.
    pub fn pending(&self) -> usize {
        self.all.iter().filter(|actor| !actor.done()).count()
    }
}

/// Tells the end of a body that is dropped.
struct AtLast<T>(usize, Option<End<T>>);

type End<T> = Box<dyn FnOnce(usize, Option<T>)>;

impl<T> Drop for AtLast<T> {
    fn drop(&mut self) {
        if let Some(end) = self.1.take() {
            end(self.0, None);
        }
    }
}

/// Runs until nothing changes any more.
pub fn settle(l: &Turned) {
    l.turns(LONG_ENOUGH);
}
