//! Random programs: tasks that wait, join, open scopes, cancel each other and themselves, panic,
//! and are aborted, dropped and detached, in every order. Nothing may be left behind.

use super::*;
use std::cell::Cell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub struct Random(Cell<u64>);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))
    }

    pub fn below(&self, bound: usize) -> usize {
        // xorshift64*
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

struct World {
    random: Random,
    tasks: Rc<Tasks>,
    leaves: Vec<Leaf<()>>,
    cancellers: RefCell<Vec<Canceller>>,
    kept: RefCell<Vec<Cancelled>>,
    /// Futures that one task began and another may end.
    loose: RefCell<Vec<Body>>,
}

type Body = std::pin::Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>;

impl World {
    fn leaf(&self) -> Leaf<()> {
        self.leaves[self.random.below(self.leaves.len())].clone()
    }

    fn options(&self) -> TaskOptions {
        let options = TaskOptions::default().quiet(self.random.below(2) == 0);
        if self.random.below(8) == 0 {
            return TaskOptions::named("named").quiet(true);
        }
        options
    }

    /// A body of some steps, which may have bodies inside.
    fn body(self: &Rc<Self>, depth: usize) -> Body {
        let world = self.clone();
        Box::pin(async move {
            for _ in 0..1 + world.random.below(4) {
                let outcome = world.step(depth).await;
                match world.random.below(6) {
                    0 => drop(outcome),
                    1 => {
                        if let Err(cancelled) = outcome {
                            world.kept.borrow_mut().push(cancelled);
                        }
                    }
                    _ => outcome?,
                }
            }
            Ok(())
        })
    }

    async fn step(self: &Rc<Self>, depth: usize) -> Result<(), Cancelled> {
        let inner = || self.body(depth - 1);
        match self.random.below(if depth == 0 { 9 } else { 15 }) {
            0 => self.leaf().wait().await,
            1 => {
                self.leaf().foreign().await;
                Ok(())
            }
            2 if self.random.below(2) == 0 => pass().await,
            2 => pause().await,
            3 => {
                foreign_pause().await;
                Ok(())
            }
            4 => {
                let me = current().unwrap();
                match self.random.below(3) {
                    0 => drop(me.cancel()),
                    1 => drop(me.uncancel()),
                    _ => me.abort(),
                }
                Ok(())
            }
            5 => Err(Cancelled::new()),
            6 if self.random.below(3) == 0 => panic!("injected"),
            7 => {
                let cancellers = self.cancellers.borrow();
                if !cancellers.is_empty() {
                    let canceller = cancellers[self.random.below(cancellers.len())].clone();
                    drop(cancellers);
                    canceller.cancel(Some("scope".into()));
                }
                Ok(())
            }
            6 | 8 => bare(self.leaf().wait()).await,
            9 => {
                let child = self.tasks.create_task(inner(), self.options());
                if self.random.below(4) == 0 {
                    poll_fn(|cx| child.poll_done(cx)).await;
                }
                match child.await {
                    Ok(result) => result,
                    Err(JoinError::Cancelled(cancelled)) => Err(cancelled),
                    Err(JoinError::Panicked(_)) => Ok(()),
                }
            }
            10 => {
                drop(self.tasks.create_task(inner(), self.options()));
                Ok(())
            }
            11 => self.scoped(inner()).await,
            12 => self.both(inner(), inner()).await,
            13 => {
                self.loose.borrow_mut().push(inner());
                Ok(())
            }
            _ => {
                let count = self.loose.borrow().len();
                if count == 0 {
                    return Ok(());
                }
                let mut loose = self
                    .loose
                    .borrow_mut()
                    .swap_remove(self.random.below(count));
                let polls = self.random.below(3);
                let mut polled = 0;
                // Begun here; ended here, or given on.
                let done = poll_fn(|cx| {
                    polled += 1;
                    match loose.as_mut().poll(cx) {
                        Poll::Ready(result) => Poll::Ready(Some(result)),
                        Poll::Pending if polled > polls => Poll::Ready(None),
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await;
                done.unwrap_or_else(|| {
                    self.loose.borrow_mut().push(loose);
                    Ok(())
                })
            }
        }
    }

    async fn scoped(self: &Rc<Self>, body: Body) -> Result<(), Cancelled> {
        let scope = Scope::open();
        self.cancellers.borrow_mut().push(scope.canceller());
        let mut body = Some(body);
        poll_fn(|cx| {
            if scope.must_drop() {
                body = None;
                return Poll::Ready(Ok(()));
            }
            let polled = {
                let _inside = scope.enter(cx);
                body.as_mut().unwrap().as_mut().poll(cx)
            };
            if polled.is_pending() && scope.must_drop() {
                body = None;
                return Poll::Ready(Ok(()));
            }
            polled
        })
        .await
    }

    /// Both at once; the second may be left when the first has ended.
    async fn both(&self, mut a: Body, mut b: Body) -> Result<(), Cancelled> {
        let leave = self.random.below(2) == 0;
        let (mut first, mut second) = (None, None);
        poll_fn(|cx| {
            if first.is_none()
                && let Poll::Ready(result) = a.as_mut().poll(cx)
            {
                first = Some(result);
                if leave {
                    return Poll::Ready(());
                }
            }
            if second.is_none()
                && let Poll::Ready(result) = b.as_mut().poll(cx)
            {
                second = Some(result);
            }
            if first.is_some() && second.is_some() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        first.unwrap_or(Ok(())).and(second.unwrap_or(Ok(())))
    }
}

fn run(seed: u64) {
    let l = Loop::new();
    let world = Rc::new(World {
        random: Random::new(seed),
        tasks: l.tasks.clone(),
        leaves: (0..6).map(|_| Leaf::new()).collect(),
        cancellers: RefCell::default(),
        kept: RefCell::default(),
        loose: RefCell::default(),
    });
    let mut handles: Vec<Task<Result<(), Cancelled>>> = Vec::new();
    for _ in 0..80 {
        for _ in 0..world.random.below(3) {
            handles.push(l.tasks.create_task(world.body(3), world.options()));
        }
        let below = |bound: usize| world.random.below(bound.max(1));
        match below(10) {
            0..3 if !handles.is_empty() => {
                let task = &handles[below(handles.len())];
                match below(5) {
                    0 => task.abort(),
                    1 => drop(task.uncancel()),
                    2 => drop(task.cancel_with("again")),
                    _ => drop(task.cancel()),
                }
            }
            3 if !handles.is_empty() => drop(handles.swap_remove(below(handles.len()))),
            4 if !handles.is_empty() => {
                let index = below(handles.len());
                drop(handles[index].result());
            }
            5 => world.kept.borrow_mut().clear(),
            6..9 => {
                let _entered = l.tasks.enter().unwrap();
                world.leaf().set(());
            }
            _ => {}
        }
        for task in all_tasks(Some(l.tasks.loop_id())).unwrap() {
            let task = l.tasks.local(&task).unwrap();
            drop(task.waits_for());
        }
        l.turn();
    }
    l.tasks.close();
    assert!(l.tasks.is_empty());
    drop(handles);
    // Loose bodies may hold handles of tasks, and these more.
    while let Some(body) = { world.loose.borrow_mut().pop() } {
        drop(body);
    }
    world.kept.borrow_mut().clear();
    world.cancellers.borrow_mut().clear();
    assert_eq!(l.tasks.nodes.in_use(), 0, "seed {seed}: wait nodes left");
    assert_eq!(l.tasks.scopes.in_use(), 0, "seed {seed}: scopes left");
    let known = [Report::NEVER_RETRIEVED, Report::DESTROYED];
    for (message, _, payload) in l.told() {
        assert!(
            known.contains(&message),
            "seed {seed}: {message} {payload:?}"
        );
        assert!(payload.is_none_or(|text| text == "injected"), "seed {seed}");
    }
    assert_eq!(Rc::strong_count(&world), 1, "seed {seed}: a body is left");
}

#[test]
fn random_programs_leave_nothing_behind() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if panic_message_of(info) != Some("injected") {
            hook(info);
        }
    }));
    let seeds = std::env::var("RINGLOOP_SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            panic!("seed {seed}: {}", panic_message(&*payload));
        }
    }
}

fn panic_message_of<'a>(info: &'a std::panic::PanicHookInfo<'_>) -> Option<&'a str> {
    info.payload().downcast_ref::<&str>().copied()
}

#[test]
fn a_pending_body_counts_as_left_behind() {
    // The check above can fail: a node of a wait that is still there is counted.
    let l = Loop::new();
    let leaf = Leaf::<()>::new();
    let far = leaf.clone();
    let _task = l.spawn(async move {
        let scope = Scope::open();
        let _ = far.wait().await;
        drop(scope);
        pending::<()>().await;
    });
    l.run();
    assert_eq!((l.tasks.nodes.in_use(), l.tasks.scopes.in_use()), (1, 1));
    leaf.set(());
    l.run();
    assert_eq!((l.tasks.nodes.in_use(), l.tasks.scopes.in_use()), (0, 0));
}
