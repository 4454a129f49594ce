//! A loop that is closed, or left, with its transports in every state.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};

use bytes::Bytes;
use ringloop::task::{LoopExit, exit_loop};
use ringloop::{
    BaseProtocol, Builder, EventLoopExt, ExtraInfo, Lease, Protocol, ServerOptions, Transport,
};
use uring_tests::lab::{Lab, alone};
use uring_tests::net::own_addr;
use uring_tests::on_both_drivers;

use crate::recorder::Call::{self, Data, Eof, Lost, Made, Pause, Resume};
use crate::recorder::Recorder;
use crate::sockets::{FLOOD, Pair, clogged, connected, pattern, read_all, unix_pair};

/// More than one system call takes.
const PIECES: usize = 3000;

const CLOSED: Option<ExtraInfo> = Some(ExtraInfo::Socket(-1));

/// Everything that can be asked of a transport.
fn use_it(transport: &Rc<dyn Transport>) {
    transport.pause_reading();
    transport.resume_reading();
    let _ = transport.write(&[0; 100_000]);
    let _ = transport.writelines(vec![vec![1].into(), Lease::from(vec![2]).into()]);
    let _ = transport.write_eof();
    let _ = transport.set_write_buffer_limits(Some(0), None);
    transport.set_protocol(Recorder::new().into());
    transport.get_write_buffer_size();
    transport.get_extra_info("peername");
    transport.is_reading();
    transport.close();
    transport.abort();
}

/// Writes down that it was dropped, and uses transports while it is.
struct Careless {
    dropped: Rc<Cell<usize>>,
    others: Rc<RefCell<Vec<Weak<dyn Transport>>>>,
    own: RefCell<Option<Rc<dyn Transport>>>,
}

impl BaseProtocol for Careless {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        self.others.borrow_mut().push(Rc::downgrade(&transport));
        *self.own.borrow_mut() = Some(transport);
    }
}

impl Protocol for Careless {
    fn data_received(&self, _: Lease) {}
}

impl Drop for Careless {
    fn drop(&mut self) {
        self.dropped.set(self.dropped.get() + 1);
        let others: Vec<_> = self
            .others
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        others
            .iter()
            .chain(self.own.get_mut().as_ref())
            .for_each(use_it);
    }
}

on_both_drivers! {
    /// In whatever state: the socket is closed, the protocol let go of and told nothing, and what
    /// the program still holds does nothing.
    fn a_closed_loop_lets_go_of_its_transports(kind: DriverKind) {
        alone(|| {
            let lab = Lab::new(&Builder::new().driver(kind));
            let inner = lab.clone();
            let (kept, ends) = lab.run(async move {
                let lab = inner;
                let mut kept = Vec::new();
                let mut ends = Vec::new();
                for pair in Pair::BOTH {
                    // Open, and with a peer that is in the same loop.
                    let (near, far) = connected(&lab, pair).await;
                    kept.extend([near, far]);
                    // Paused with nothing in flight; with data that is held; with data in the socket.
                    for len in [0, 30_000] {
                        let (near, far) = connected(&lab, pair).await;
                        near.hook(|me, call| {
                            if call == Data {
                                me.transport().pause_reading();
                            }
                        });
                        if len == 0 {
                            near.transport().pause_reading();
                        } else {
                            far.transport().write(&pattern(len)).unwrap();
                            near.wait(Data).await;
                        }
                        kept.extend([near, far]);
                    }
                    // Half closed.
                    let (near, far) = pair.open();
                    let recorder = Recorder::new().keep_open();
                    lab.transport(near, recorder.clone()).await;
                    let mut far = std::fs::File::from(far);
                    far.write_all(b"end").unwrap();
                    drop(far);
                    recorder.wait(Eof).await;
                    kept.push(recorder);
                    // Backed up; flushing; flushing towards the end of the writing direction.
                    for end in [None, Some(true), Some(false)] {
                        let (near, far) = clogged(&lab, pair).await;
                        near.transport().write(&pattern(FLOOD)).unwrap();
                        lab.settle().await;
                        match end {
                            Some(true) => near.transport().close(),
                            Some(false) => near.transport().write_eof().unwrap(),
                            None => {}
                        }
                        kept.extend([near, far]);
                    }
                }
                lab.settle().await;
                // Lost, not told yet; written, not sent yet; resumed, not delivered yet.
                kept[0].transport().abort();
                kept[1].transport().write(b"never sent").unwrap();
                kept[4].transport().resume_reading();
                // Not made yet.
                let (near, far) = unix_pair();
                let recorder = Recorder::new();
                let factory = recorder.clone();
                let making = lab
                    .event_loop
                    .connect_accepted_socket_dyn(Rc::new(move || factory.clone().into()), near.into());
                let task = lab.event_loop.create_task(making).unwrap();
                lab.turns(1).await;
                drop(task);
                ends.push(read_all(far));
                (kept, ends)
            });
            let calls: Vec<Vec<Call>> = kept.iter().map(|end| end.calls()).collect();
            lab.event_loop.close().unwrap();
            for (end, before) in kept.iter().zip(&calls) {
                assert_eq!(end.calls(), *before);
                let transport = end.transport();
                assert!(transport.get_protocol().is_none());
                assert_eq!(transport.get_write_buffer_size(), 0);
                assert_eq!(transport.get_extra_info("socket"), CLOSED);
                // An error after `write_eof`, else nothing.
                let _ = transport.write(&[0; 1_000]);
                assert_eq!(transport.get_write_buffer_size(), 0);
                use_it(&transport);
                assert_eq!(end.calls(), *before);
                // Nobody but the test holds the protocol.
                assert_eq!(Rc::strong_count(end), 1);
            }
            for end in ends {
                assert_eq!(end.join().unwrap(), (Vec::new(), None));
            }
            drop(lab.messages());
            drop(kept);
            lab.close();
        });
    }

    /// A write sends at once, as far as the program can see: nothing is lost with a loop that runs no
    /// further iteration. What waits behind bytes that the socket did not take goes nowhere.
    fn tso_07_what_was_written_last_is_sent(kind: DriverKind) {
        alone(|| {
            for (pair, closing) in Pair::BOTH.into_iter().zip([false, true]) {
                let lab = Lab::new(&Builder::new().driver(kind));
                let inner = lab.clone();
                let (far, full) = lab.run(async move {
                    let (socket, full) = pair.open();
                    let backed_up = inner.transport(socket, Recorder::new()).await;
                    backed_up.write(&pattern(FLOOD)).unwrap();
                    inner.settle().await;
                    assert!(backed_up.get_write_buffer_size() > 0);
                    backed_up.write(b"behind").unwrap();
                    let (near, far) = pair.open();
                    let transport = inner.transport(near, Recorder::new()).await;
                    transport.write(b"last").unwrap();
                    transport.write(b" words").unwrap();
                    transport.writelines((0..PIECES).map(|_| b"!".to_vec().into()).collect()).unwrap();
                    if closing {
                        transport.close();
                    }
                    (far, full)
                });
                lab.event_loop.close().unwrap();
                let said = format!("last words{:!<PIECES$}", "").into_bytes();
                assert_eq!(read_all(far).join().unwrap(), (said, None));
                let (bytes, _) = read_all(full).join().unwrap();
                assert!(pattern(FLOOD).starts_with(&bytes), "a gap of {} bytes", FLOOD - bytes.len());
                lab.close();
            }
        });
    }

    /// The destructor of what was written panics, when it was sent and when it was not.
    fn bytes_that_panic_keep_no_socket_open(kind: DriverKind) {
        struct Bomb(Vec<u8>);
        impl AsRef<[u8]> for Bomb {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(std::thread::panicking(), "boom");
            }
        }
        alone(|| {
            for backed_up in [false, true] {
                let lab = Lab::new(&Builder::new().driver(kind));
                let inner = lab.clone();
                let (far, recorder) = lab.run(async move {
                    let (near, far) = unix_pair();
                    let recorder = Recorder::new();
                    let transport = inner.transport(near, recorder.clone()).await;
                    if backed_up {
                        transport.write(&pattern(FLOOD)).unwrap();
                        inner.settle().await;
                    }
                    let bomb = Bytes::from_owner(Bomb(b"last words".to_vec()));
                    transport.write_chunk(bomb.into()).unwrap();
                    (far, recorder)
                });
                lab.event_loop.close().unwrap();
                assert_eq!(recorder.transport().get_extra_info("socket"), CLOSED);
                let (bytes, end) = read_all(far).join().unwrap();
                assert_eq!(end, None);
                if !backed_up {
                    assert_eq!(bytes, b"last words");
                }
                assert_eq!(lab.messages(), ["panic while dropping what an operation owned"]);
                drop(recorder);
                lab.close();
            }
        });
    }

    /// Nor does it keep what only the loop held, and the destructors of protocols are free to do
    /// what they like.
    fn protocols_that_use_transports_while_they_are_dropped(kind: DriverKind) {
        alone(|| {
            let lab = Lab::new(&Builder::new().driver(kind));
            let dropped = Rc::new(Cell::new(0));
            let (count, inner) = (dropped.clone(), lab.clone());
            let mut far_ends = lab.run(async move {
                let others = Rc::default();
                let mut far_ends = Vec::new();
                for number in 0..30 {
                    let (near, mut far) = unix_pair();
                    let protocol = Rc::new(Careless {
                        dropped: count.clone(),
                        others: Rc::clone(&others),
                        own: RefCell::default(),
                    });
                    let transport = inner.transport(near, protocol).await;
                    match number % 5 {
                        0 => transport.pause_reading(),
                        1 => transport.write(&pattern(FLOOD)).unwrap(),
                        2 => transport.close(),
                        3 => far.write_all(b"unheard").unwrap(),
                        _ => {}
                    }
                    far_ends.push(far);
                }
                far_ends
            });
            assert!(dropped.get() < 30);
            lab.event_loop.close().unwrap();
            assert_eq!(dropped.get(), 30);
            // Writes that went nowhere.
            let messages = lab.messages();
            assert!(messages.iter().all(|message| message.contains("dropped")));
            assert!(!messages.is_empty(), "nothing was written when they went");
            for far in &mut far_ends {
                far.shutdown(Shutdown::Both).unwrap();
            }
            drop(far_ends);
            lab.close();
        });
    }

    /// The server's connections too.
    fn a_closed_loop_lets_go_of_accepted_connections(kind: DriverKind) {
        alone(|| {
            let lab = Lab::new(&Builder::new().driver(kind));
            let inner = lab.clone();
            let clients: Vec<_> = lab.run(async move {
                let accepted: Rc<RefCell<Vec<Weak<Recorder>>>> = Rc::default();
                let list = accepted.clone();
                let factory = move || {
                    let recorder = Recorder::new();
                    list.borrow_mut().push(Rc::downgrade(&recorder));
                    recorder
                };
                let options = ServerOptions::from(own_addr());
                let server = inner.event_loop.create_server(factory, options).await.unwrap();
                let address = server.local_addrs()[0].as_inet().unwrap();
                let connect = |_| std::net::TcpStream::connect(address).unwrap();
                let clients = (0..4).map(connect).collect();
                let made = || {
                    let accepted = accepted.borrow();
                    accepted.len() == 4 && accepted.iter().all(|one| one.upgrade().unwrap().has(Made))
                };
                inner.until("all are accepted", made).await;
                accepted.borrow()[0].upgrade().unwrap().transport().pause_reading();
                clients
            });
            lab.event_loop.close().unwrap();
            for client in clients {
                assert_eq!(read_all(client).join().unwrap(), (Vec::new(), None));
            }
            lab.close();
        });
    }

    /// What was held is still there when the loop runs again after a delivery of it left the loop.
    fn pro_10_a_delivery_that_leaves_the_loop_leaves_the_rest(kind: DriverKind) {
        alone(|| {
            // Three receives, all of which the kernel has before anybody reads.
            const LEN: usize = 48_000;
            let lab = Lab::new(&Builder::new().driver(kind));
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(&pattern(LEN)).unwrap();
            let recorder = Recorder::with(|me, call| match (call, me.deliveries()) {
                (Data, 1) => me.transport().pause_reading(),
                (Data, 2) => exit_loop(()),
                _ => {}
            });
            let (inner, me) = (lab.clone(), recorder.clone());
            let run = catch_unwind(AssertUnwindSafe(|| {
                lab.run(async move {
                    let transport = inner.transport(near, me.clone()).await;
                    me.wait(Data).await;
                    inner.settle().await;
                    assert_eq!(me.deliveries(), 1);
                    transport.resume_reading();
                    me.wait(Lost).await;
                });
            }));
            assert!(run.expect_err("left").downcast::<LoopExit>().is_ok());
            assert_eq!(recorder.deliveries(), 2);
            let (inner, me) = (lab.clone(), recorder.clone());
            lab.run(async move {
                inner.until("the rest is delivered", || me.received() == LEN).await;
                drop(far);
                me.wait(Lost).await;
                inner.idle().await;
            });
            assert!(recorder.data() == pattern(LEN));
            assert_eq!(recorder.calls(), [Made, Data, Eof, Lost]);
            recorder.forget();
            lab.close();
        });
    }

    /// A callback that leaves the loop leaves the connection as it is: all goes on when the loop
    /// runs again.
    fn callbacks_that_leave_the_loop(kind: DriverKind) {
        alone(|| {
            for leaves in [Made, Data, Pause, Resume] {
                for closing in [false, true] {
                    let lab = Lab::new(&Builder::new().driver(kind));
                    let left = Rc::new(Cell::new(false));
                    let seen = left.clone();
                    let near_end = Recorder::with(move |_, call| {
                        if call == leaves && !seen.replace(true) {
                            exit_loop(());
                        }
                    });
                    let far_end = Recorder::new();
                    let (inner, near_once, far_once) =
                        (lab.clone(), near_end.clone(), far_end.clone());
                    let body = async move {
                        let lab = inner;
                        let (near, far) = unix_pair();
                        let peer = lab.transport(far, far_once).await;
                        peer.pause_reading();
                        peer.write(&pattern(30_000)).unwrap();
                        let transport = lab.transport(near, near_once.clone()).await;
                        near_once.wait_received(30_000).await;
                        if closing {
                            // Resumed by the very end of the flush.
                            transport.set_write_buffer_limits(Some(65_536), Some(0)).unwrap();
                        }
                        transport.write(&pattern(FLOOD)).unwrap();
                        lab.settle().await;
                        if closing {
                            transport.close();
                        }
                        peer.resume_reading();
                        near_once.wait(Lost).await;
                    };
                    let run = catch_unwind(AssertUnwindSafe(|| lab.run(body)));
                    let exit = run.expect_err("left").downcast::<LoopExit>();
                    assert!(exit.is_ok(), "{leaves:?}");
                    // That task goes on now; only an exit in `Pause` went through it.
                    let (inner, near, far) = (lab.clone(), near_end.clone(), far_end.clone());
                    lab.run(async move {
                        near.wait(Pause).await;
                        inner.settle().await;
                        far.transport().resume_reading();
                        far.wait_received(FLOOD).await;
                        near.transport().close();
                        near.wait(Lost).await;
                        far.wait(Lost).await;
                        inner.idle().await;
                    });
                    assert!(near_end.data() == pattern(30_000));
                    assert!(far_end.data() == pattern(FLOOD), "{leaves:?}: {}", far_end.received());
                    assert_eq!(near_end.calls(), [Made, Data, Pause, Resume, Lost]);
                    near_end.forget();
                    far_end.forget();
                    lab.close();
                }
            }
        });
    }
}
