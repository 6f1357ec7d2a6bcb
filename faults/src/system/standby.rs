//! A standby of PostgreSQL, which takes the place of the primary when that dies.
//!
//! A drill must never rely on a standby that happens to be behind: it cuts the replication first, and waits
//! until the standby lacks something.

use testkit::oracle::Meters;
use testkit::{Postgres, eventually};

use super::System;
use crate::node::SOON;
use crate::verdict::Effect;

impl System {
    /// The standby that follows the primary.
    ///
    /// # Panics
    /// When there is none.
    pub fn standby(&self) -> &Postgres {
        self.standby.as_ref().expect("this system has a standby")
    }

    /// The primary before the failover, which is dead until a drill starts it again.
    ///
    /// # Panics
    /// When there was no failover.
    pub fn old_primary_mut(&mut self) -> &mut Postgres {
        self.old_primary.as_mut().expect("there was a failover")
    }

    /// Starts a new standby of the primary. Workers with `SETTLE_AFTER=standby` settle nothing without one.
    pub async fn start_standby(&mut self) {
        self.standby = Some(self.postgres.start_standby().await);
    }

    /// Waits until the standby lacks this many stored events. Its replication must be cut.
    pub async fn standby_lacks(&self, events: u64) {
        let what = format!("{events} events that the standby lacks");
        eventually(SOON, &what, async || {
            let lacking = self.lacking().await;
            if lacking >= events { Ok(()) } else { Err(lacking.to_string()) }
        })
        .await;
    }

    /// SIGKILL of the primary. Then the standby is promoted with what it has, and is the primary from now on.
    /// The metered usage may go back there, this once.
    pub async fn fail_over_to_standby(&mut self) {
        self.note(Effect::LackedByStandby, self.lacking().await);
        self.postgres.kill().await;
        self.note(Effect::Killed, 1);
        let standby = self.standby.take().expect("this system has a standby");
        standby.promote().await;
        self.note(Effect::Promoted, 1);
        self.old_primary = Some(std::mem::replace(&mut self.postgres, standby));
        let meters = Meters::Postgres(Box::new(self.postgres.config()));
        self.watch.as_mut().expect("the drill has not ended").follow(meters).await;
    }

    async fn lacking(&self) -> u64 {
        events(&self.postgres).await.saturating_sub(events(self.standby()).await)
    }
}

async fn events(server: &Postgres) -> u64 {
    let row = server.connect().await.query_one("SELECT count(*) FROM events", &[]).await;
    let count: i64 = row.expect("PostgreSQL answers the drill").get(0);
    u64::try_from(count).expect("a count is not negative")
}
