//! A timer with microsecond resolution. Tokio's timer has milliseconds, which is as long as a request takes.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the Linux kernel (timerfd).
#[derive(Debug)]
pub struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[expect(
        deprecated,
        reason = "the replacement is unsafe; this constructor is sound for a descriptor that nothing else owns"
    )]
    pub fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

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
