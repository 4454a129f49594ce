//! System calls that a filter refuses, as containers have it.

use std::io;

/// The most calls that one filter names.
const MOST: usize = 4;

/// Has these system calls answer `errno` from now on: on this thread, and in all that it starts. There
/// is no way back. Allocates nothing, so it may stand between fork and exec.
///
/// # Errors
/// When the kernel refuses the filter.
///
/// # Panics
/// With more than four calls.
pub fn refuse(calls: &[libc::c_long], errno: i32) -> io::Result<()> {
    assert!(calls.len() <= MOST, "one filter names up to {MOST} calls");
    let step = |code: u32, k: u32, jt: usize| libc::sock_filter {
        code: code as u16,
        jt: jt as u8,
        jf: 0,
        k,
    };
    let allow = step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0);
    let mut steps = [allow; MOST + 3];
    // The number of the call stands first in what the filter sees.
    steps[0] = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0);
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    for (index, call) in calls.iter().enumerate() {
        // Over the other calls and the step that allows.
        steps[1 + index] = step(equal, *call as u32, calls.len() - index);
    }
    let answer = libc::SECCOMP_RET_ERRNO | errno as u32;
    steps[2 + calls.len()] = step(libc::BPF_RET | libc::BPF_K, answer, 0);
    install(&mut steps[..calls.len() + 3])
}

/// Sets a filter for this thread, and all that it starts. Allocates nothing.
///
/// # Errors
/// When the kernel refuses it.
pub fn install(steps: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: both calls take plain numbers, the second also a program that lives during the call.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) != 0
    };
    if refused {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
