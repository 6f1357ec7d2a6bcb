//! The mutant of this process, and what mutants make of scripts and statements.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::Mutant;
use crate::setting::UnknownSetting;

const VARIABLE: &str = "MILLRACE_MUTANT";

static CHOSEN: OnceLock<Option<Mutant>> = OnceLock::new();

/// A text of which one passage is wrong.
struct Misprint {
    mutant: Mutant,
    text: &'static str,
    right: &'static str,
    wrong: &'static str,
}

const MISPRINTS: &[Misprint] = &[
    Misprint {
        mutant: Mutant::DedupeByStreamId,
        text: "WRITTEN_BEFORE",
        right: "AND w.batch_id = k.batch_id AND w.shard = k.shard",
        wrong: "",
    },
    Misprint {
        mutant: Mutant::GroupAtTheEnd,
        text: "rebuild.lua",
        right: "'XGROUP', 'CREATE', KEYS[1], ARGV[3], '0'",
        wrong: "'XGROUP', 'CREATE', KEYS[1], ARGV[3], '$'",
    },
    Misprint {
        mutant: Mutant::ConsumerDeletedWithPending,
        text: "retire.lua",
        right: "consumer.pending == 0 and ",
        wrong: "",
    },
    Misprint {
        mutant: Mutant::Maxlen,
        text: "admit.lua",
        right: "'XADD', KEYS[1], received_ms",
        wrong: "'XADD', KEYS[1], 'MAXLEN', 50, received_ms",
    },
    Misprint {
        mutant: Mutant::NoLedger,
        text: "ADD_LEDGER",
        right: "$9::bigint[])",
        wrong: "$9::bigint[]) ON CONFLICT DO NOTHING",
    },
    Misprint {
        mutant: Mutant::NoEpochCheck,
        text: "admit.lua",
        right: "if redis.call('GET', KEYS[2]) ~= ARGV[1] then",
        wrong: "if false then",
    },
    Misprint {
        mutant: Mutant::MarkerForgottenAtSettle,
        text: "settle.lua",
        right: "redis.call('SET', marker_key, markers[marker_key], 'EX', keep_s)",
        wrong: "redis.call('DEL', marker_key)",
    },
    // Two gates keep a refund from being made twice, the pending list and the state of the marker: this goes past both.
    Misprint {
        mutant: Mutant::RefundNotGated,
        text: "settle.lua",
        right: "if redis.call('XACK', KEYS[1], ARGV[2], id) == 1 then",
        wrong: "if redis.call('XACK', KEYS[1], ARGV[2], id) ~= 1 then
    local project = project_at(project_key)
    project.used = math.max(0, project.used - duplicate - dead)
    settled = settled + 1
    was_pending[settled] = id
  else",
    },
];

/// Chooses the mutant that `MILLRACE_MUTANT` names.
///
/// # Errors
/// [`UnknownSetting`] when there is none of that name.
pub fn choose() -> Result<(), UnknownSetting> {
    let name = std::env::var(VARIABLE).unwrap_or_default();
    let chosen = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
    if chosen.is_none() && !name.is_empty() {
        let known = Mutant::ALL.map(Mutant::name).join(", ");
        return Err(UnknownSetting {
            variable: VARIABLE,
            value: name,
            reason: format!("there is no such mutant; there are {known}"),
        });
    }
    CHOSEN.get_or_init(|| chosen);
    Ok(())
}

/// Whether this program is to have this wrong.
pub fn is(mutant: Mutant) -> bool {
    CHOSEN.get() == Some(&Some(mutant))
}

/// A script or a statement, by its name, as this program is to use it.
///
/// # Panics
/// When the text has changed so that the mutant cannot make it wrong any more.
pub fn text<'a>(name: &str, right: &'a str) -> Cow<'a, str> {
    let of_ours = |misprint: &&Misprint| is(misprint.mutant) && misprint.text == name;
    let Some(misprint) = MISPRINTS.iter().find(of_ours) else { return Cow::Borrowed(right) };
    let mutant = misprint.mutant.name();
    assert_eq!(right.matches(misprint.right).count(), 1, "{mutant} finds nothing to spoil in {name}");
    Cow::Owned(right.replace(misprint.right, misprint.wrong))
}
