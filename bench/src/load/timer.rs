//! A timer that keeps microseconds. Tokio's own keeps milliseconds, which is as long as what is measured here takes.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's.
#[derive(Debug)]
pub struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// One that is not set.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; of a descriptor that is ours alone, this one is sound"
    )]
    pub fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

    /// Returns when this much time has passed.
    pub async fn sleep(&self, duration: Duration) -> io::Result<()> {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would disarm it.
        let once = Timespec::try_from(duration.max(Duration::from_nanos(1))).map_err(io::Error::other)?;
        let set = Itimerspec { it_interval: never, it_value: once };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &set)?;
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0_u8; 8])?));
            match read {
                Ok(expired) => return expired.map(|_| ()),
                Err(_not_yet) => {}
            }
        }
    }
}
