//! What the io_uring driver may use.

use crate::driver::MAX_BUFFERS;
use crate::ring::RingOptions;
use std::io;
use std::str::FromStr;

/// Sizes, and the rungs of set-up that may be switched off.
///
/// A rung that is `false` is left out as if the kernel lacked it; that is how the fall-backs are
/// tested on a kernel that has everything.
#[derive(Clone, Debug)]
pub struct UringOptions {
    /// Entries of the submission queue; default 256. Halved down to 64 when memory is short.
    pub sq_entries: u32,
    /// Entries of the completion queue; default 4096. Halved down to 256 when memory is short.
    pub cq_entries: u32,
    /// The most receive buffers, of [`BUFFER_SIZE`](crate::driver::BUFFER_SIZE) bytes each; default
    /// and most [`MAX_BUFFERS`].
    pub buffers: usize,
    /// `IORING_SETUP_NO_SQARRAY` (Linux 6.6); default true.
    pub no_sqarray: bool,
    /// Enters name the ring by a registered index; default true.
    pub registered_fd: bool,
    /// `IORING_ENTER_NO_IOWAIT` (Linux 6.15); default true.
    pub no_iowait: bool,
    /// `IORING_ENTER_ABS_TIMER` (Linux 6.12): no clock is read to park with a deadline; default true.
    pub absolute_timeouts: bool,
    /// Sends that finish inside the enter that submits them and complete silently; default true.
    pub inline_sends: bool,
    /// Multishot receive; default true. The kernel must have it all the same: Unix sockets do without it
    /// for another reason (it may miss the end of the stream), so this only tries their way on all.
    pub multishot_receive: bool,
    /// Multishot accept (trustworthy on Linux before 6.6 and from 6.10); default true.
    pub multishot_accept: bool,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self {
            sq_entries: 256,
            cq_entries: 4096,
            buffers: MAX_BUFFERS,
            no_sqarray: true,
            registered_fd: true,
            no_iowait: true,
            absolute_timeouts: true,
            inline_sends: true,
            multishot_receive: true,
            multishot_accept: true,
        }
    }
}

/// From a list such as `inline_sends=off,sq_entries=64`, over the defaults; the names are those of the
/// members.
///
/// # Errors
/// `InvalidInput`, with what is not understood.
impl FromStr for UringOptions {
    type Err = io::Error;

    fn from_str(list: &str) -> io::Result<Self> {
        let mut options = Self::default();
        for item in list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            options.set(item).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "{item:?} is not understood: use {} with on or off, and {} with a number",
                        RUNGS.join(", "),
                        SIZES.join(", "),
                    ),
                )
            })?;
        }
        Ok(options)
    }
}

/// Members that are on or off.
const RUNGS: [&str; 7] = [
    "no_sqarray",
    "registered_fd",
    "no_iowait",
    "absolute_timeouts",
    "inline_sends",
    "multishot_receive",
    "multishot_accept",
];
/// Members that are numbers.
const SIZES: [&str; 3] = ["sq_entries", "cq_entries", "buffers"];

impl UringOptions {
    /// One item of a list; `None` when it is not understood.
    fn set(&mut self, item: &str) -> Option<()> {
        let (name, value) = item.split_once('=')?;
        let on = match value {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        match name {
            "sq_entries" => self.sq_entries = value.parse().ok()?,
            "cq_entries" => self.cq_entries = value.parse().ok()?,
            "buffers" => self.buffers = value.parse().ok()?,
            "no_sqarray" => self.no_sqarray = on?,
            "registered_fd" => self.registered_fd = on?,
            "no_iowait" => self.no_iowait = on?,
            "absolute_timeouts" => self.absolute_timeouts = on?,
            "inline_sends" => self.inline_sends = on?,
            "multishot_receive" => self.multishot_receive = on?,
            "multishot_accept" => self.multishot_accept = on?,
            _ => return None,
        }
        Some(())
    }

    pub(super) fn ring(&self) -> RingOptions {
        RingOptions {
            sq_entries: self.sq_entries,
            cq_entries: self.cq_entries,
            no_sqarray: self.no_sqarray,
            registered_fd: self.registered_fd,
            no_iowait: self.no_iowait,
            absolute_timeouts: self.absolute_timeouts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_sets_what_it_names() {
        let off: Vec<String> = RUNGS.iter().map(|name| format!("{name}=off")).collect();
        let options: UringOptions = off.join(",").parse().unwrap();
        let on = [
            options.no_sqarray,
            options.registered_fd,
            options.no_iowait,
            options.absolute_timeouts,
            options.inline_sends,
            options.multishot_receive,
            options.multishot_accept,
        ];
        assert_eq!(on, [false; RUNGS.len()]);
        let sizes: Vec<String> = SIZES.iter().map(|name| format!(" {name}=7")).collect();
        let options: UringOptions = sizes.join(",").parse().unwrap();
        assert_eq!(
            (options.sq_entries, options.cq_entries, options.buffers),
            (7, 7, 7)
        );
        assert!(options.inline_sends);
        assert!("".parse::<UringOptions>().unwrap().no_iowait);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for list in [
            "inline_sends",
            "inline_sends=maybe",
            "sq_entries=-1",
            "nothing=on",
        ] {
            let error = format!("buffers=64,{list}")
                .parse::<UringOptions>()
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("{list:?}")), "{error}");
        }
    }
}
