//! TRN: what holds for every transport.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;

use ringloop::protocol::{InvalidLimits, WriteLimits};
use ringloop::task::{LoopExit, exit_loop};
use ringloop::{
    Address, BaseProtocol, Builder, Chunk, EventLoopExt, ExtraInfo, Lease, Protocol, ProtocolKind,
    ServerOptions, Transport,
};
use uring_tests::lab::{Lab, alone, lab, open_fds_here};
use uring_tests::net::{own_addr, reset_on_close};
use uring_tests::on_both_drivers;

use crate::recorder::Call::{Data, Eof, Lost, Made, Pause, Resume};
use crate::recorder::Recorder;
use crate::sockets::{FLOOD, Pair, clogged, pattern, tcp_pair, unix_pair};

/// A transport of somebody else's, which writes down what it is given.
#[derive(Default)]
struct Foreign {
    written: RefCell<Vec<Vec<u8>>>,
}

impl Transport for Foreign {
    fn get_extra_info(&self, _: &str) -> Option<ExtraInfo> {
        None
    }
    fn with_fd(&self, _: &mut dyn FnMut(BorrowedFd<'_>)) {}
    fn is_closing(&self) -> bool {
        false
    }
    fn close(&self) {}
    fn abort(&self) {}
    fn set_protocol(&self, _: ProtocolKind) {}
    fn get_protocol(&self) -> Option<ProtocolKind> {
        None
    }
    fn is_reading(&self) -> bool {
        true
    }
    fn pause_reading(&self) {}
    fn resume_reading(&self) {}
    fn set_write_buffer_limits(
        &self,
        _: Option<usize>,
        _: Option<usize>,
    ) -> Result<(), InvalidLimits> {
        Ok(())
    }
    fn get_write_buffer_limits(&self) -> WriteLimits {
        WriteLimits::default()
    }
    fn get_write_buffer_size(&self) -> usize {
        0
    }
    fn write(&self, data: &[u8]) -> std::io::Result<()> {
        self.written.borrow_mut().push(data.to_vec());
        Ok(())
    }
    fn write_chunk(&self, chunk: Chunk) -> std::io::Result<()> {
        self.write(&chunk)
    }
    fn write_eof(&self) -> std::io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn can_write_eof(&self) -> bool {
        false
    }
}

// Not on both drivers: the transport has no loop.
#[test]
fn trn_02_the_default_writelines_writes_once() {
    let transport = Foreign::default();
    let pieces = [b"one ".as_slice(), b"", b"two ", b"three"];
    let chunks = pieces.map(|piece| Chunk::from(piece.to_vec()));
    transport.writelines(chunks.into()).unwrap();
    assert_eq!(transport.written.take(), [b"one two three"]);
}

/// Says nothing that it need not say.
struct Silent(Cell<usize>);

impl BaseProtocol for Silent {}

impl Protocol for Silent {
    fn data_received(&self, data: Lease) {
        self.0.set(self.0.get() + data.len());
    }
}

on_both_drivers! {
    /// The value, or nothing for a name it does not know.
    fn trn_01_extra_info(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = tcp_pair();
            let (own, peer) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
            let number = near.as_raw_fd();
            let recorder = Recorder::new();
            let transport = lab.transport(near, recorder.clone()).await;
            let inet = |addr| Some(ExtraInfo::Address(Address::Inet(addr)));
            assert_eq!(transport.get_extra_info("socket"), Some(ExtraInfo::Socket(number)));
            assert_eq!(transport.get_extra_info("peername"), inet(peer));
            assert_eq!(transport.get_extra_info("no such thing"), None);
            let or_default = transport.get_extra_info("no such thing");
            assert_eq!(or_default.unwrap_or(ExtraInfo::Socket(-2)), ExtraInfo::Socket(-2));
            transport.close();
            recorder.wait(Lost).await;
            // Not asked for while the socket was open, and still there.
            assert_eq!(transport.get_extra_info("sockname"), inet(own));
            assert_eq!(transport.get_extra_info("peername"), inet(peer));
            assert_eq!(transport.get_extra_info("socket"), Some(ExtraInfo::Socket(-1)));
            drop(far);

            let (near, _far) = unix_pair();
            let recorder = Recorder::new();
            let transport = lab.transport(near, recorder.clone()).await;
            let unnamed = Some(ExtraInfo::Address(Address::UnixUnnamed));
            assert_eq!(transport.get_extra_info("sockname"), unnamed);
            assert_eq!(transport.get_extra_info("peername"), unnamed);
            transport.abort();
            recorder.wait(Lost).await;
        });
    }

    /// Names that nobody asked for before the peer reset the connection, or before it was lost.
    fn trn_01_names_outlive_the_peer(kind: DriverKind) {
        lab(kind, |lab| async move {
            for asked_while_open in [true, false] {
                let (near, far) = tcp_pair();
                let (own, peer) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
                let recorder = Recorder::new();
                let transport = lab.transport(near, recorder.clone()).await;
                transport.pause_reading();
                lab.settle().await;
                reset_on_close(&far);
                drop(far);
                let inet = |addr| Some(ExtraInfo::Address(Address::Inet(addr)));
                if asked_while_open {
                    // The socket knows of the reset, the transport does not.
                    assert_eq!(transport.get_extra_info("peername"), inet(peer));
                }
                transport.abort();
                recorder.wait(Lost).await;
                assert_eq!(transport.get_extra_info("peername"), inet(peer));
                assert_eq!(transport.get_extra_info("sockname"), inet(own));
            }
        });
    }

    /// A protocol that overrides nothing lives a whole life.
    fn trn_04_callbacks_have_defaults(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = unix_pair();
            let silent = Rc::new(Silent(Cell::new(0)));
            let transport = lab.transport(near, silent.clone()).await;
            let peer = Recorder::new();
            let far = lab.transport(far, peer.clone()).await;
            far.pause_reading();
            far.write(b"hello").unwrap();
            lab.until("the data is there", || silent.0.get() == 5).await;
            // Above the limit: pause_writing. Read by the peer: resume_writing.
            transport.write(&pattern(FLOOD)).unwrap();
            assert!(transport.get_write_buffer_size() > transport.get_write_buffer_limits().high);
            far.resume_reading();
            peer.wait_received(FLOOD).await;
            // The default of eof_received closes, connection_lost follows.
            far.write_eof().unwrap();
            peer.wait(Lost).await;
            assert!(peer.data() == pattern(FLOOD));
            assert!(transport.get_protocol().is_none());
        });
    }

    /// The descriptor is known and nothing reads while `connection_made` runs; reading is armed and
    /// has brought nothing when who waited goes on.
    fn trn_05_made_then_reading_then_the_waiter(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            far.write_all(b"early").unwrap();
            let number = near.as_raw_fd();
            let core = lab.core().clone();
            let before = lab.stats().live_operations;
            let recorder = Recorder::with(move |me, call| {
                if call == Made {
                    let socket = me.transport().get_extra_info("socket");
                    assert_eq!(socket, Some(ExtraInfo::Socket(number)));
                    assert_eq!(core.stats().live_operations, before);
                }
            });
            let transport = lab.transport(near, recorder.clone()).await;
            assert_eq!(recorder.calls(), [Made]);
            assert_eq!(lab.stats().live_operations, before + 1);
            recorder.wait(Data).await;
            assert_eq!(recorder.data(), b"early");
            transport.close();
            recorder.wait(Lost).await;
        });
    }

    /// A server counts the connection before `connection_made`.
    fn trn_05_attached_before_made(kind: DriverKind) {
        lab(kind, |lab| async move {
            let server: Rc<RefCell<Option<ringloop::Server>>> = Rc::default();
            let closed = server.clone();
            let recorder = Recorder::with(move |_, call| {
                if call == Made {
                    // Reaches this connection only if the server knows it.
                    closed.borrow().as_ref().unwrap().abort_clients();
                }
            });
            let made = recorder.clone();
            let options = ServerOptions::from(own_addr());
            let serving = lab.event_loop.create_server(move || made.clone(), options);
            *server.borrow_mut() = Some(serving.await.unwrap());
            let running = server.borrow().clone().unwrap();
            let address = running.local_addrs()[0].as_inet().unwrap();
            let client = std::net::TcpStream::connect(address).unwrap();
            recorder.wait(Lost).await;
            assert_eq!(recorder.calls(), [Made, Lost]);
            drop(client);
            running.close();
            running.wait_closed().await.unwrap();
            server.take();
        });
    }

    /// Closing is seen at once, is never inline, and happens once.
    fn trn_06_close_once(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = pair.open();
                let recorder = Recorder::new();
                let transport = lab.transport(near, recorder.clone()).await;
                assert!(!transport.is_closing() && transport.is_reading());
                let mut far = std::fs::File::from(far);
                far.write_all(b"too late").unwrap();
                transport.close();
                assert!(transport.is_closing() && !transport.is_reading());
                assert_eq!(recorder.calls(), [Made]);
                transport.close();
                recorder.wait(Lost).await;
                transport.close();
                lab.settle().await;
                assert_eq!(recorder.calls(), [Made, Lost]);
                assert_eq!(recorder.lost_with(), None);
                assert_eq!(recorder.data(), b"");
            }
        });
    }

    /// A protocol that is set after the close, and before it is told.
    fn trn_06_the_loss_goes_to_who_is_the_protocol_then(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, _far) = unix_pair();
            let (old, new) = (Recorder::new(), Recorder::new());
            let transport = lab.transport(near, old.clone()).await;
            transport.close();
            transport.set_protocol(new.clone().into());
            lab.until("the connection is lost", || old.has(Lost) || new.has(Lost)).await;
            assert_eq!(new.calls(), [Lost]);
            assert_eq!(old.calls(), [Made]);
        });
    }

    /// Nothing is read any more, everything is sent, and only then the connection is lost.
    fn trn_07_tso_14_pro_06_close_flushes(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = clogged(&lab, pair).await;
                let transport = near.transport();
                transport.write(&pattern(FLOOD)).unwrap();
                lab.settle().await;
                // Behind a send in flight.
                transport.write(b"and more").unwrap();
                transport.close();
                far.transport().write(b"not read any more").unwrap();
                lab.settle().await;
                assert_eq!(near.calls(), [Made, Pause]);
                far.transport().resume_reading();
                near.wait(Lost).await;
                assert_eq!(near.calls(), [Made, Pause, Resume, Lost]);
                assert_eq!(near.lost_with(), None);
                // Not yet inside the callback, but right after it.
                lab.turns(1).await;
                assert_eq!(transport.get_extra_info("socket"), Some(ExtraInfo::Socket(-1)));
                far.wait(Lost).await;
                let sent = [pattern(FLOOD), b"and more".to_vec()].concat();
                assert!(far.data() == sent, "{pair:?}: {} bytes arrived", far.received());
            }
        });
    }

    /// From the close on it takes nothing out of its socket, however much it still has to send: no
    /// receive eats buffers, and the peer feels it.
    fn trn_07_a_closing_transport_takes_nothing_more(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = clogged(&lab, pair).await;
                near.transport().write(&pattern(FLOOD)).unwrap();
                lab.settle().await;
                // The send and the receive; the far end is paused.
                lab.in_flight(2).await;
                near.transport().close();
                lab.settle().await;
                lab.in_flight(1).await;
                far.transport().write(&pattern(FLOOD)).unwrap();
                lab.settle().await;
                let unsent = far.transport().get_write_buffer_size();
                assert!(unsent > FLOOD / 2, "{pair:?}: only {unsent} bytes wait");
                assert_eq!(lab.stats().lent_buffers, 0);
                far.transport().resume_reading();
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert_eq!(near.calls(), [Made, Pause, Resume, Lost]);
                assert_eq!(near.lost_with(), None);
            }
        });
    }

    /// What is unsent is dropped, nothing is in flight any more, a second abort changes nothing.
    fn trn_08_pro_08_abort_drops_everything(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = clogged(&lab, pair).await;
                let transport = near.transport();
                transport.write(&pattern(FLOOD)).unwrap();
                // The send in flight, with more behind it, and the armed receive.
                lab.settle().await;
                lab.in_flight(2).await;
                transport.write(b"more").unwrap();
                transport.abort();
                assert!(transport.is_closing());
                assert_eq!(transport.get_write_buffer_size(), 0);
                assert_eq!(near.calls(), [Made, Pause]);
                transport.abort();
                near.wait(Lost).await;
                lab.idle().await;
                // Not resumed: there is nothing to resume for.
                assert_eq!(near.calls(), [Made, Pause, Lost]);
                assert_eq!(near.lost_with(), None);
                transport.abort();
                far.transport().resume_reading();
                far.wait(Lost).await;
                assert_eq!(near.calls(), [Made, Pause, Lost]);
                let sent = far.received();
                assert!(0 < sent && sent < FLOOD, "{sent}");
                assert!(far.data() == pattern(FLOOD)[..sent], "{pair:?}: sent twice");
            }
        });
    }

    /// The protocol hears of an OS error, the exception handler does not.
    fn trn_09_os_errors_are_not_reported(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = unix_pair();
            let recorder = Recorder::new().keep_open();
            let transport = lab.transport(near, recorder.clone()).await;
            drop(far);
            recorder.wait(Eof).await;
            transport.write(b"nobody reads this").unwrap();
            recorder.wait(Lost).await;
            assert_eq!(recorder.lost_with(), Some(ErrorKind::BrokenPipe));
            assert_eq!(lab.messages(), [""; 0]);
        });
    }

    /// A bug of the protocol is reported, with what it happened on, and ends the connection.
    fn trn_09_other_errors_are_reported(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            let recorder = Recorder::with(|_, call| assert_ne!(call, Data, "a bug"));
            let transport = lab.transport(near, recorder.clone()).await;
            far.write_all(b"x").unwrap();
            recorder.wait(Lost).await;
            let reports = lab.reports();
            let [report] = reports.as_slice() else {
                panic!("{reports:?}")
            };
            assert_eq!(report.message, "Fatal error: protocol.data_received() call failed.");
            assert!(report.exception.as_ref().unwrap().to_string().contains("a bug"));
            assert!(Rc::ptr_eq(report.transport.as_ref().unwrap(), &transport));
            assert!(report.protocol.is_some());
            assert!(recorder.lost_text().contains("a bug"));
        });
    }

    /// Inside `connection_lost` everything is still there, right after it nothing is.
    fn trn_10_lost_releases(kind: DriverKind) {
        lab(kind, |lab| async move {
            let before = open_fds_here();
            let (near, mut far) = unix_pair();
            let recorder = Recorder::with(|me, call| {
                if call == Lost {
                    assert!(me.transport().get_protocol().is_some());
                    assert_ne!(
                        me.transport().get_extra_info("socket"),
                        Some(ExtraInfo::Socket(-1))
                    );
                }
            });
            let transport = lab.transport(near, recorder.clone()).await;
            assert_eq!(open_fds_here(), before + 2);
            transport.close();
            recorder.wait(Lost).await;
            assert!(transport.get_protocol().is_none());
            assert_eq!(transport.get_extra_info("socket"), Some(ExtraInfo::Socket(-1)));
            transport.with_fd(&mut |_| panic!("there is no descriptor"));
            lab.idle().await;
            assert_eq!(open_fds_here(), before + 1);
            recorder.forget();
            assert_eq!(Rc::strong_count(&transport), 1);
            // Its own; the loop remembers it no longer.
            assert_eq!(Rc::weak_count(&transport), 1);
            assert_eq!(Rc::strong_count(&recorder), 1);
            // Nor does it take another protocol.
            transport.set_protocol(recorder.clone().into());
            assert!(transport.get_protocol().is_none());
            assert_eq!(Rc::strong_count(&recorder), 1);
            assert_eq!(far.read(&mut [0]).unwrap(), 0);
        });
    }

    fn trn_11_a_closing_transport_does_not_read_again(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            let transport = near.transport();
            transport.write(&pattern(FLOOD)).unwrap();
            transport.pause_reading();
            transport.close();
            transport.resume_reading();
            assert!(!transport.is_reading());
            far.transport().write(b"unheard").unwrap();
            lab.settle().await;
            // The send, and nothing else.
            assert_eq!(lab.stats().live_operations, 1);
            far.transport().resume_reading();
            near.wait(Lost).await;
            transport.resume_reading();
            far.wait(Lost).await;
            assert_eq!(near.data(), b"");
        });
    }

    /// Nor for the first time, when `connection_made` closed it.
    fn trn_11_closed_in_connection_made_it_never_reads(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = unix_pair();
            let far_end = Recorder::new();
            let peer = lab.transport(far, far_end.clone()).await;
            peer.pause_reading();
            peer.write(b"unheard").unwrap();
            lab.idle().await;
            let near_end = Recorder::with(|me, call| {
                if call == Made {
                    me.transport().write(&pattern(FLOOD)).unwrap();
                    me.transport().close();
                }
            });
            lab.transport(near, near_end.clone()).await;
            lab.settle().await;
            // The send, and nothing else.
            assert_eq!(lab.stats().live_operations, 1);
            peer.resume_reading();
            near_end.wait(Lost).await;
            far_end.wait(Lost).await;
            assert_eq!(near_end.calls(), [Made, Pause, Resume, Lost]);
        });
    }

    fn trn_12_pro_08_one_loss_whatever_the_order(kind: DriverKind) {
        lab(kind, |lab| async move {
            type End = fn(&dyn Transport);
            let close: End = |transport| transport.close();
            let abort: End = |transport| transport.abort();
            for pair in Pair::BOTH {
                for flood in [false, true] {
                    for ends in [[close, abort], [abort, close], [close, close], [abort, abort]] {
                        let (near, far) = clogged(&lab, pair).await;
                        let transport = near.transport();
                        if flood {
                            transport.write(&pattern(FLOOD)).unwrap();
                            lab.settle().await;
                        }
                        for end in ends {
                            end(&*transport);
                        }
                        far.transport().resume_reading();
                        near.wait(Lost).await;
                        far.wait(Lost).await;
                        // The recorder refuses a second loss.
                        assert_eq!(near.lost_with(), None);
                        assert_eq!(near.count(Lost), 1);
                    }
                }
            }
        });
    }

    /// The iterations between the two ends make no difference.
    fn trn_12_pro_08_abort_while_flushing(kind: DriverKind) {
        lab(kind, |lab| async move {
            for turns in 0..4 {
                let (near, far) = clogged(&lab, Pair::Tcp).await;
                near.transport().write(&pattern(FLOOD)).unwrap();
                near.transport().close();
                lab.turns(turns).await;
                near.transport().abort();
                far.transport().resume_reading();
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert!(far.received() < FLOOD);
                assert!(far.data() == pattern(FLOOD)[..far.received()]);
            }
        });
    }

    /// The server does not count a connection for ever because its `connection_lost` fails.
    fn trn_13_a_failing_connection_lost(kind: DriverKind) {
        lab(kind, |lab| async move {
            let recorder = Recorder::with(|_, call| assert_ne!(call, Lost, "a bug"));
            let made = recorder.clone();
            let options = ServerOptions::from(own_addr());
            let server = lab.event_loop.create_server(move || made.clone(), options);
            let server = server.await.unwrap();
            let address = server.local_addrs()[0].as_inet().unwrap();
            let mut client = std::net::TcpStream::connect(address).unwrap();
            recorder.wait(Made).await;
            server.close();
            recorder.transport().close();
            server.wait_closed().await.unwrap();
            assert_eq!(lab.messages(), ["Exception in callback connection_lost"]);
            lab.idle().await;
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        });
    }

    /// Nor because it leaves the loop.
    fn trn_13_connection_lost_that_leaves_the_loop(kind: DriverKind) {
        alone(|| {
            let lab = Lab::new(&Builder::new().driver(kind));
            let (near, mut far) = unix_pair();
            let recorder = Recorder::with(|_, call| {
                if call == Lost {
                    exit_loop(7);
                }
            });
            let (protocol, inner) = (recorder.clone(), lab.clone());
            let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                lab.run(async move {
                    inner.transport(near, protocol.clone()).await.close();
                    protocol.wait(Lost).await;
                });
            }));
            let exit = left.unwrap_err().downcast::<LoopExit>().unwrap();
            assert_eq!(exit.0.downcast_ref(), Some(&7));
            let transport = recorder.transport();
            assert_eq!(transport.get_extra_info("socket"), Some(ExtraInfo::Socket(-1)));
            assert!(transport.get_protocol().is_none());
            drop(transport);
            recorder.forget();
            // The loop goes on.
            let inner = lab.clone();
            lab.run(async move { inner.idle().await });
            assert_eq!(far.read(&mut [0]).unwrap(), 0);
            lab.close();
        });
    }
}
