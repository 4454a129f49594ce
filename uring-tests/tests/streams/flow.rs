//! Back-pressure, and who keeps the buffers of the receive pool.

use super::connections::{address, tcp_pair};
use super::{reader, run, settle, spawn};
use ringloop::driver::Pool;
use ringloop::protocol::InvalidLimits;
use ringloop::stream::{StreamReader, StreamWriter, open_connection, start_server};
use ringloop::{
    Chunk, ConnectOptions, ExtraInfo, ProtocolKind, ServerOptions, Transport, WriteLimits,
    get_running_loop,
};
use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use uring_tests::on_both_drivers;

/// A transport that only counts.
#[derive(Default)]
struct Counting {
    paused: Cell<u32>,
    resumed: Cell<u32>,
}

impl Transport for Counting {
    fn get_extra_info(&self, _name: &str) -> Option<ExtraInfo> {
        None
    }
    fn with_fd(&self, _f: &mut dyn FnMut(BorrowedFd<'_>)) {}
    fn is_closing(&self) -> bool {
        false
    }
    fn close(&self) {}
    fn abort(&self) {}
    fn set_protocol(&self, _protocol: ProtocolKind) {}
    fn get_protocol(&self) -> Option<ProtocolKind> {
        None
    }
    fn is_reading(&self) -> bool {
        self.paused.get() == self.resumed.get()
    }
    fn pause_reading(&self) {
        self.paused.set(self.paused.get() + 1);
    }
    fn resume_reading(&self) {
        self.resumed.set(self.resumed.get() + 1);
    }
    fn set_write_buffer_limits(
        &self,
        _high: Option<usize>,
        _low: Option<usize>,
    ) -> Result<(), InvalidLimits> {
        Ok(())
    }
    fn get_write_buffer_limits(&self) -> WriteLimits {
        WriteLimits::default()
    }
    fn get_write_buffer_size(&self) -> usize {
        0
    }
    fn write(&self, _data: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn write_chunk(&self, _chunk: Chunk) -> io::Result<()> {
        Ok(())
    }
    fn write_eof(&self) -> io::Result<()> {
        Ok(())
    }
    fn can_write_eof(&self) -> bool {
        false
    }
}

/// Both ends of one TCP connection: the client's, and the server's.
async fn pair() -> ((StreamReader, StreamWriter), (StreamReader, StreamWriter)) {
    tcp_pair().await
}

fn pool() -> Rc<Pool> {
    let event_loop = get_running_loop();
    event_loop.core().expect("a base loop").pool().clone()
}

on_both_drivers! {
    fn str_17_pauses_above_twice_the_limit_and_resumes_at_it(kind: DriverKind) {
        run(kind, async {
            let (mut stream, feeder) = reader(100);
            let counting = Rc::new(Counting::default());
            let transport: Rc<dyn Transport> = counting.clone();
            feeder.set_transport(transport);
            feeder.feed_data(vec![1; 200]);
            assert_eq!(counting.paused.get(), 0, "not at twice the limit");
            feeder.feed_data(vec![2; 1]);
            feeder.feed_data(vec![3; 1]);
            assert_eq!(counting.paused.get(), 1, "once");
            assert!(format!("{stream:?}").ends_with(" paused>"), "{stream:?}");
            stream.read(101).await.unwrap();
            assert_eq!(counting.resumed.get(), 0, "still above the limit");
            stream.read(1).await.unwrap();
            assert_eq!(counting.resumed.get(), 1);
            // What was looked at and not consumed counts.
            feeder.feed_data(vec![4; 101]);
            assert_eq!(counting.paused.get(), 2);
            while stream.fill_more().await.unwrap().len() < 201 {}
            assert_eq!(counting.resumed.get(), 1);
            stream.consume(101);
            assert_eq!(counting.resumed.get(), 2);
        });
    }

    fn str_17_a_reader_that_must_wait_resumes(kind: DriverKind) {
        run(kind, async {
            let (mut stream, feeder) = reader(10);
            let counting = Rc::new(Counting::default());
            let transport: Rc<dyn Transport> = counting.clone();
            feeder.set_transport(transport);
            feeder.feed_data(vec![1; 21]);
            assert_eq!(counting.paused.get(), 1);
            let exactly = spawn(async move { stream.readexactly(30).await.unwrap() });
            settle().await;
            assert_eq!(counting.resumed.get(), 1);
            feeder.feed_data(vec![1; 9]);
            assert_eq!(exactly.await.unwrap().len(), 30);
        });
    }

    /// A read that is polled once and then left alone does not lift the bound.
    fn str_17_a_forgotten_read_does_not_lift_the_bound(kind: DriverKind) {
        run(kind, async {
            let (mut stream, feeder) = reader(10);
            let counting = Rc::new(Counting::default());
            let transport: Rc<dyn Transport> = counting.clone();
            feeder.set_transport(transport);
            let mut waiting = std::pin::pin!(stream.read_to_end());
            let polled = std::future::poll_fn(|cx| {
                use std::future::Future;
                std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending())
            });
            assert!(polled.await);
            let mut fed = 0;
            while counting.paused.get() == 0 {
                feeder.feed_data(vec![1; 16 * 1024]);
                fed += 16 * 1024;
                assert!(fed < 1024 * 1024, "never paused");
            }
        });
    }

    /// The bytes of a client that sends more than anybody reads wait with the client; what waits
    /// here does not drain the pool, and arrives whole in the end.
    fn str_17_a_slow_reader_stops_its_peer_and_loses_nothing(kind: DriverKind) {
        const TOTAL: usize = 48 * 1024 * 1024;
        run(kind, async {
            let ((_reader, writer), (mut slow, _answers)) = pair().await;
            let sending = spawn(async move {
                let block: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
                for _ in 0..TOTAL / block.len() {
                    writer.write(&block).unwrap();
                    writer.drain().await.unwrap();
                }
                writer.write_eof().unwrap();
                writer
            });
            let feeder = slow.protocol();
            // Until the sender is stuck: its transport is paused, and ours.
            while !format!("{feeder:?}").ends_with(" paused>") {
                ringloop::yield_now().await.unwrap();
            }
            for _ in 0..1000 {
                ringloop::yield_now().await.unwrap();
            }
            assert!(!sending.done(), "48 MiB do not fit anywhere");
            assert!(slow.buffered() < 1024 * 1024, "{}", slow.buffered());
            assert!(!pool().is_short(), "{}", pool().lent());
            let pattern: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
            let mut count = 0;
            while let Some(lease) = slow.read_lease().await.unwrap() {
                let expected = &pattern[count % 256..][..lease.len()];
                assert!(*lease == *expected, "within {} bytes from {count}", lease.len());
                count += lease.len();
            }
            assert_eq!(count, TOTAL);
            sending.await.unwrap().close();
        });
    }

    /// Nobody reads, and more connections hold data than the pool has buffers at first: it stays
    /// small.
    fn unread_streams_do_not_hold_the_pool(kind: DriverKind) {
        run(kind, async {
            let mut pairs = Vec::new();
            for _ in 0..100 {
                pairs.push(pair().await);
            }
            for ((_, writer), _) in &pairs {
                writer.write(b"a small message that nobody reads").unwrap();
            }
            for (_, (unread, _)) in &pairs {
                while unread.buffered() == 0 {
                    ringloop::yield_now().await.unwrap();
                }
            }
            assert_eq!(pool().lent(), 0);
            for ((_, writer), (unread, _)) in &mut pairs {
                assert_eq!(unread.read(100).await.unwrap(), b"a small message that nobody reads");
                writer.close();
            }
        });
    }

    /// In the usual case the reader hands out the buffer that was received into, and it is given
    /// back when its echo is sent.
    fn a_lease_goes_from_the_kernel_to_the_kernel(kind: DriverKind) {
        run(kind, async {
            let server = start_server(
                async |mut reader: StreamReader, writer: StreamWriter| {
                    while let Some(lease) = reader.read_lease().await? {
                        assert!(lease.is_pooled());
                        writer.write_lease(lease)?;
                        writer.drain().await?;
                    }
                    io::Result::Ok(())
                },
                ServerOptions::new("127.0.0.1", 0),
            );
            let server = server.await.unwrap();
            let to = address(&server);
            let (mut reader, writer) = open_connection(ConnectOptions::from(to)).await.unwrap();
            for round in 0..100u32 {
                writer.write(&round.to_be_bytes()).unwrap();
                assert_eq!(reader.readexactly(4).await.unwrap(), round.to_be_bytes());
            }
            writer.close();
            writer.wait_closed().await.unwrap();
            server.close();
            server.wait_closed().await.unwrap();
            assert_eq!(pool().lent(), 0);
        });
    }

    /// The reader is gone, the writer still learns of the end.
    fn a_dropped_reader_discards_and_the_end_is_noticed(kind: DriverKind) {
        run(kind, async {
            let ((reader, writer), (peer_reader, peer)) = pair().await;
            drop(reader);
            let sending = spawn(async move {
                for _ in 0..100 {
                    peer.write(&[0; 16 * 1024]).unwrap();
                    peer.drain().await.unwrap();
                }
                peer.close();
                peer.wait_closed().await.unwrap();
            });
            sending.await.unwrap();
            drop(peer_reader);
            // The end of the stream alone does not end our side.
            assert!(!writer.is_closing());
            writer.close();
            writer.wait_closed().await.unwrap();
        });
    }
}
