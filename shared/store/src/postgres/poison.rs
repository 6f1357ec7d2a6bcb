//! The careful way to copy, for what the fast path did not get through: small units under savepoints, and row by row
//! where a unit fails. Slow, and sure to get on: every row ends up stored, known or dead.

use std::collections::HashSet;

use super::draft::{Death, Draft};
use super::write::{PostgresWriter, Setback, check_copied, send_rows};
use crate::WriteOutcome;

/// Rows copied under one savepoint.
const UNIT_ROWS: usize = 64;

impl PostgresWriter {
    /// Writes the draft in one transaction, finding out row by row what cannot be stored.
    pub(super) async fn write_carefully(
        &mut self,
        draft: &mut Draft<'_>,
    ) -> Result<Vec<WriteOutcome>, Setback> {
        let all = draft.chosen();
        for at in self.statements.known(&self.session, draft, &all).await? {
            draft.mark_known(at);
        }
        self.session.batch_execute("BEGIN").await?;
        let mut copied = HashSet::new();
        loop {
            // A row that turns out dead makes room for an equal one behind it.
            let chosen = draft.chosen();
            let rest: Vec<_> = chosen.iter().copied().filter(|at| !copied.contains(at)).collect();
            if rest.is_empty() {
                return self.settle_accounts(draft, &chosen, async { Ok(()) }).await;
            }
            for unit in rest.chunks(UNIT_ROWS) {
                self.copy_unit(draft, unit, &mut copied).await?;
            }
        }
    }

    async fn copy_unit(
        &self,
        draft: &mut Draft<'_>,
        unit: &[usize],
        copied: &mut HashSet<usize>,
    ) -> Result<(), Setback> {
        match self.copy_under_savepoint(draft, unit).await {
            Ok(()) => copied.extend(unit),
            Err(Setback::DuplicateRows | Setback::Refused(_)) => {
                for &at in unit {
                    self.copy_row(draft, at, copied).await?;
                }
            }
            Err(setback) => return Err(setback),
        }
        Ok(())
    }

    async fn copy_row(
        &self,
        draft: &mut Draft<'_>,
        at: usize,
        copied: &mut HashSet<usize>,
    ) -> Result<(), Setback> {
        match self.copy_under_savepoint(draft, &[at]).await {
            Ok(()) => {
                copied.insert(at);
            }
            Err(Setback::DuplicateRows) => draft.mark_known(at),
            Err(Setback::Refused(refusal)) => {
                draft.mark_dead(at, Death { sqlstate: refusal.sqlstate, reason: refusal.reason });
            }
            Err(setback) => return Err(setback),
        }
        Ok(())
    }

    /// Copies these rows, or nothing and leaves the transaction usable.
    async fn copy_under_savepoint(&self, draft: &Draft<'_>, rows: &[usize]) -> Result<(), Setback> {
        self.session.batch_execute("SAVEPOINT unit").await?;
        let mut sink = Box::pin(self.session.copy_in(&self.statements.copy).await?);
        let sent = send_rows(sink.as_mut(), draft, rows).await?;
        let result = check_copied(sent, sink.as_mut().finish().await);
        let ending = match result {
            Ok(()) => "RELEASE SAVEPOINT unit",
            Err(Setback::DuplicateRows | Setback::Refused(_)) => {
                "ROLLBACK TO SAVEPOINT unit; RELEASE SAVEPOINT unit"
            }
            Err(setback) => return Err(setback),
        };
        self.session.batch_execute(ending).await?;
        result
    }
}
