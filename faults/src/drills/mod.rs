//! The drills, by the part that they break.

mod api;
mod calls;
mod client;
mod clock;
mod corrections;
mod customers;
mod data;
mod disk;
mod embedded;
mod erasing;
mod load;
pub(crate) mod nemesis;
mod notifications;
mod operations;
mod poison;
mod postgres;
mod postgres_ha;
mod receiver;
mod redis;
mod redis_cluster;
mod redis_disk;
mod redis_ha;
mod scripts;
mod wires;
mod worker;

use crate::row::Row;

/// In the order of the table.
pub(crate) const ALL: &[&[Row]] = &[
    client::ROWS,
    api::ROWS,
    load::ROWS,
    redis::ROWS,
    redis_disk::ROWS,
    redis_ha::ROWS,
    redis_cluster::ROWS,
    worker::ROWS,
    postgres::ROWS,
    postgres_ha::ROWS,
    disk::ROWS,
    wires::ROWS,
    clock::ROWS,
    data::ROWS,
    calls::ROWS,
    customers::ROWS,
    corrections::ROWS,
    notifications::ROWS,
    operations::ROWS,
    erasing::ROWS,
    embedded::ROWS,
    nemesis::ROWS,
];
