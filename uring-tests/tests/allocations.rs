//! No heap allocation for an echoed message, through either interface.
//!
//! The allocator of this program counts what the thread that runs the loop takes; the client is
//! another thread.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::channel;

use ringloop::event_loop::Future;
use ringloop::protocol::{BaseProtocol, Protocol};
use ringloop::stream::{StreamReader, StreamWriter, start_server};
use ringloop::{
    Builder, Cancelled, ContextVar, EventLoopExt, Lease, LoopHandle, Server, ServerOptions,
    Transport, block_on, create_task, get_running_loop, sleep, task_group, timeout, yield_now,
};
use uring_tests::heap::{self, Counting};
use uring_tests::tasks::HOUR;
use uring_tests::{DriverKind, on_both_drivers};

#[global_allocator]
static HEAP: Counting = Counting;

/// Echoes by callbacks.
#[derive(Default)]
struct Echo(RefCell<Option<Rc<dyn Transport>>>);

impl BaseProtocol for Echo {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        self.0.replace(Some(transport));
    }

    fn connection_lost(&self, _error: Option<io::Error>) {
        self.0.take();
    }
}

impl Protocol for Echo {
    fn data_received(&self, data: Lease) {
        let transport = self.0.borrow().clone().expect("connected");
        transport.write_chunk(data.into()).expect("open");
    }
}

/// Echoes by callbacks, a copy of what it receives.
#[derive(Default)]
struct CopyingEcho(Echo);

impl BaseProtocol for CopyingEcho {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        self.0.connection_made(transport);
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.0.connection_lost(error);
    }
}

impl Protocol for CopyingEcho {
    fn data_received(&self, data: Lease) {
        let transport = self.0.0.borrow().clone().expect("connected");
        transport.write(&data).expect("open");
    }
}

/// Echoes with `await`.
async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    while let Some(data) = reader.read_lease().await? {
        writer.write_lease(data)?;
        writer.drain().await?;
    }
    Ok(())
}

/// Echoes what is copied out of the reader into a buffer of the task's own, and back.
async fn copying_echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = reader.read_into(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        writer.write(&buffer[..n])?;
        writer.drain().await?;
    }
}

/// Echoes what it looks at in the reader's own buffer.
async fn looking_echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let there = reader.fill_buf().await?;
        let n = there.len();
        if n == 0 {
            return Ok(());
        }
        writer.write(there)?;
        reader.consume(n);
        writer.drain().await?;
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Protocol,
    CopyingProtocol,
    Stream,
    CopyingStream,
    LookingStream,
}

async fn serve(way: Way) -> io::Result<Server> {
    let options = ServerOptions::new("127.0.0.1", 0);
    match way {
        Way::Protocol => {
            let factory = || Rc::new(Echo::default());
            get_running_loop().create_server(factory, options).await
        }
        Way::CopyingProtocol => {
            let factory = || Rc::new(CopyingEcho::default());
            get_running_loop().create_server(factory, options).await
        }
        Way::Stream => start_server(echo, options).await,
        Way::CopyingStream => start_server(copying_echo, options).await,
        Way::LookingStream => start_server(looking_echo, options).await,
    }
}

const WARM_UP: usize = 200;
const MESSAGES: usize = 500;
const MEASUREMENTS: usize = 8;
const CONNECTIONS: usize = 10;

/// One round: a message on every connection, then all echoes.
fn rounds(streams: &mut [TcpStream], size: usize, count: usize) {
    let message = vec![7; size];
    let mut echoed = vec![0; size];
    for _ in 0..count {
        for stream in &mut *streams {
            stream.write_all(&message).expect("it reads");
        }
        for stream in &mut *streams {
            stream.read_exact(&mut echoed).expect("it answers");
        }
    }
}

/// How often the thread of the loop has taken memory, as that thread says.
fn taken_so_far(event_loop: &LoopHandle) -> u64 {
    let (tell, told) = channel();
    let callback = move || tell.send(heap::taken()).expect("somebody listens");
    event_loop
        .call_soon_threadsafe(callback)
        .expect("the loop runs");
    told.recv().expect("the callback runs")
}

/// The client: how often memory was taken for `MESSAGES * CONNECTIONS` echoes, in the best of some
/// measurements after a warm-up. (What grows with the most messages that ever arrived at once may
/// still grow in one of them; what is taken for each message, or now and then, shows in all.)
fn client(to: SocketAddr, size: usize, event_loop: &LoopHandle) -> u64 {
    let connect = |_| TcpStream::connect(to).expect("it listens");
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
    rounds(&mut streams, size, WARM_UP);
    // Telling takes memory itself.
    taken_so_far(event_loop);
    let telling = taken_so_far(event_loop);
    let mut before = taken_so_far(event_loop);
    let for_telling = before - telling;
    let measured = (0..MEASUREMENTS).map(|_| {
        rounds(&mut streams, size, MESSAGES);
        let after = taken_so_far(event_loop);
        after - std::mem::replace(&mut before, after) - for_telling
    });
    // Stops at the first 0.
    let mut least = u64::MAX;
    for taken in measured {
        least = least.min(taken);
        if least == 0 {
            break;
        }
    }
    least
}

/// How often the thread of the loop took memory.
fn taken(kind: DriverKind, way: Way, size: usize) -> u64 {
    let event_loop = Builder::new()
        .driver(kind)
        .build()
        .expect("the driver is to be had");
    let main = async move {
        let server = serve(way).await.expect("a free port");
        let to = server.local_addrs()[0].as_inet().expect("a TCP server");
        let event_loop = get_running_loop();
        let handle = event_loop.handle().expect("a base loop");
        let count = event_loop
            .run_in_executor(move || client(to, size, &handle))
            .await;
        server.close();
        server.wait_closed().await.expect("not cancelled");
        count.expect("the client ends")
    };
    block_on(&event_loop, main).expect("it runs to its end")
}

on_both_drivers! {
    fn an_echoed_message_takes_no_memory_through_a_protocol(kind: DriverKind) {
        for way in [Way::Protocol, Way::CopyingProtocol] {
            for size in [64, 4096, 60_000] {
                assert_eq!(taken(kind, way, size), 0, "{way:?}, {size} bytes");
            }
        }
    }

    fn an_echoed_message_takes_no_memory_through_streams(kind: DriverKind) {
        for way in [Way::Stream, Way::CopyingStream, Way::LookingStream] {
            for size in [64, 4096, 60_000] {
                assert_eq!(taken(kind, way, size), 0, "{way:?}, {size} bytes");
            }
        }
    }

    /// Making one takes its memory; waiting for it, ending it and waking take none.
    fn waiting_for_a_future_and_waking_take_no_memory(kind: DriverKind) {
        let l = Builder::new().driver(kind).build().expect("the driver is to be had");
        let turn = || {
            l.stop();
            l.run_forever().expect("it runs");
        };
        let done = Rc::new(Cell::new(0));
        let mut rounds = Vec::new();
        for round in 0..64 {
            let futures: [Future<u64>; 3] = std::array::from_fn(|_| l.create_future());
            let (waits, seen) = (futures.clone().map(|future| future.wait()), done.clone());
            let waiting = async move {
                for wait in waits {
                    seen.set(seen.get() + wait.await.expect("it is set"));
                }
            };
            drop(l.create_task(waiting).expect("open"));
            let ends = move || {
                let before = heap::taken();
                futures[0].set_result(round).expect("pending");
                futures[2].set_result(round).expect("pending");
                futures[1].set_result(round).expect("pending");
                assert_eq!(heap::taken(), before, "setting them takes memory");
            };
            turn();
            l.call_soon(ends).expect("open");
            let before = heap::taken();
            turn();
            turn();
            rounds.push(heap::taken() - before);
        }
        assert_eq!(done.get(), 3 * (0..64).sum::<u64>());
        // What is kept for the next ones grows in the first rounds.
        assert_eq!(rounds[32..], [0; 32]);
        l.close().expect("it does not run");
    }

    /// A group takes its own memory and its list's; a child of it, and a timeout, none.
    fn children_of_a_group_and_timeouts_take_no_memory(kind: DriverKind) {
        async fn group_of(children: usize) -> u64 {
            let before = heap::taken();
            let group = task_group(async |group| {
                for _ in 0..children {
                    drop(group.create_task(yield_now())?);
                }
                Ok::<_, Cancelled>(())
            });
            group.await.expect("nothing fails");
            heap::taken() - before
        }
        async fn limited() -> u64 {
            let before = heap::taken();
            let limited = timeout(HOUR, yield_now());
            limited.await.expect("in time").expect("not cancelled");
            heap::taken() - before
        }
        let l = Builder::new().driver(kind).build().expect("the driver is to be had");
        let taken = l.run_until_complete(async {
            for _ in 0..8 {
                group_of(64).await;
                limited().await;
            }
            (group_of(16).await, group_of(64).await, limited().await)
        });
        let (few, many, limited) = taken.expect("it runs");
        // The list grows twice, from 16 places to 64.
        assert_eq!(many - few, 2);
        assert!(few <= 4, "{few}: the group and a list that grew to 16");
        assert_eq!(limited, 0);
        l.close().expect("it does not run");
    }

    /// Warm tasks, callbacks and yields take none, with context variables in use and without: a copy
    /// of a context shares its list.
    fn tasks_and_callbacks_take_no_memory(kind: DriverKind) {
        static VAR: ContextVar<u64> = ContextVar::new("var");
        for in_use in [false, true] {
            let l = Builder::new().driver(kind).build().expect("the driver is to be had");
            let rounds = block_on(&l, async move {
                if in_use {
                    VAR.set(7);
                }
                let mut rounds = Vec::with_capacity(64);
                let (seen, read) = (Rc::new(Cell::new(0)), || VAR.get().unwrap_or(1));
                for _ in 0..64 {
                    let before = heap::taken();
                    let value = create_task(async move {
                        yield_now().await.expect("nobody cancels it");
                        read()
                    });
                    let see = seen.clone();
                    let callback = get_running_loop().call_soon(move || see.set(read()));
                    assert!(callback.expect("it runs").is_waiting());
                    assert_eq!(value.await.expect("it ends"), if in_use { 7 } else { 1 });
                    assert_eq!(seen.get(), read());
                    rounds.push(heap::taken() - before);
                }
                rounds
            });
            assert_eq!(rounds.expect("it runs")[32..], [0; 32], "in use: {in_use}");
        }
    }

    /// What is too large for a slot stands in memory of its own, which goes however it ends.
    fn large_bodies_and_closures_give_their_memory_back(kind: DriverKind) {
        let l = Builder::new().driver(kind).build().expect("the driver is to be had");
        let rounds = block_on(&l, async {
            let event_loop = get_running_loop();
            let mut rounds = Vec::with_capacity(64);
            for _ in 0..64 {
                let large = [1_u8; 5000];
                let finished = create_task(async move { yield_now().await.map(|()| large) });
                let unread = create_task(async move { large });
                let panicked = create_task(async move { assert_eq!(large[4999], 0) });
                let cancelled = create_task(async move { sleep(HOUR).await.map(|()| large) });
                let unstarted = create_task(async move { large });
                let called = event_loop.call_soon(move || assert_eq!(large[4999], 1));
                let dropped = event_loop.call_soon(move || unreachable!("{large:?}"));
                assert!(unstarted.cancel());
                dropped.expect("it runs").cancel();
                yield_now().await.expect("nobody cancels it");
                cancelled.cancel();
                assert_eq!(finished.await.expect("it ends").expect("not cancelled"), large);
                assert!(panicked.await.expect_err("it panics").is_panic());
                for ended in [cancelled.await.map(drop), unstarted.await.map(drop)] {
                    assert!(ended.expect_err("cancelled").is_cancelled());
                }
                assert!(unread.done() && !called.expect("it runs").is_waiting());
                drop(unread);
                rounds.push(heap::taken() - heap::given_back());
            }
            rounds
        });
        let rounds = rounds.expect("it runs");
        assert_eq!(rounds[32..], [rounds[31]; 32]);
    }

    /// The count counts.
    fn what_takes_memory_is_counted(_kind: DriverKind) {
        let before = heap::taken();
        drop(std::hint::black_box(Box::new(1)));
        assert_eq!(heap::taken(), before + 1);
    }
}
