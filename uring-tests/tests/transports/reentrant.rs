//! Everything is legal inside every callback.
//!
//! One connection goes through all its callbacks; in one of them it does one thing more. Whatever
//! that is, the rules hold: made first and once, lost last and once, pauses and resumes in turns,
//! what the peer gets is a beginning of what was accepted.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use ringloop::driver::MAX_VECTORS;
use ringloop::{Chunk, Lease, Transport};
use uring_tests::lab::{Lab, lab};
use uring_tests::on_both_drivers;

use crate::recorder::Call::{self, Data, Eof, Lost, Made, Pause, Resume};
use crate::recorder::{Buffered, Recorder};
use crate::sockets::{FLOOD, Pair, connected, pattern};

/// What was accepted for sending.
type Sent = Rc<RefCell<Vec<u8>>>;

type Act = fn(&Recorder, &Sent);

/// Writes, and notes what a peer may see of it: a closing transport drops it, except in
/// `resume_writing`.
fn write(me: &Recorder, sent: &Sent, bytes: &[u8], how: impl Fn(&dyn Transport, &[u8])) {
    let transport = me.transport();
    let resuming = me.calls().last() == Some(&Resume);
    let dropped = me.has(Lost) || (transport.is_closing() && !resuming);
    if !dropped && transport.write(b"").is_ok() {
        sent.borrow_mut().extend(bytes);
    }
    how(&*transport, bytes);
}

fn write_little(me: &Recorder, sent: &Sent) {
    write(me, sent, b"little", |transport, bytes| {
        let _ = transport.write(bytes);
    });
}

fn write_much(me: &Recorder, sent: &Sent) {
    write(me, sent, &[7; 200_000], |transport, bytes| {
        let _ = transport.write_chunk(bytes.to_vec().into());
    });
}

fn write_lines(me: &Recorder, sent: &Sent) {
    write(me, sent, &[8; 3_000], |transport, bytes| {
        let mut pieces: Vec<Chunk> = vec![Lease::from(bytes[..1_000].to_vec()).into()];
        pieces.extend(
            bytes[1_000..]
                .chunks(7)
                .map(|piece| Chunk::from(piece.to_vec())),
        );
        let _ = transport.writelines(pieces);
    });
}

fn write_eof(me: &Recorder, _: &Sent) {
    me.transport().write_eof().unwrap();
}

fn close(me: &Recorder, _: &Sent) {
    me.transport().close();
}

fn abort(me: &Recorder, _: &Sent) {
    me.transport().abort();
}

fn write_and_close(me: &Recorder, sent: &Sent) {
    write_little(me, sent);
    close(me, sent);
    abort_if_lost(me);
}

fn abort_if_lost(me: &Recorder) {
    if me.has(Lost) {
        me.transport().abort();
    }
}

fn pause_and_resume(me: &Recorder, _: &Sent) {
    me.transport().pause_reading();
    me.transport().pause_reading();
    me.transport().resume_reading();
    me.transport().resume_reading();
}

fn limits(me: &Recorder, _: &Sent) {
    let transport = me.transport();
    transport.set_write_buffer_limits(Some(0), None).unwrap();
    transport
        .set_write_buffer_limits(Some(1 << 20), Some(1 << 20))
        .unwrap();
    transport.set_write_buffer_limits(None, None).unwrap();
}

fn ask(me: &Recorder, _: &Sent) {
    let transport = me.transport();
    let name = transport.get_extra_info("sockname");
    assert!(name.is_some() && transport.get_protocol().is_some());
    let mut descriptors = 0;
    transport.with_fd(&mut |_| descriptors += 1);
    assert_eq!(descriptors, 1);
    assert!(transport.get_write_buffer_size() <= 4 * FLOOD);
}

/// The other kind of protocol, with the same recorder behind it.
fn switch(me: &Recorder, _: &Sent) {
    let other = me.other();
    me.transport().set_protocol(other);
}

const ACTS: [(&str, Act); 11] = [
    ("write little", write_little),
    ("write much", write_much),
    ("writelines", write_lines),
    ("write_eof", write_eof),
    ("close", close),
    ("abort", abort),
    ("write and close", write_and_close),
    ("pause and resume", pause_and_resume),
    ("limits", limits),
    ("ask", ask),
    ("set_protocol", switch),
];

/// One life, with `act` in the first `call`.
async fn live(lab: &Lab, pair: Pair, call: Call, name: &str, act: Act) {
    let sent = Sent::default();
    let (near, far) = pair.open();
    let near_end = Recorder::new().keep_open();
    let acted = Rc::new(Cell::new(0));
    let (count, log) = (acted.clone(), sent.clone());
    near_end.hook(move |me, seen| {
        if seen == call && count.replace(count.get() + 1) == 0 {
            act(me, &log);
        }
    });
    near_end.set_other(Buffered::new(&near_end, 1_000).kind());
    let far_end = Recorder::new().keep_open();
    let peer = lab.transport(far, far_end.clone()).await;
    peer.pause_reading();
    let transport = lab.transport(near, near_end.clone()).await;
    // Data.
    peer.write(b"hello").unwrap();
    lab.settle().await;
    // Pause, and Resume.
    write(&near_end, &sent, &pattern(FLOOD), |transport, bytes| {
        let _ = transport.write(bytes);
    });
    lab.settle().await;
    peer.resume_reading();
    near_end
        .until(|me| me.count(Resume) == me.count(Pause) || me.has(Lost))
        .await;
    // The end.
    peer.write_eof().unwrap_or_default();
    near_end.until(|me| me.has(Eof) || me.has(Lost)).await;
    lab.settle().await;
    transport.close();
    near_end.wait(Lost).await;
    far_end.until(|me| me.has(Eof) || me.has(Lost)).await;
    peer.close();
    far_end.wait(Lost).await;
    lab.idle().await;

    let context = format!("{name} inside {call:?} on {pair:?}");
    // What ends the connection early keeps the later callbacks from coming.
    let ends = ["close", "abort", "write and close"].contains(&name);
    assert!(
        acted.get() > 0 || (call != Lost && ends),
        "not called: {context}"
    );
    let calls = near_end.calls();
    let count = |call| calls.iter().filter(|seen| **seen == call).count();
    assert_eq!(calls.first(), Some(&Made), "{context}: {calls:?}");
    assert_eq!(calls.last(), Some(&Lost), "{context}: {calls:?}");
    assert_eq!((count(Made), count(Lost)), (1, 1), "{context}: {calls:?}");
    assert!(count(Eof) <= 1, "{context}: {calls:?}");
    let flow = calls.iter().filter(|call| matches!(call, Pause | Resume));
    let turns = [Pause, Resume].into_iter().cycle();
    assert!(
        flow.zip(turns).all(|(seen, due)| *seen == due),
        "{context}: {calls:?}"
    );
    assert_eq!(near_end.lost_with(), None, "{context}");
    let sent = sent.borrow();
    let arrived = far_end.data();
    assert!(
        sent.starts_with(&arrived),
        "{context}: {} bytes arrived",
        arrived.len()
    );
    if name != "abort" {
        assert_eq!(arrived.len(), sent.len(), "{context}");
        assert!(near_end.data() == b"hello" || ends, "{context}");
    }
    assert_eq!(lab.messages(), [""; 0], "{context}");
    near_end.forget_other();
}

thread_local! {
    static WHEN_DROPPED: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Bytes whose destructor does what the test says.
struct Last([u8; 1]);

impl AsRef<[u8]> for Last {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(act) = WHEN_DROPPED.take() {
            act();
        }
    }
}

/// More pieces than one call sends.
const MANY: usize = MAX_VECTORS + 500;

/// Writes them, the first of them such that `act` happens when it was sent.
fn write_many(transport: &Rc<dyn Transport>, act: fn(&dyn Transport)) {
    let bytes = pattern(MANY);
    let first = Bytes::from_owner(Last([bytes[0]]));
    let to = transport.clone();
    WHEN_DROPPED.set(Some(Box::new(move || act(&*to))));
    let rest = bytes[1..].iter().map(|byte| vec![*byte].into());
    let pieces = std::iter::once(first.into()).chain(rest).collect();
    transport.writelines(pieces).unwrap();
}

on_both_drivers! {
    /// In the middle of what was written before: it comes behind all of that.
    fn tso_09_what_a_destructor_writes_comes_last(kind: DriverKind) {
        lab(kind, |lab| async move {
            // Sent inside the write, and by the driver.
            for high in [0, FLOOD] {
                let (near, far) = connected(&lab, Pair::Unix).await;
                let transport = near.transport();
                transport.set_write_buffer_limits(Some(high), Some(0)).unwrap();
                write_many(&transport, |transport| transport.write(b"last").unwrap());
                far.wait_received(MANY + 4).await;
                assert!(far.data() == [pattern(MANY), b"last".to_vec()].concat());
                transport.close();
                near.wait(Lost).await;
                far.wait(Lost).await;
            }
        });
    }

    fn trn_08_abort_in_a_destructor_drops_the_rest(kind: DriverKind) {
        lab(kind, |lab| async move {
            for high in [0, FLOOD] {
                let (near, far) = connected(&lab, Pair::Unix).await;
                let transport = near.transport();
                transport.set_write_buffer_limits(Some(high), Some(0)).unwrap();
                write_many(&transport, |transport| transport.abort());
                if high == 0 {
                    assert_eq!(transport.get_write_buffer_size(), 0);
                }
                near.wait(Lost).await;
                assert_eq!(transport.get_write_buffer_size(), 0);
                far.wait(Lost).await;
                assert!(far.received() < MANY, "the rest was sent");
                assert!(pattern(MANY).starts_with(&far.data()));
            }
        });
    }

    fn every_act_inside_every_callback(kind: DriverKind) {
        for pair in Pair::BOTH {
            lab(kind, move |lab| async move {
                for (name, act) in ACTS {
                    for call in [Made, Data, Pause, Resume, Eof, Lost] {
                        live(&lab, pair, call, name, act).await;
                    }
                }
            });
        }
    }
}
