//! What the programs of `random.rs` do, by rules instead of a loop.
//!
//! Time goes from event to event: a sleep that ends, a timeout that expires, a cancellation from
//! outside. Everything else takes none. A cancellation has a source: a timeout or a group (a scope),
//! or the task. When the scope has closed and its cancellation goes on, the cancellation counts for
//! whatever scope it is in (`Moved`).

use std::collections::BTreeSet;
use std::rc::Rc;

/// A program.
#[derive(Debug)]
pub enum Node {
    Sleep(u64),
    Fail(u32),
    Seq(Vec<Rc<Self>>),
    /// Drops a cancellation and goes on, maybe with `uncancel`.
    Catch {
        part: Rc<Self>,
        uncancel: bool,
    },
    /// Cleans up when it is cancelled, and passes that on.
    OnCancel {
        part: Rc<Self>,
        clean_up: Rc<Self>,
    },
    Timeout {
        id: u32,
        time: u64,
        part: Rc<Self>,
    },
    Group {
        id: u32,
        children: Vec<Rc<Self>>,
        body: Rc<Self>,
    },
}

/// How a program ends.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Finished,
    Failed(Vec<u32>),
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Task,
    Scope(u32),
    Moved,
}

/// A cancellation, and which of the requests to its task it is.
type Cancel = (Source, u64);

#[derive(Debug)]
enum Out {
    Ok,
    Failed(Vec<u32>),
    Cancelled(Cancel),
}

/// What a task knows.
#[derive(Default)]
struct Task {
    cancelling: u32,
    requests: u64,
    /// What the next suspension takes; the outermost comes first.
    pending: BTreeSet<Source>,
}

impl Task {
    fn take_pending(&mut self) -> Option<Cancel> {
        let source = *self.pending.first()?;
        self.pending.clear();
        Some((source, self.request_of(source)))
    }

    fn request_of(&self, source: Source) -> u64 {
        if source == Source::Task {
            self.requests
        } else {
            0
        }
    }

    /// A cancellation that gave way to a failure.
    fn give_back(&mut self, (source, request): Cancel) {
        let asked = match source {
            Source::Task => self.cancelling > 0 && request == self.requests,
            Source::Scope(_) => true,
            Source::Moved => false,
        };
        if asked {
            self.pending.insert(source);
        }
    }

    fn uncancel(&mut self) {
        self.cancelling = self.cancelling.saturating_sub(1);
        if self.cancelling == 0 {
            self.pending.remove(&Source::Task);
        }
    }
}

/// A part that is suspended.
enum Run<'a> {
    Sleep(u64),
    Seq(&'a [Rc<Node>], Box<Self>),
    Catch(bool, Box<Self>),
    OnCancel(&'a Node, Box<Self>),
    CleanUp(Cancel, Box<Self>),
    Timeout {
        id: u32,
        when: u64,
        rang: bool,
        cancelling: u32,
        part: Box<Self>,
    },
    Group(Box<Group<'a>>),
}

struct Group<'a> {
    id: u32,
    body: Option<Run<'a>>,
    children: Vec<(Task, Run<'a>)>,
    failed: Vec<u32>,
    aborting: bool,
    /// The body's own cancellation from outside.
    carried: Option<Cancel>,
    /// Those that came after the body's end.
    at_exit: Vec<Cancel>,
}

/// A part that goes on, or its end.
type Next<'a> = Result<Run<'a>, Out>;

fn start<'a>(node: &'a Node, now: u64, task: &mut Task) -> Next<'a> {
    match node {
        Node::Sleep(time) => match task.take_pending() {
            Some(cancel) => Err(Out::Cancelled(cancel)),
            None => Ok(Run::Sleep(now + time)),
        },
        Node::Fail(number) => Err(Out::Failed(vec![*number])),
        Node::Seq(parts) => start_seq(parts, now, task),
        Node::Catch { part, uncancel } => {
            let next = start(part, now, task);
            catch(*uncancel, next, task)
        }
        Node::OnCancel { part, clean_up } => {
            let next = start(part, now, task);
            on_cancel(clean_up, next, now, task)
        }
        Node::Timeout { id, time, part } => {
            let cancelling = task.cancelling;
            let next = start(part, now, task);
            limited(*id, now + time, false, cancelling, next, task)
        }
        Node::Group { id, children, body } => {
            let mut made = Vec::new();
            for child in children {
                let mut task = Task::default();
                match start(child, now, &mut task) {
                    Ok(run) => made.push((task, run)),
                    Err(_) => unreachable!("every part begins with a sleep"),
                }
            }
            let mut group = Box::new(Group {
                id: *id,
                body: None,
                children: made,
                failed: Vec::new(),
                aborting: false,
                carried: None,
                at_exit: Vec::new(),
            });
            let next = start(body, now, task);
            group.body_goes_on(next, now, task);
            group.settle(now, task)
        }
    }
}

fn start_seq<'a>(parts: &'a [Rc<Node>], now: u64, task: &mut Task) -> Next<'a> {
    let Some((first, rest)) = parts.split_first() else {
        return Err(Out::Ok);
    };
    let next = start(first, now, task);
    seq(rest, next, now, task)
}

fn seq<'a>(rest: &'a [Rc<Node>], next: Next<'a>, now: u64, task: &mut Task) -> Next<'a> {
    match next {
        Ok(run) => Ok(Run::Seq(rest, Box::new(run))),
        Err(Out::Ok) => start_seq(rest, now, task),
        ended => ended,
    }
}

fn catch<'a>(uncancel: bool, next: Next<'a>, task: &mut Task) -> Next<'a> {
    match next {
        Ok(run) => Ok(Run::Catch(uncancel, Box::new(run))),
        Err(Out::Cancelled(_)) => {
            if uncancel {
                task.uncancel();
            }
            Err(Out::Ok)
        }
        ended => ended,
    }
}

fn on_cancel<'a>(clean_up: &'a Node, next: Next<'a>, now: u64, task: &mut Task) -> Next<'a> {
    match next {
        Ok(run) => Ok(Run::OnCancel(clean_up, Box::new(run))),
        Err(Out::Cancelled(cancel)) => {
            let next = start(clean_up, now, task);
            cleaning_up(cancel, next)
        }
        ended => ended,
    }
}

fn cleaning_up(cancel: Cancel, next: Next<'_>) -> Next<'_> {
    match next {
        Ok(run) => Ok(Run::CleanUp(cancel, Box::new(run))),
        Err(Out::Failed(numbers)) => Err(Out::Failed(numbers)),
        Err(Out::Ok | Out::Cancelled(_)) => Err(Out::Cancelled(cancel)),
    }
}

fn limited<'a>(
    id: u32,
    when: u64,
    rang: bool,
    cancelling: u32,
    next: Next<'a>,
    task: &mut Task,
) -> Next<'a> {
    let own = Source::Scope(id);
    let out = match next {
        Ok(run) => {
            return Ok(Run::Timeout {
                id,
                when,
                rang,
                cancelling,
                part: Box::new(run),
            });
        }
        Err(out) => out,
    };
    task.pending.remove(&own);
    let inside = |source| source == own || source == Source::Moved;
    Err(match out {
        // A cancellation from inside is its expiry, unless the task was asked to stop meanwhile.
        Out::Cancelled((source, _)) if inside(source) => {
            if rang && task.cancelling <= cancelling {
                Out::Failed(vec![id])
            } else {
                Out::Cancelled((Source::Moved, 0))
            }
        }
        out => out,
    })
}

impl<'a> Group<'a> {
    fn abort(&mut self, now: u64, task: &mut Task) {
        if std::mem::replace(&mut self.aborting, true) {
            return;
        }
        for (mut child, run) in std::mem::take(&mut self.children) {
            child.cancelling += 1;
            child.requests += 1;
            let cancel = (Source::Task, child.requests);
            let next = run.cancel(cancel, now, &mut child);
            self.child_goes_on(child, next);
        }
        if let Some(body) = self.body.take() {
            let next = body.cancel((Source::Scope(self.id), 0), now, task);
            self.body_goes_on(next, now, task);
        }
    }

    fn child_goes_on(&mut self, child: Task, next: Next<'a>) {
        match next {
            Ok(run) => self.children.push((child, run)),
            Err(Out::Failed(numbers)) => self.failed.extend(numbers),
            Err(Out::Ok | Out::Cancelled(_)) => {}
        }
    }

    fn body_goes_on(&mut self, next: Next<'a>, now: u64, task: &mut Task) {
        match next {
            Ok(run) => self.body = Some(run),
            Err(Out::Ok) => {}
            Err(Out::Failed(numbers)) => {
                self.failed.extend(numbers);
                self.abort(now, task);
            }
            Err(Out::Cancelled((source, _)))
                if self.aborting && matches!(source, Source::Scope(id) if id == self.id) => {}
            // What a scope inside left behind is no more than an echo of the abort.
            Err(Out::Cancelled((Source::Moved, _))) if self.aborting => {}
            Err(Out::Cancelled(cancel)) => {
                self.carried = Some(cancel);
                self.abort(now, task);
            }
        }
    }

    /// After something happened inside.
    fn settle(mut self: Box<Self>, now: u64, task: &mut Task) -> Next<'a> {
        // A child that failed stops the others, which may fail at once.
        if !self.failed.is_empty() {
            self.abort(now, task);
        }
        if self.body.is_none()
            && !self.children.is_empty()
            && let Some(cancel) = task.take_pending()
        {
            self.at_exit.push(cancel);
            self.abort(now, task);
        }
        if self.body.is_some() || !self.children.is_empty() {
            return Ok(Run::Group(self));
        }
        task.pending.remove(&Source::Scope(self.id));
        if !self.failed.is_empty() {
            for cancel in self.carried.into_iter().chain(self.at_exit) {
                task.give_back(cancel);
            }
            return Err(Out::Failed(self.failed));
        }
        Err(match self.carried.or(self.at_exit.first().copied()) {
            Some(cancel) => Out::Cancelled(cancel),
            None => Out::Ok,
        })
    }
}

impl<'a> Run<'a> {
    /// When something happens next.
    fn next(&self) -> u64 {
        match self {
            Self::Sleep(until) => *until,
            Self::Seq(_, part)
            | Self::Catch(_, part)
            | Self::OnCancel(_, part)
            | Self::CleanUp(_, part) => part.next(),
            Self::Timeout {
                when, rang, part, ..
            } => {
                if *rang {
                    part.next()
                } else {
                    part.next().min(*when)
                }
            }
            Self::Group(group) => {
                let children = group.children.iter().map(|(_, run)| run.next());
                let all = children.chain(group.body.iter().map(Run::next));
                all.min().expect("a group that waits waits for something")
            }
        }
    }

    /// It happens.
    fn fire(self, now: u64, task: &mut Task) -> Next<'a> {
        match self {
            Self::Sleep(_) => Err(Out::Ok),
            Self::Timeout {
                id,
                when,
                rang: false,
                cancelling,
                part,
            } if when == now => {
                let next = part.cancel((Source::Scope(id), 0), now, task);
                limited(id, when, true, cancelling, next, task)
            }
            Self::Group(mut group) => {
                let due = group.children.iter().position(|(_, run)| run.next() == now);
                if let Some(at) = due {
                    let (mut child, run) = group.children.remove(at);
                    let next = run.fire(now, &mut child);
                    group.child_goes_on(child, next);
                } else if let Some(body) = group.body.take() {
                    let next = body.fire(now, task);
                    group.body_goes_on(next, now, task);
                }
                group.settle(now, task)
            }
            other => other.pass(now, task, |part, task| part.fire(now, task)),
        }
    }

    /// It is cancelled.
    fn cancel(self, cancel: Cancel, now: u64, task: &mut Task) -> Next<'a> {
        match self {
            Self::Sleep(_) => Err(Out::Cancelled(cancel)),
            Self::Group(mut group) => {
                if let Some(body) = group.body.take() {
                    let next = body.cancel(cancel, now, task);
                    group.body_goes_on(next, now, task);
                } else {
                    group.at_exit.push(cancel);
                    group.abort(now, task);
                }
                group.settle(now, task)
            }
            other => other.pass(now, task, |part, task| part.cancel(cancel, now, task)),
        }
    }

    /// Something happens to the part inside.
    fn pass(
        self,
        now: u64,
        task: &mut Task,
        happens: impl FnOnce(Self, &mut Task) -> Next<'a>,
    ) -> Next<'a> {
        match self {
            Self::Seq(rest, part) => {
                let next = happens(*part, task);
                seq(rest, next, now, task)
            }
            Self::Catch(uncancel, part) => {
                let next = happens(*part, task);
                catch(uncancel, next, task)
            }
            Self::OnCancel(clean_up, part) => {
                let next = happens(*part, task);
                on_cancel(clean_up, next, now, task)
            }
            Self::CleanUp(cancel, part) => cleaning_up(cancel, happens(*part, task)),
            Self::Timeout {
                id,
                when,
                rang,
                cancelling,
                part,
            } => {
                let next = happens(*part, task);
                limited(id, when, rang, cancelling, next, task)
            }
            Self::Sleep(_) | Self::Group(_) => unreachable!("they have no part of this kind"),
        }
    }
}

/// How the program ends, when, and how many requests stand then.
pub fn simulate(program: &Node, cancels: &[u64]) -> (End, u64, u32) {
    let mut task = Task::default();
    let mut cancels = cancels.iter().copied().peekable();
    let mut now = 0;
    let mut next = start(program, now, &mut task);
    let out = loop {
        let run = match next {
            Ok(run) => run,
            Err(out) => break out,
        };
        now = run.next();
        next = match cancels.next_if(|&time| time < now) {
            Some(time) => {
                now = time;
                task.cancelling += 1;
                task.requests += 1;
                let cancel = (Source::Task, task.requests);
                run.cancel(cancel, now, &mut task)
            }
            None => run.fire(now, &mut task),
        };
    };
    let end = match out {
        _ if task.pending.contains(&Source::Task) => End::Cancelled,
        Out::Ok => End::Finished,
        Out::Failed(mut numbers) => {
            numbers.sort_unstable();
            End::Failed(numbers)
        }
        Out::Cancelled(_) => End::Cancelled,
    };
    (end, now, task.cancelling)
}
