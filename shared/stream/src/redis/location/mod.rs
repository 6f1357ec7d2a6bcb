//! Where the primary of a shard is now.
//!
//! | discovery | who knows it | modules |
//! |---|---|---|
//! | fixed | the address itself | `locator` |
//! | Sentinel | the Sentinels, all of which are asked | `sentinel` |
//! | cluster | any node that serves its slots | `cluster`, `slot` |
//!
//! `locator` answers for all of them. For Sentinel and cluster one task (`lookup`) asks, for every shard and
//! every connection of the process together (`inquiry`), whenever someone connects and once a second
//! besides: a primary that was replaced may still answer. Answers carry the epoch of the failover or of the
//! map (`answer`), so that a server that was cut off cannot lead back to an old primary.
//!
//! This module must never hand out a place that it remembers in place of one that was just asked for, or put
//! an address into a text, because `/readyz` shows it to anyone.

mod answer;
mod cluster;
mod inquiry;
mod locator;
mod lookup;
mod sentinel;
mod slot;

pub(super) use self::locator::Locator;
