//! Making a loop: which driver, and what to say when it is not to be had.

use crate::driver::epoll::{EpollDriver, EpollOptions};
use crate::driver::uring::{UringDriver, UringOptions};
use crate::driver::{Driver, DriverKind};
use crate::event_loop::{AbstractEventLoop, BaseEventLoop, TransportFactory};
use crate::transport::DefaultTransports;
use std::io;
use std::rc::{Rc, Weak};

/// Makes a loop.
///
/// # Examples
/// ```
/// use ringloop::{AbstractEventLoop, Builder, DriverKind};
///
/// let event_loop = Builder::new().driver(DriverKind::Epoll).build()?;
/// event_loop.close().expect("the loop does not run");
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Default)]
pub struct Builder {
    kind: DriverKind,
    uring: Option<UringOptions>,
    epoll: EpollOptions,
    debug: Option<bool>,
    transports: Option<Rc<dyn TransportFactory>>,
}

/// The environment variable that chooses the driver when the program leaves it open.
const DRIVER_VARIABLE: &str = "RINGLOOP_DRIVER";
/// The one that sets its options when the program leaves them open.
const URING_VARIABLE: &str = "RINGLOOP_URING";

impl Builder {
    /// The defaults: [`DriverKind::Auto`], debug mode by `RINGLOOP_DEBUG`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which driver. With [`DriverKind::Auto`], the default, the environment variable
    /// `RINGLOOP_DRIVER` (`auto`, `uring`, `epoll`) decides if it is set.
    #[must_use]
    pub fn driver(mut self, kind: DriverKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sizes and rungs of the io_uring driver. Left open, the environment variable `RINGLOOP_URING`
    /// decides if it is set, with a list such as `inline_sends=off,sq_entries=64` (see
    /// [`UringOptions`]).
    #[must_use]
    pub fn uring_options(mut self, options: UringOptions) -> Self {
        self.uring = Some(options);
        self
    }

    /// Limits of the epoll driver.
    #[must_use]
    pub fn epoll_options(mut self, options: EpollOptions) -> Self {
        self.epoll = options;
        self
    }

    /// Debug mode on or off, whatever `RINGLOOP_DEBUG` says.
    #[must_use]
    pub fn debug(mut self, debug: bool) -> Self {
        self.debug = Some(debug);
        self
    }

    /// Who makes the transports.
    #[must_use]
    pub fn transports(mut self, factory: Rc<dyn TransportFactory>) -> Self {
        self.transports = Some(factory);
        self
    }

    fn kind(&self) -> io::Result<DriverKind> {
        match std::env::var(DRIVER_VARIABLE) {
            Ok(name) if self.kind == DriverKind::Auto && !name.is_empty() => {
                name.parse().map_err(|error: io::Error| {
                    io::Error::new(error.kind(), format!("{DRIVER_VARIABLE}: {error}"))
                })
            }
            _ => Ok(self.kind),
        }
    }

    fn uring(&self) -> io::Result<UringOptions> {
        match (&self.uring, std::env::var(URING_VARIABLE)) {
            (Some(options), _) => Ok(options.clone()),
            (None, Ok(list)) => list.parse().map_err(|error: io::Error| {
                io::Error::new(error.kind(), format!("{URING_VARIABLE}: {error}"))
            }),
            (None, Err(_)) => Ok(UringOptions::default()),
        }
    }

    /// The driver alone, for a loop of your own.
    ///
    /// With [`DriverKind::Auto`], where io_uring is not to be had, the reason and the remedy are
    /// written to standard error in one line and epoll is taken.
    ///
    /// # Errors
    /// With [`DriverKind::Uring`], why io_uring is not to be had and what to do; else what epoll
    /// answered (no more descriptors). `InvalidInput`: a variable of the environment is not understood.
    pub fn build_driver(&self) -> io::Result<Box<dyn Driver>> {
        match self.kind()? {
            DriverKind::Uring => Ok(Box::new(UringDriver::new(self.uring()?)?)),
            DriverKind::Epoll => Ok(Box::new(EpollDriver::new(self.epoll.clone())?)),
            DriverKind::Auto => match UringDriver::new(self.uring()?) {
                Ok(driver) => Ok(Box::new(driver)),
                Err(error) => {
                    use std::io::Write;
                    // A closed standard error must not keep a server from starting.
                    let _ = writeln!(io::stderr(), "ringloop runs on epoll: {error}");
                    Ok(Box::new(EpollDriver::new(self.epoll.clone())?))
                }
            },
        }
    }

    /// The loop.
    ///
    /// # Errors
    /// As [`build_driver`](Self::build_driver).
    pub fn build(&self) -> io::Result<Rc<dyn AbstractEventLoop>> {
        let driver = self.build_driver()?;
        let transports = self
            .transports
            .clone()
            .unwrap_or_else(|| Rc::new(DefaultTransports));
        let event_loop = Rc::new_cyclic(|me: &Weak<BaseEventLoop>| {
            BaseEventLoop::new(driver, transports, me.clone())
        });
        event_loop.stand_alone();
        if let Some(debug) = self.debug {
            event_loop.set_debug(debug);
        }
        Ok(event_loop)
    }
}
