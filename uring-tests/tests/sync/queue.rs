use std::pin::pin;
use std::rc::Rc;

use ringloop::sync::{
    GetError, GetNowaitError, LifoQueue, PriorityQueue, PutError, PutNowaitError, Queue,
    QueueStore, TaskDoneTooOften,
};
use ringloop::{Cancelled, Task, yield_now};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

use crate::support::{Turned, cancelled, ended, poll_once};

/// A task that gets one item and says which.
pub fn getter(l: &Turned, queue: &Rc<Queue<u32>>, log: &Order<u32>) -> Task<Result<(), GetError>> {
    let (queue, log) = (queue.clone(), log.clone());
    l.spawn(async move {
        log.add(queue.get().await?);
        Ok(())
    })
}

/// A task that puts one item.
pub fn putter(l: &Turned, queue: &Rc<Queue<u32>>, item: u32) -> Task<Result<(), PutError<u32>>> {
    let queue = queue.clone();
    l.spawn(async move { queue.put(item).await })
}

pub fn queue(maxsize: usize, items: impl IntoIterator<Item = u32>) -> Rc<Queue<u32>> {
    let queue = Queue::new(maxsize);
    for item in items {
        queue.put_nowait(item).expect("there is room");
    }
    Rc::new(queue)
}

/// How many wait, as the text shows it.
#[track_caller]
pub fn waiting(queue: &Queue<u32>, getters: usize, putters: usize) {
    let text = format!("{queue:?}");
    let part = format!("getters: {getters}, putters: {putters}, ");
    assert!(text.contains(&part), "{text}");
}

/// Everything that can be got at once.
pub fn rest<S: QueueStore<u32>>(queue: &Queue<u32, S>) -> Vec<u32> {
    std::iter::from_fn(|| queue.get_nowait().ok()).collect()
}

on_both_drivers! {
    fn que_01_sizes(_kind: DriverKind) {
        let bounded = queue(2, []);
        assert_eq!((bounded.maxsize(), bounded.qsize()), (2, 0));
        assert!(bounded.empty() && !bounded.full());
        bounded.put_nowait(1).unwrap();
        assert!(!bounded.empty() && !bounded.full());
        bounded.put_nowait(2).unwrap();
        assert!(bounded.full());
        assert_eq!(bounded.qsize(), 2);
        bounded.get_nowait().unwrap();
        assert!(!bounded.full());
        let unbounded = Queue::default();
        for item in 0..1000 {
            unbounded.put_nowait(item).unwrap();
            assert!(!unbounded.full());
        }
        assert_eq!((unbounded.maxsize(), unbounded.qsize()), (0, 1000));
    }

    fn que_01_the_text_shows_sizes_and_waiters(kind: DriverKind) {
        let l = Turned::new(kind);
        let (queue, log) = (queue(1, []), Order::default());
        let mut get = getter(&l, &queue, &log);
        l.turn();
        let text = "Queue { qsize: 0, maxsize: 1, getters: 1, putters: 0, \
                    unfinished_tasks: 0, shut_down: false }";
        assert_eq!(format!("{queue:?}"), text);
        let mut puts = [putter(&l, &queue, 1), putter(&l, &queue, 2), putter(&l, &queue, 3)];
        l.turn();
        let text = "Queue { qsize: 1, maxsize: 1, getters: 0, putters: 2, \
                    unfinished_tasks: 1, shut_down: false }";
        assert_eq!(format!("{queue:?}"), text);
        l.turns(3);
        queue.shutdown(true);
        l.turns(2);
        let text = "Queue { qsize: 0, maxsize: 1, getters: 0, putters: 0, \
                    unfinished_tasks: 1, shut_down: true }";
        assert_eq!(format!("{queue:?}"), text);
        ended(&mut get).unwrap();
        let ok = puts.iter_mut().map(ended).filter(Result::is_ok).count();
        assert_eq!(ok, 2);
        assert!(format!("{:?}", PriorityQueue::<u8>::new(3)).contains("maxsize: 3"));
    }

    fn que_02_orders(_kind: DriverKind) {
        let items = [3, 1, 4, 1, 5];
        assert_eq!(rest(&queue(0, items)), items);
        let smallest = PriorityQueue::default();
        let last = LifoQueue::default();
        for item in items {
            smallest.put_nowait(item).unwrap();
            last.put_nowait(item).unwrap();
        }
        assert_eq!(rest(&smallest), [1, 1, 3, 4, 5]);
        assert_eq!(rest(&last), [5, 1, 4, 1, 3]);
    }

    /// Blocking ones, bounded, in their orders; and an order of one's own.
    fn que_02_orders_hold_for_who_waits(kind: DriverKind) {
        let l = Turned::new(kind);
        let smallest = Rc::new(PriorityQueue::new(2));
        let log = Order::default();
        let (inner, note) = (smallest.clone(), log.clone());
        let puts = l.spawn(async move {
            for item in [5, 3, 4, 1, 2] {
                inner.put(item).await?;
            }
            Ok::<_, PutError<u32>>(())
        });
        l.turn();
        let inner = smallest.clone();
        l.run(async move {
            for _ in 0..5 {
                note.add(inner.get().await.unwrap());
                yield_now().await.unwrap();
            }
        });
        assert_eq!(log.take(), [3, 4, 1, 2, 5]);
        drop(puts);

        /// Gives odd numbers first.
        struct OddFirst(Vec<u32>);
        impl QueueStore<u32> for OddFirst {
            fn push(&mut self, item: u32) {
                self.0.push(item);
            }
            fn pop(&mut self) -> Option<u32> {
                let odd = self.0.iter().position(|item| item % 2 == 1).unwrap_or(0);
                (!self.0.is_empty()).then(|| self.0.remove(odd))
            }
            fn len(&self) -> usize {
                self.0.len()
            }
        }
        let own = Queue::with_store(0, OddFirst(vec![2, 3]));
        own.put_nowait(5).unwrap();
        assert_eq!(rest(&own), [3, 5, 2]);
        // What was in it from the beginning is work too.
        for _ in 0..3 {
            own.task_done().unwrap();
        }
        assert_eq!(own.task_done(), Err(TaskDoneTooOften));
    }

    fn que_03_get_of_what_is_there_does_not_suspend(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(0, [1, 2]);
        l.run(async move {
            assert!(poll_once(pin!(queue.get())).is_ready());
            assert_eq!(queue.get().await.unwrap(), 2);
        });
    }

    fn que_03_get_waits_for_an_item(kind: DriverKind) {
        let l = Turned::new(kind);
        let (queue, log) = (queue(0, []), Order::default());
        let mut task = getter(&l, &queue, &log);
        l.turns(3);
        waiting(&queue, 1, 0);
        queue.put_nowait(7).unwrap();
        l.turn();
        ended(&mut task).unwrap();
        assert_eq!(log.take(), [7]);
    }

    fn que_03_get_nowait(_kind: DriverKind) {
        let queue = queue(0, [1]);
        assert_eq!(queue.get_nowait(), Ok(1));
        assert_eq!(queue.get_nowait(), Err(GetNowaitError::QueueEmpty));
    }

    fn que_04_a_get_lets_a_waiting_putter_in(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(1, [1]);
        let mut puts = [putter(&l, &queue, 2), putter(&l, &queue, 3)];
        l.turn();
        waiting(&queue, 0, 2);
        assert_eq!(queue.get_nowait(), Ok(1));
        l.turn();
        ended(&mut puts[0]).unwrap();
        waiting(&queue, 0, 1);
        let inner = queue.clone();
        l.run(async move {
            assert_eq!(inner.get().await.unwrap(), 2);
            assert_eq!(inner.get().await.unwrap(), 3);
        });
        ended(&mut puts[1]).unwrap();
    }

    fn que_05_put_with_room_does_not_suspend(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(1, []);
        let inner = queue.clone();
        l.run(async move { assert!(poll_once(pin!(inner.put(1))).is_ready()) });
        assert_eq!(rest(&queue), [1]);
    }

    fn que_05_put_waits_for_room(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(1, [1]);
        let mut task = putter(&l, &queue, 2);
        l.turns(3);
        assert!(!task.done());
        assert_eq!(queue.qsize(), 1);
        assert_eq!(queue.get_nowait(), Ok(1));
        l.turn();
        ended(&mut task).unwrap();
        assert_eq!(rest(&queue), [2]);
    }

    fn que_05_put_nowait_gives_back_what_it_has_no_room_for(_kind: DriverKind) {
        let queue = queue(1, [1]);
        let refused = queue.put_nowait(2);
        assert_eq!(refused, Err(PutNowaitError::QueueFull(2)));
        assert_eq!(refused.unwrap_err().into_item(), 2);
        assert_eq!(rest(&queue), [1]);
    }

    fn que_06_a_put_serves_waiting_getters_in_order(kind: DriverKind) {
        let l = Turned::new(kind);
        let (queue, log) = (queue(0, []), Order::default());
        let order = Order::default();
        let gets: Vec<_> = (0..3)
            .map(|name| {
                let (queue, log, order) = (queue.clone(), log.clone(), order.clone());
                l.spawn(async move {
                    log.add(queue.get().await?);
                    order.add(name);
                    Ok::<_, GetError>(())
                })
            })
            .collect();
        l.turn();
        for item in [10, 11] {
            queue.put_nowait(item).unwrap();
        }
        l.turn();
        assert_eq!((log.take(), order.take()), (vec![10, 11], vec![0, 1]));
        waiting(&queue, 1, 0);
        let put = putter(&l, &queue, 12);
        l.turns(2);
        assert_eq!((log.take(), order.take()), (vec![12], vec![2]));
        drop((gets, put));
    }

    fn que_07_a_cancelled_getter_takes_nothing_with_it(kind: DriverKind) {
        let l = Turned::new(kind);
        let (queue, log) = (queue(0, []), Order::default());
        let mut gets: Vec<_> = (0..5).map(|_| getter(&l, &queue, &log)).collect();
        l.turn();
        // Cancelled, dropped, woken and cancelled, woken and dropped; the last gets the item.
        gets[0].cancel();
        gets[1].abort();
        l.turn();
        waiting(&queue, 3, 0);
        queue.put_nowait(1).unwrap();
        gets[2].cancel();
        l.turn();
        gets[3].abort();
        l.turns(2);
        gets[..4].iter_mut().for_each(|task| assert!(task.done()));
        ended(&mut gets[4]).unwrap();
        assert_eq!(log.take(), [1]);
        waiting(&queue, 0, 0);
        // Nobody else is there: the item stays.
        let last = getter(&l, &queue, &log);
        l.turn();
        queue.put_nowait(2).unwrap();
        last.cancel();
        l.turn();
        assert!(last.done());
        assert_eq!(rest(&queue), [2]);
    }

    fn que_07_cancelled_getters_leave_no_residue(kind: DriverKind) {
        let l = Turned::new(kind);
        let (queue, log) = (queue(0, []), Order::default());
        for _ in 0..10 {
            let mut task = getter(&l, &queue, &log);
            l.turn();
            waiting(&queue, 1, 0);
            task.cancel();
            l.turn();
            assert!(ended_cancelled(&mut task));
            waiting(&queue, 0, 0);
        }
    }

    fn que_08_a_cancelled_putter_takes_nothing_with_it(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(1, [0]);
        let mut puts: Vec<_> = (1..=5).map(|item| putter(&l, &queue, item)).collect();
        l.turn();
        puts[0].cancel();
        puts[1].abort();
        l.turn();
        waiting(&queue, 0, 3);
        assert_eq!(queue.get_nowait(), Ok(0));
        puts[2].cancel();
        l.turn();
        puts[3].abort();
        l.turns(2);
        assert_eq!(rest(&queue), [5]);
        ended(&mut puts[4]).unwrap();
        waiting(&queue, 0, 0);
        // The items that were not put: given back, or dropped.
        assert!(matches!(puts[1].result(), Some(Err(_))));
        cancelled(&mut puts[0]);
    }

    /// A body that catches the cancellation has its item again.
    fn que_08_a_cancelled_put_gives_its_item_back(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = Rc::new(Queue::new(1));
        queue.put_nowait(String::from("first")).unwrap();
        let inner = queue.clone();
        let mut task = l.spawn(async move {
            match inner.put(String::from("second")).await {
                Err(PutError::Cancelled(item, _)) => item,
                _ => panic!("it is full"),
            }
        });
        l.turn();
        task.cancel();
        l.turn();
        assert_eq!(ended(&mut task), "second");
        assert_eq!(queue.qsize(), 1);
    }

    fn que_08_cancelled_putters_leave_no_residue(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(1, [0]);
        for item in 1..10 {
            let mut task = putter(&l, &queue, item);
            l.turn();
            waiting(&queue, 0, 1);
            task.cancel();
            l.turn();
            cancelled(&mut task);
            waiting(&queue, 0, 0);
        }
        assert_eq!(rest(&queue), [0]);
    }

    /// Few slots, many producers and consumers, no order of theirs: all items arrive.
    fn que_09_producers_and_consumers_do_not_stall(kind: DriverKind) {
        let l = Turned::new(kind);
        for maxsize in [1, 2, 5] {
            let (queue, log) = (queue(maxsize, []), Order::default());
            let consumers: Vec<_> = (0..7)
                .map(|_| {
                    let (queue, log) = (queue.clone(), log.clone());
                    l.spawn(async move {
                        for _ in 0..5 {
                            log.add(queue.get().await?);
                        }
                        Ok::<_, GetError>(())
                    })
                })
                .collect();
            let producers: Vec<_> = (0..5)
                .map(|first| {
                    let queue = queue.clone();
                    l.spawn(async move {
                        for item in 0..7 {
                            queue.put(first * 7 + item).await.map_err(PutError::into_item)?;
                        }
                        Ok::<_, u32>(())
                    })
                })
                .collect();
            l.run(async {
                for task in producers {
                    task.await.unwrap().unwrap();
                }
                for task in consumers {
                    task.await.unwrap().unwrap();
                }
            });
            let mut items = log.take();
            items.sort_unstable();
            assert_eq!(items, (0..35).collect::<Vec<_>>());
            waiting(&queue, 0, 0);
        }
    }

    /// All putters at once on the room of one get, and all getters on the items of one put.
    fn que_09_many_wake_ups_at_once_do_not_stall(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(2, [0, 1]);
        let puts: Vec<_> = (2..8).map(|item| putter(&l, &queue, item)).collect();
        l.turn();
        assert_eq!(rest(&queue), [0, 1]);
        let mut got = Vec::new();
        for _ in 0..6 {
            l.turn();
            assert!(queue.qsize() <= 2);
            got.extend(rest(&queue));
        }
        assert_eq!(got, [2, 3, 4, 5, 6, 7]);
        waiting(&queue, 0, 0);
        drop(puts);
    }

    fn que_10_join_waits_until_all_is_done(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(0, [1, 2]);
        let inner = queue.clone();
        let mut join = l.spawn(async move { inner.join().await });
        rest(&queue);
        l.turns(2);
        assert!(!join.done(), "got is not done");
        queue.task_done().unwrap();
        l.turns(2);
        assert!(!join.done());
        queue.task_done().unwrap();
        // More work before it runs does not take that back.
        queue.put_nowait(3).unwrap();
        l.turn();
        ended(&mut join).unwrap();
        let inner = queue.clone();
        let mut join = l.spawn(async move { inner.join().await });
        l.turn();
        assert!(!join.done());
        join.cancel();
        l.turn();
        cancelled(&mut join);
    }

    fn que_10_one_task_done_too_many_is_an_error(_kind: DriverKind) {
        let queue = queue(0, []);
        assert_eq!(queue.task_done(), Err(TaskDoneTooOften));
        assert_eq!(TaskDoneTooOften.to_string(), "task_done() called too many times");
        queue.put_nowait(1).unwrap();
        queue.get_nowait().unwrap();
        assert_eq!(queue.task_done(), Ok(()));
        assert_eq!(queue.task_done(), Err(TaskDoneTooOften));
    }

    fn que_10_join_of_an_empty_queue_returns(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(0, []);
        l.run(async move {
            assert!(poll_once(pin!(queue.join())).is_ready());
            queue.join().await.unwrap();
        });
    }

    fn que_14_a_woken_getter_may_lose_its_item_and_queues_again_at_the_end(kind: DriverKind) {
        let l = Turned::new(kind);
        let (queue, log) = (queue(0, []), Order::default());
        let names = ["woken", "second"];
        let gets = names.map(|name| {
            let (queue, log) = (queue.clone(), log.clone());
            l.spawn(async move {
                let item = queue.get().await?;
                log.add((name, item));
                Ok::<_, GetError>(())
            })
        });
        l.turn();
        queue.put_nowait(1).unwrap();
        assert_eq!(queue.get_nowait(), Ok(1), "it was not handed over");
        l.turn();
        waiting(&queue, 2, 0);
        for item in [2, 3] {
            queue.put_nowait(item).unwrap();
            l.turn();
        }
        assert_eq!(log.take(), [("second", 2), ("woken", 3)]);
        drop(gets);
    }

    /// The same between tasks: the newcomer's get comes first and is served.
    fn que_14_a_newcomer_may_be_faster(kind: DriverKind) {
        let l = Turned::new(kind);
        let (queue, log) = (queue(0, []), Order::default());
        let mut woken = getter(&l, &queue, &log);
        l.turn();
        let mut newcomer = getter(&l, &queue, &log);
        queue.put_nowait(1).unwrap();
        l.turn();
        ended(&mut newcomer).unwrap();
        assert!(!woken.done());
        queue.put_nowait(2).unwrap();
        l.turn();
        ended(&mut woken).unwrap();
        assert_eq!(log.take(), [1, 2]);
    }

    /// A get that is lost to a timeout or a `select` loses no item.
    fn que_07_a_get_in_a_race_loses_nothing(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(0, []);
        let inner = queue.clone();
        let mut task = l.spawn(async move {
            let mut get = Box::pin(inner.get());
            assert!(poll_once(get.as_mut()).is_pending());
            inner.put_nowait(1).unwrap();
            // It is woken, and never polled again.
            yield_now().await?;
            drop(get);
            Ok::<_, Cancelled>(inner.qsize())
        });
        l.turns(2);
        assert_eq!(ended(&mut task).unwrap(), 1);
    }
}

fn ended_cancelled<T>(task: &mut Task<T>) -> bool {
    matches!(task.result(), Some(Err(ringloop::JoinError::Cancelled(_))))
}
