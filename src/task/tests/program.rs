//! Random programs, and how the tasks of this floor run them; see `model.rs`.

use super::random::Random;
use super::*;
use std::pin::Pin;

#[derive(Debug)]
pub enum Op {
    /// Waits for an event that comes from outside.
    Wait,
    Yield,
    /// Starts a task and waits for it.
    Join(Script),
    /// Starts a task and lets it go.
    Spawn(Script),
    /// Runs a script in a scope that may expire.
    Timeout(Script),
    Cancel(usize),
    Uncancel(usize),
}

/// What a task does when it hears a cancellation.
#[derive(Clone, Copy, Debug)]
pub enum React {
    Pass,
    Swallow,
    Uncancel,
    /// Cleans up with so many yields, then passes it on.
    Clean(usize),
}

pub type Script = Rc<Vec<(Op, React)>>;

/// What happens from outside between two turns.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Set(usize),
    Expire(usize),
    Cancel(usize),
    Uncancel(usize),
    Nothing,
}

/// What was heard: task, its count of requests, what.
pub type Heard = (usize, u32, String);

pub fn script(random: &Random, depth: usize) -> Script {
    let ops = (0..1 + random.below(4)).map(|_| {
        let inner = || script(random, depth - 1);
        let op = match random.below(if depth == 0 { 8 } else { 14 }) {
            0..3 => Op::Wait,
            3..6 => Op::Yield,
            6 => Op::Cancel(random.below(8)),
            7 => Op::Uncancel(random.below(8)),
            8 | 9 => Op::Join(inner()),
            10 => Op::Spawn(inner()),
            _ => Op::Timeout(inner()),
        };
        let react = match random.below(6) {
            0 => React::Swallow,
            1 => React::Uncancel,
            2 => React::Clean(1 + random.below(2)),
            _ => React::Pass,
        };
        (op, react)
    });
    Rc::new(ops.collect())
}

pub struct Real {
    pub l: Loop,
    pub heard: RefCell<Vec<Heard>>,
    pub tasks: RefCell<Vec<LocalTask>>,
    pub handles: RefCell<Vec<Task<Result<(), Cancelled>>>>,
    leaves: RefCell<Vec<Leaf<()>>>,
    timeouts: RefCell<Vec<Canceller>>,
}

type Body = Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>;

impl Real {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            l: Loop::new(),
            heard: RefCell::default(),
            tasks: RefCell::default(),
            handles: RefCell::default(),
            leaves: RefCell::default(),
            timeouts: RefCell::default(),
        })
    }

    pub fn spawn(self: &Rc<Self>, script: &Script) -> Task<Result<(), Cancelled>> {
        let number = self.tasks.borrow().len();
        let body = self.run(script.clone(), number);
        let task = self
            .l
            .tasks
            .create_task(body, TaskOptions::default().quiet(true));
        self.tasks.borrow_mut().push(task.local());
        task
    }

    fn hear(&self, number: usize, what: impl Into<String>) {
        let count = self.tasks.borrow()[number].cancelling();
        self.heard.borrow_mut().push((number, count, what.into()));
    }

    fn named(&self, number: usize) -> LocalTask {
        let tasks = self.tasks.borrow();
        tasks[number % tasks.len()].clone()
    }

    fn run(self: &Rc<Self>, script: Script, me: usize) -> Body {
        let real = self.clone();
        Box::pin(async move {
            for (op, react) in script.iter() {
                let Err(cancelled) = real.step(op, me).await else {
                    continue;
                };
                match react {
                    React::Pass => return Err(cancelled),
                    React::Swallow => {}
                    React::Uncancel => drop(real.named(me).uncancel()),
                    React::Clean(yields) => {
                        for _ in 0..*yields {
                            let outcome = pass().await;
                            real.hear(me, outcome.map_or("cleaning, cancelled", |()| "cleaning"));
                        }
                        return Err(cancelled);
                    }
                }
            }
            Ok(())
        })
    }

    async fn step(self: &Rc<Self>, op: &Op, me: usize) -> Result<(), Cancelled> {
        let outcome = match op {
            Op::Wait => {
                let leaf = Leaf::new();
                self.leaves.borrow_mut().push(leaf.clone());
                leaf.wait().await
            }
            Op::Yield => pass().await,
            Op::Join(script) => match self.spawn(script).await {
                Ok(result) => result,
                Err(JoinError::Cancelled(cancelled)) => Err(cancelled),
                Err(JoinError::Panicked(_)) => panic!("nobody panics"),
            },
            Op::Spawn(script) => {
                let task = self.spawn(script);
                self.handles.borrow_mut().push(task);
                return Ok(());
            }
            Op::Timeout(script) => match self.timeout(script, me).await {
                Some(outcome) => outcome,
                None => {
                    self.hear(me, "expired");
                    return Ok(());
                }
            },
            Op::Cancel(whom) => {
                let accepted = self.named(*whom).cancel();
                self.hear(me, format!("cancel {accepted}"));
                return Ok(());
            }
            Op::Uncancel(whom) => {
                let left = self.named(*whom).uncancel();
                self.hear(me, format!("uncancel {left}"));
                return Ok(());
            }
        };
        self.hear(
            me,
            if outcome.is_ok() {
                "went on"
            } else {
                "cancelled"
            },
        );
        outcome
    }

    /// `None`: it expired, and the body's value carries that.
    async fn timeout(self: &Rc<Self>, script: &Script, me: usize) -> Option<Result<(), Cancelled>> {
        let scope = Scope::open();
        self.timeouts.borrow_mut().push(scope.canceller());
        let mut body = self.run(script.clone(), me);
        let value = poll_fn(|cx| {
            let _inside = scope.enter(cx);
            body.as_mut().poll(cx)
        })
        .await;
        (!scope.cancelled_inside()).then_some(value)
    }

    pub fn act(&self, act: Act) -> bool {
        match act {
            Act::Set(leaf) => {
                let _entered = self.l.tasks.enter().unwrap();
                let leaf = self.leaves.borrow()[leaf].clone();
                leaf.set(());
            }
            Act::Expire(timeout) => {
                let canceller = self.timeouts.borrow()[timeout].clone();
                canceller.cancel(None);
            }
            Act::Cancel(task) => return self.named(task).cancel(),
            Act::Uncancel(task) => drop(self.named(task).uncancel()),
            Act::Nothing => {}
        }
        false
    }
}
