//! Queues that are shut down.

use std::rc::Rc;

use ringloop::Cancelled;
use ringloop::sync::{
    GetError, GetNowaitError, LifoQueue, PriorityQueue, PutError, PutNowaitError, Queue,
};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

use crate::queue::{getter, putter, queue, rest, waiting};
use crate::support::{Turned, ended};

/// It takes nothing any more.
fn refuses_items(l: &Turned, queue: &Rc<Queue<u32>>) {
    assert_eq!(queue.put_nowait(9), Err(PutNowaitError::QueueShutDown(9)));
    let mut put = putter(l, queue, 9);
    l.turn();
    assert!(matches!(ended(&mut put), Err(PutError::QueueShutDown(9))));
}

/// It gives nothing any more.
fn gives_nothing(l: &Turned, queue: &Rc<Queue<u32>>) {
    assert_eq!(queue.get_nowait(), Err(GetNowaitError::QueueShutDown));
    let mut get = getter(l, queue, &Order::default());
    l.turn();
    assert!(matches!(ended(&mut get), Err(GetError::QueueShutDown)));
}

on_both_drivers! {
    fn que_11_an_empty_queue_refuses_everything(kind: DriverKind) {
        let l = Turned::new(kind);
        for immediate in [false, true] {
            let queue = queue(0, []);
            queue.shutdown(immediate);
            refuses_items(&l, &queue);
            gives_nothing(&l, &queue);
            // Twice changes nothing, and nothing is unfinished.
            queue.shutdown(!immediate);
            let inner = queue.clone();
            l.run(async move { inner.join().await.unwrap() });
            assert!(format!("{queue:?}").ends_with("shut_down: true }"));
        }
    }

    fn que_11_shutdown_wakes_all_getters(kind: DriverKind) {
        let l = Turned::new(kind);
        for immediate in [false, true] {
            let (queue, log) = (queue(0, []), Order::default());
            let mut gets: Vec<_> = (0..3).map(|_| getter(&l, &queue, &log)).collect();
            l.turn();
            waiting(&queue, 3, 0);
            queue.shutdown(immediate);
            l.turn();
            for get in &mut gets {
                assert!(matches!(ended(get), Err(GetError::QueueShutDown)));
            }
            waiting(&queue, 0, 0);
        }
    }

    /// Items that are there, and getters that were woken for them, when the queue is shut down.
    fn que_12_what_is_left_is_served(kind: DriverKind) {
        let l = Turned::new(kind);
        let (queue, log) = (queue(0, []), Order::default());
        let mut gets: Vec<_> = (0..3).map(|_| getter(&l, &queue, &log)).collect();
        l.turn();
        queue.put_nowait(1).unwrap();
        queue.put_nowait(2).unwrap();
        queue.shutdown(false);
        assert_eq!(queue.qsize(), 2);
        refuses_items(&l, &queue);
        l.turn();
        assert_eq!(log.take(), [1, 2]);
        ended(&mut gets[0]).unwrap();
        ended(&mut gets[1]).unwrap();
        assert!(matches!(ended(&mut gets[2]), Err(GetError::QueueShutDown)));
        gives_nothing(&l, &queue);
        // Join is as ever.
        let inner = queue.clone();
        let mut join = l.spawn(async move { inner.join().await });
        queue.task_done().unwrap();
        l.turn();
        assert!(!join.done());
        queue.task_done().unwrap();
        l.turn();
        ended(&mut join).unwrap();
    }

    fn que_12_blocked_putters_fail_and_have_their_items_back(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(2, [1, 2]);
        let mut puts: Vec<_> = (3..6).map(|item| putter(&l, &queue, item)).collect();
        l.turn();
        waiting(&queue, 0, 3);
        // Also one that had been woken: there is room, but no more way in.
        assert_eq!(queue.get_nowait(), Ok(1));
        queue.shutdown(false);
        l.turn();
        for (put, item) in puts.iter_mut().zip(3..) {
            let Err(PutError::QueueShutDown(back)) = ended(put) else {
                panic!("it was put");
            };
            assert_eq!(back, item);
        }
        assert_eq!(rest(&queue), [2]);
        gives_nothing(&l, &queue);
    }

    fn que_12_errors_of_a_queue_that_was_shut_down_have_a_text(_kind: DriverKind) {
        let text = "the queue was shut down";
        assert_eq!(GetError::QueueShutDown.to_string(), text);
        assert_eq!(GetNowaitError::QueueShutDown.to_string(), text);
        assert_eq!(PutError::QueueShutDown(1).to_string(), text);
        assert_eq!(PutNowaitError::QueueShutDown(1).to_string(), text);
        let error = std::io::Error::from(PutError::QueueShutDown(1));
        assert_eq!(error.to_string(), text);
        let error = std::io::Error::from(PutError::Cancelled(1, Cancelled::new()));
        assert!(Cancelled::in_error(&error).is_some());
        let error = std::io::Error::from(GetError::Cancelled(Cancelled::new()));
        assert!(Cancelled::in_error(&error).is_some());
        let error: Box<dyn std::error::Error> = GetError::Cancelled(Cancelled::new()).into();
        assert!(Cancelled::in_error(&*error).is_some());
    }

    fn que_13_immediately_drops_the_items_and_settles_join(kind: DriverKind) {
        let l = Turned::new(kind);
        let item = Rc::new(());
        let queue = Rc::new(Queue::new(0));
        queue.put_nowait(item.clone()).unwrap();
        queue.put_nowait(item.clone()).unwrap();
        let inner = queue.clone();
        let mut join = l.spawn(async move { inner.join().await });
        l.turn();
        queue.shutdown(true);
        assert_eq!(Rc::strong_count(&item), 1);
        assert_eq!(queue.get_nowait(), Err(GetNowaitError::QueueShutDown));
        assert!(queue.task_done().is_err());
        l.turn();
        ended(&mut join).unwrap();
    }

    fn que_13_items_that_are_worked_on_are_still_waited_for(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(0, [1, 2, 3]);
        queue.get_nowait().unwrap();
        let inner = queue.clone();
        let mut join = l.spawn(async move { inner.join().await });
        l.turn();
        queue.shutdown(true);
        assert!(queue.empty());
        l.turns(2);
        assert!(!join.done(), "one item is being worked on");
        queue.task_done().unwrap();
        l.turn();
        ended(&mut join).unwrap();
        assert!(queue.task_done().is_err());
    }

    fn que_13_immediately_fails_who_waits_to_put(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(1, [1]);
        let mut puts = [putter(&l, &queue, 2), putter(&l, &queue, 3)];
        l.turn();
        queue.shutdown(true);
        l.turn();
        for put in &mut puts {
            assert!(matches!(ended(put), Err(PutError::QueueShutDown(_))));
        }
        assert!(queue.empty());
        refuses_items(&l, &queue);
    }

    /// A graceful end may be made an immediate one.
    fn que_13_gracefully_first_then_immediately(kind: DriverKind) {
        let l = Turned::new(kind);
        let queue = queue(0, [1, 2]);
        queue.shutdown(false);
        assert_eq!(queue.get_nowait(), Ok(1));
        queue.task_done().unwrap();
        queue.shutdown(true);
        gives_nothing(&l, &queue);
        let inner = queue.clone();
        l.run(async move { inner.join().await.unwrap() });
    }

    /// The other orders end the same way.
    fn que_13_other_orders(_kind: DriverKind) {
        let (smallest, last) = (PriorityQueue::new(0), LifoQueue::new(0));
        for item in [2, 1, 3] {
            smallest.put_nowait(item).unwrap();
            last.put_nowait(item).unwrap();
        }
        smallest.shutdown(false);
        last.shutdown(true);
        assert_eq!(rest(&smallest), [1, 2, 3]);
        assert_eq!(smallest.get_nowait(), Err(GetNowaitError::QueueShutDown));
        assert_eq!(last.get_nowait(), Err(GetNowaitError::QueueShutDown));
    }
}
