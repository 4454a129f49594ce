//! Random programs against a model: who hears of which request, when, and how everything ends.
//!
//! A program is a tree of scripts: tasks that wait, yield, start and await others, open scopes with a
//! deadline, cancel and uncancel. It is run twice, by the tasks of this floor and by [`Model`], which
//! knows the rules of cancellation (`cancel.rs`) and nothing of nodes, wakers or arenas. Both write
//! down what each task hears in which order; the two lists must be equal, so no wake and no
//! cancellation is lost or made up. At the end nothing is left in any arena.

use super::program::{Act, Heard, Op, React, Real, Script, script};
use super::random::Random;
use super::*;
use std::collections::{BTreeSet, VecDeque};

/// A scope of a task: 0 is the task itself, others are timeouts, numbered from 1.
type ScopeId = usize;
const ROOT: ScopeId = 0;

enum Frame {
    Script { script: Script, at: usize },
    Timeout(ScopeId),
    Clean { left: usize, scope: ScopeId },
}

#[derive(Clone, Copy, PartialEq)]
enum Await {
    Leaf(usize),
    Yield,
    Join(usize),
}

enum State {
    New,
    Running,
    Waits {
        on: Await,
        /// Whose request it will hear of, and an inner scope's below the task's own.
        mark: Option<ScopeId>,
        under: Option<ScopeId>,
        /// Whose request went to the task it joins.
        forwarded: Option<ScopeId>,
    },
    Done {
        cancelled: bool,
    },
}

struct Person {
    frames: Vec<Frame>,
    state: State,
    queued: bool,
    count: u32,
    /// Scopes with a request for the next await that would suspend.
    kept: BTreeSet<ScopeId>,
    joiner: Option<usize>,
}

#[derive(Default)]
struct Model {
    people: Vec<Person>,
    ready: VecDeque<usize>,
    leaves: Vec<(bool, Option<usize>)>,
    /// The task of each timeout, while it is open.
    timeouts: Vec<Option<usize>>,
    heard: Vec<Heard>,
}

type Outcome = Result<(), ScopeId>;

impl Model {
    fn spawn(&mut self, script: &Script) -> usize {
        let script = script.clone();
        self.people.push(Person {
            frames: vec![Frame::Script { script, at: 0 }],
            state: State::New,
            queued: false,
            count: 0,
            kept: BTreeSet::new(),
            joiner: None,
        });
        let number = self.people.len() - 1;
        self.wake(number);
        number
    }

    fn wake(&mut self, who: usize) {
        let person = &mut self.people[who];
        if !person.queued && !matches!(person.state, State::Done { .. }) {
            person.queued = true;
            self.ready.push_back(who);
        }
    }

    fn hear(&mut self, who: usize, what: impl Into<String>) {
        let count = match self.people[who].state {
            State::Done { .. } => 0,
            _ => self.people[who].count,
        };
        self.heard.push((who, count, what.into()));
    }

    fn is_done(&self, who: usize) -> bool {
        matches!(self.people[who].state, State::Done { .. })
    }

    /// How deep a scope stands in its task; the task itself is outermost.
    fn depth(&self, who: usize, scope: ScopeId) -> usize {
        let is_it = |frame: &Frame| matches!(frame, Frame::Timeout(id) if *id == scope);
        let at = self.people[who].frames.iter().position(is_it);
        at.map_or(0, |at| at + 1)
    }

    fn cancel(&mut self, who: usize) -> bool {
        if self.is_done(who) {
            return false;
        }
        self.people[who].count += 1;
        self.request(who, ROOT);
        true
    }

    fn request(&mut self, who: usize, scope: ScopeId) {
        let (on, mark, forwarded) = match &self.people[who].state {
            State::Waits {
                on,
                mark,
                forwarded,
                ..
            } if *on != Await::Yield => (*on, *mark, *forwarded),
            _ => {
                self.people[who].kept.insert(scope);
                return;
            }
        };
        if let Await::Join(child) = on
            && mark.is_none()
            && !self.is_done(child)
        {
            let outer = forwarded.is_none_or(|old| self.depth(who, scope) <= self.depth(who, old));
            if let State::Waits { forwarded, .. } = &mut self.people[who].state
                && outer
            {
                *forwarded = Some(scope);
            }
            self.cancel(child);
            return;
        }
        if let Some(old) = mark
            && self.depth(who, old) <= self.depth(who, scope)
        {
            return;
        }
        if let State::Waits {
            mark,
            under,
            forwarded,
            ..
        } = &mut self.people[who].state
        {
            *under = if scope == ROOT { mark.take() } else { None };
            *mark = Some(scope);
            *forwarded = None;
        }
        self.wake(who);
    }

    fn uncancel(&mut self, who: usize) -> u32 {
        if self.is_done(who) {
            return 0;
        }
        let person = &mut self.people[who];
        person.count = person.count.saturating_sub(1);
        if person.count == 0 {
            person.kept.remove(&ROOT);
            if let State::Waits { mark, under, .. } = &mut person.state
                && *mark == Some(ROOT)
            {
                *mark = under.take();
            }
        }
        person.count
    }

    /// The outermost request that is kept; the others are done with that.
    fn take_kept(&mut self, who: usize) -> Option<ScopeId> {
        let kept = std::mem::take(&mut self.people[who].kept);
        kept.into_iter().min_by_key(|&scope| self.depth(who, scope))
    }

    fn turn(&mut self) {
        for _ in 0..self.ready.len() {
            let who = self.ready.pop_front().expect("it was counted");
            self.people[who].queued = false;
            self.resume(who);
        }
    }

    fn resume(&mut self, who: usize) {
        let state = std::mem::replace(&mut self.people[who].state, State::Running);
        let outcome = match state {
            State::New if !self.people[who].kept.is_empty() => return self.end(who, true),
            State::New => None,
            State::Waits {
                mark: Some(mark), ..
            } => Some(Err(mark)),
            State::Waits {
                on: on @ Await::Leaf(leaf),
                ..
            } => {
                if self.leaves[leaf].0 {
                    Some(Ok(()))
                } else {
                    match self.suspend(who, on, None) {
                        None => return,
                        outcome => outcome,
                    }
                }
            }
            State::Waits {
                on: Await::Yield, ..
            } => match self.take_kept(who) {
                Some(scope) => Some(Err(scope)),
                None => Some(Ok(())),
            },
            State::Waits {
                on: on @ Await::Join(child),
                forwarded,
                ..
            } => match self.people[child].state {
                State::Done { cancelled: false } => Some(Ok(())),
                State::Done { cancelled: true } => Some(Err(forwarded.unwrap_or(ROOT))),
                _ => match self.suspend(who, on, forwarded) {
                    None => return,
                    outcome => outcome,
                },
            },
            State::Running | State::Done { .. } => unreachable!("it is not queued"),
        };
        self.go_on(who, outcome);
    }

    /// An await that does not find its result. `None`: it waits now.
    fn suspend(&mut self, who: usize, on: Await, forwarded: Option<ScopeId>) -> Option<Outcome> {
        if let Await::Leaf(leaf) = on {
            // A leaf that was given up may wake its task for nothing.
            self.leaves[leaf].1 = Some(who);
        }
        let kept = self.take_kept(who);
        if let Some(scope) = kept
            && !matches!(on, Await::Join(_))
        {
            return Some(Err(scope));
        }
        self.people[who].state = State::Waits {
            on,
            mark: None,
            under: None,
            forwarded: forwarded.or(kept),
        };
        match on {
            Await::Leaf(_) => {}
            Await::Yield => self.wake(who),
            Await::Join(child) => {
                self.people[child].joiner = Some(who);
                if kept.is_some() {
                    self.cancel(child);
                }
            }
        }
        None
    }

    /// Runs a task until it suspends or ends; `outcome` is that of the await it stood at.
    fn go_on(&mut self, who: usize, mut outcome: Option<Outcome>) {
        loop {
            let Some(frame) = self.people[who].frames.last_mut() else {
                let carried = matches!(outcome, Some(Err(_)));
                let undelivered = self.people[who].kept.contains(&ROOT);
                return self.end(who, carried || undelivered);
            };
            match (frame, outcome.take()) {
                (Frame::Clean { left, scope }, heard) => {
                    let scope = *scope;
                    if let Some(heard) = heard {
                        *left -= 1;
                        let done = *left == 0;
                        let what = if heard.is_ok() {
                            "cleaning"
                        } else {
                            "cleaning, cancelled"
                        };
                        self.hear(who, what);
                        if done {
                            self.pop_script(who);
                            outcome = Some(Err(scope));
                            self.leave(who, &mut outcome);
                            continue;
                        }
                    }
                    outcome = self.suspend(who, Await::Yield, None);
                    if outcome.is_none() {
                        return;
                    }
                }
                (Frame::Script { script, at }, Some(heard)) => {
                    let react = script[*at].1;
                    *at += 1;
                    self.hear(
                        who,
                        if heard.is_ok() {
                            "went on"
                        } else {
                            "cancelled"
                        },
                    );
                    match (heard, react) {
                        (Ok(()), _) | (Err(_), React::Swallow) => {}
                        (Err(_), React::Uncancel) => drop(self.uncancel(who)),
                        (Err(scope), React::Clean(left)) => {
                            self.people[who].frames.push(Frame::Clean { left, scope });
                        }
                        (Err(scope), React::Pass) => {
                            self.people[who].frames.pop();
                            outcome = Some(Err(scope));
                            self.leave(who, &mut outcome);
                        }
                    }
                }
                (Frame::Script { script, at }, None) => {
                    let (script, number) = (script.clone(), *at);
                    let Some((op, _)) = script.get(number) else {
                        self.people[who].frames.pop();
                        outcome = Some(Ok(()));
                        self.leave(who, &mut outcome);
                        continue;
                    };
                    outcome = match op {
                        Op::Wait => {
                            self.leaves.push((false, None));
                            let leaf = Await::Leaf(self.leaves.len() - 1);
                            self.suspend(who, leaf, None)
                        }
                        Op::Yield => self.suspend(who, Await::Yield, None),
                        Op::Join(script) => {
                            let child = self.spawn(script);
                            self.suspend(who, Await::Join(child), None)
                        }
                        Op::Timeout(script) => {
                            self.timeouts.push(Some(who));
                            let (script, at) = (script.clone(), 0);
                            let scope = self.timeouts.len();
                            let frames = &mut self.people[who].frames;
                            frames.push(Frame::Timeout(scope));
                            frames.push(Frame::Script { script, at });
                            continue;
                        }
                        Op::Spawn(_) | Op::Cancel(_) | Op::Uncancel(_) => {
                            self.at_once(who, op);
                            continue;
                        }
                    };
                    if outcome.is_none() {
                        return;
                    }
                }
                (Frame::Timeout(_), _) => unreachable!("a script stands on it"),
            }
        }
    }

    /// What needs no await.
    fn at_once(&mut self, who: usize, op: &Op) {
        let people = self.people.len();
        match op {
            Op::Spawn(script) => drop(self.spawn(script)),
            Op::Cancel(whom) => {
                let accepted = self.cancel(whom % people);
                self.hear(who, format!("cancel {accepted}"));
            }
            Op::Uncancel(whom) => {
                let left = self.uncancel(whom % people);
                self.hear(who, format!("uncancel {left}"));
            }
            _ => unreachable!("it awaits"),
        }
        if let Some(Frame::Script { at, .. }) = self.people[who].frames.last_mut() {
            *at += 1;
        }
    }

    fn pop_script(&mut self, who: usize) {
        let frames = &mut self.people[who].frames;
        frames.pop();
        frames.pop();
    }

    /// A script returned: a timeout it ran in ends with it. What is left of `outcome` is for the
    /// script below.
    fn leave(&mut self, who: usize, outcome: &mut Option<Outcome>) {
        let Some(&Frame::Timeout(scope)) = self.people[who].frames.last() else {
            return;
        };
        let person = &mut self.people[who];
        person.frames.pop();
        person.kept.remove(&scope);
        self.timeouts[scope - 1] = None;
        if *outcome == Some(Err(scope)) {
            *outcome = None;
            self.hear(who, "expired");
            if let Some(Frame::Script { at, .. }) = self.people[who].frames.last_mut() {
                *at += 1;
            }
        }
    }

    fn end(&mut self, who: usize, cancelled: bool) {
        self.people[who].state = State::Done { cancelled };
        if let Some(joiner) = self.people[who].joiner.take()
            && let State::Waits { on, .. } = self.people[joiner].state
            && on == Await::Join(who)
        {
            self.wake(joiner);
        }
    }

    /// Mostly about one task, so that acts meet.
    fn choose(&self, random: &Random, focus: usize) -> Act {
        let person = || match random.below(3) {
            0 => random.below(self.people.len()),
            _ => focus,
        };
        let timeout = || {
            let open = (0..self.timeouts.len()).filter(|&at| self.timeouts[at] == Some(focus));
            let open: Vec<usize> = open.collect();
            match open.len() {
                0 => random.below(self.timeouts.len()),
                count => open[random.below(count)],
            }
        };
        match random.below(8) {
            0..2 if !self.leaves.is_empty() => Act::Set(random.below(self.leaves.len())),
            2 | 3 => Act::Cancel(person()),
            4 | 5 => Act::Uncancel(person()),
            6 if !self.timeouts.is_empty() => Act::Expire(timeout()),
            _ => Act::Nothing,
        }
    }

    fn act(&mut self, act: Act) -> bool {
        let people = self.people.len();
        match act {
            Act::Set(leaf) => {
                self.leaves[leaf].0 = true;
                if let Some(who) = self.leaves[leaf].1.take()
                    && let State::Waits { .. } = self.people[who].state
                {
                    self.wake(who);
                }
            }
            Act::Expire(timeout) => {
                if let Some(who) = self.timeouts[timeout] {
                    self.request(who, timeout + 1);
                }
            }
            Act::Cancel(task) => return self.cancel(task % people),
            Act::Uncancel(task) => drop(self.uncancel(task % people)),
            Act::Nothing => {}
        }
        false
    }
}

/// Runs one program both ways. Returns how many requests were heard of.
fn compare(seed: u64) -> usize {
    let random = Random::new(seed);
    let real = Real::new();
    let mut model = Model::default();
    for turn in 0..160 {
        if turn < 4 {
            let script = script(&random, 3);
            let task = real.spawn(&script);
            real.handles.borrow_mut().push(task);
            model.spawn(&script);
        }
        let mut acts = Vec::new();
        let focus = random.below(model.people.len());
        for _ in 0..random.below(5) {
            let act = model.choose(&random, focus);
            let same = real.act(act) == model.act(act);
            acts.push((act, same));
        }
        real.l.turn();
        model.turn();
        let heard = real.heard.borrow();
        assert!(
            acts.iter().all(|act| act.1) && *heard == model.heard,
            "seed {seed}, turn {turn}, {acts:?}\n real: {:?}\nmodel: {:?}",
            &heard[heard.len().saturating_sub(12)..],
            &model.heard[model.heard.len().saturating_sub(12)..]
        );
    }
    // At last everybody gets what they wait for.
    loop {
        if let Some(leaf) = model.leaves.iter().position(|leaf| !leaf.0) {
            assert_eq!(real.act(Act::Set(leaf)), model.act(Act::Set(leaf)));
        } else if model.ready.is_empty() {
            break;
        }
        real.l.turn();
        model.turn();
    }
    real.l.run();
    assert_eq!(*real.heard.borrow(), model.heard, "seed {seed}");
    for (number, task) in real.tasks.borrow().iter().enumerate() {
        assert!(
            model.is_done(number),
            "seed {seed}: a program that does not end"
        );
        assert!(
            task.done(),
            "seed {seed}: task {number} waits for a wake that was lost"
        );
    }
    let detached = real.handles.take();
    for task in &detached {
        let number = real
            .tasks
            .borrow()
            .iter()
            .position(|known| known.id() == task.id());
        let State::Done { cancelled } = model.people[number.unwrap()].state else {
            unreachable!("it is done")
        };
        assert_eq!(task.cancelled(), cancelled, "seed {seed}: task {number:?}");
    }
    drop(detached);
    assert_eq!(real.l.told(), [], "seed {seed}");
    assert!(real.l.tasks.is_empty());
    assert_eq!(
        real.l.tasks.nodes.in_use(),
        0,
        "seed {seed}: wait nodes left"
    );
    assert_eq!(real.l.tasks.scopes.in_use(), 0, "seed {seed}: scopes left");
    assert_eq!(real.l.callbacks.len(), 0, "seed {seed}: callbacks left");
    assert_eq!(Rc::strong_count(&real), 1, "seed {seed}: a body is left");
    model
        .heard
        .iter()
        .filter(|heard| heard.2.contains("cancelled") || heard.2 == "expired")
        .count()
}

#[test]
fn random_programs_hear_what_the_model_hears() {
    let seeds = std::env::var("RINGLOOP_SEEDS").map_or(400, |seeds| seeds.parse().unwrap());
    let heard: usize = (0..seeds).map(compare).sum();
    assert!(
        heard as u64 > seeds,
        "the programs say nothing about cancellation"
    );
}
