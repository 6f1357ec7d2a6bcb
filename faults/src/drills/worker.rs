//! Workers die, stand still, or are told to stop.

use testkit::oracle::Load;

use crate::matrix::{Row, Tier};
use crate::{Drill, Layout, Sight, System, Verdict};

pub(super) const ROWS: &[Row] = &[Row {
    name: "worker killed after commit",
    target: "worker",
    fault: "SIGKILL between COMMIT and settling, three times",
    expected: "redelivered, known to the ledger, settled once",
    tier: Tier::Quick,
    hold: |drill| Box::pin(killed_at(drill, "store::after_commit")),
}];

async fn killed_at(drill: Drill, point: &str) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for round in 0..3 {
        let victim = &mut system.workers[round % 2];
        victim.kill().await;
        victim.start_with(&[("FAILPOINTS", &format!("{point}=1*return(kill)"))]).await;
        victim.died().await;
        victim.start().await;
        clients.acknowledge(20).await;
    }
    system.saw(Sight::KilledInTransaction, 3);
    system
        .finish(
            clients,
            &[(Sight::Acknowledged, 100), (Sight::Redelivered, 1), (Sight::KilledInTransaction, 3)],
        )
        .await
}
