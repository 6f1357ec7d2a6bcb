//! The task that looks up the primaries of all shards, for every connection of this process.
//!
//! Every request that waits when a lookup begins gets its result. Between such requests it looks once a
//! second, because a primary that was replaced may answer as before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, ConnectionAddr, ConnectionInfo};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use super::answer::{Answer, Place};
use super::inquiry::{Inquiry, Replies};
use super::{cluster, sentinel};
use crate::redis::address::{Discovery, RedisAddress};
use crate::redis::source::RedisSource;

/// The pause between two lookups without a request.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// Nodes of a cluster that are asked at the same time.
const NODES_AT_ONCE: usize = 3;
/// How long after an answer one of a lower epoch is taken for that of a server which was cut off. After that,
/// Sentinels or cluster were set up again.
const BEHIND_TIME_MAX: Duration = Duration::from_secs(30);

/// The result of one lookup.
pub(super) struct Found {
    /// When it ended. What was connected before may lead elsewhere.
    pub(super) found_at: Instant,
    /// How to connect to the primary of each shard, or why that is not known.
    pub(super) primaries: Vec<Result<ConnectionInfo, String>>,
}

/// A request for the result of the next lookup.
pub(super) type Request = oneshot::Sender<Arc<Found>>;

pub(super) struct Lookup {
    pub(super) source: RedisSource,
    pub(super) shards: u16,
    inquiry: Inquiry,
    /// Whom the source named last time.
    asked: Option<(Discovery, Vec<Place>)>,
    /// Nodes of the cluster, the one that answered last time first.
    nodes: Vec<Place>,
    /// The highest epoch of an answer, and when it came.
    epoch: Option<(u64, Instant)>,
}

impl Lookup {
    pub(super) fn new(source: RedisSource, shards: u16) -> Self {
        Self { source, shards, inquiry: Inquiry::default(), asked: None, nodes: Vec::new(), epoch: None }
    }

    /// Answers requests, and publishes every result, until no one can send a request any more.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        published: watch::Sender<Option<Arc<Found>>>,
    ) {
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => waiting.push(request),
                    None => return,
                },
                () = sleep(WATCH_PERIOD) => {}
            }
            while let Ok(request) = requests.try_recv() {
                waiting.push(request);
            }
            let primaries = match self.look_up().await {
                Ok(primaries) => primaries,
                Err(reason) => vec![Err(reason); usize::from(self.shards)],
            };
            let found = Arc::new(Found { found_at: Instant::now(), primaries });
            published.send_replace(Some(Arc::clone(&found)));
            for request in waiting {
                // The task that asked may have been stopped.
                request.send(Arc::clone(&found)).ok();
            }
        }
    }

    async fn look_up(&mut self) -> Result<Vec<Result<ConnectionInfo, String>>, String> {
        let address = self.source.read().map_err(|reason| format!("REDIS_URL: {reason}"))?;
        let asked = Some((address.discovery.clone(), address.seeds.iter().map(place_of).collect()));
        if self.asked != asked {
            // What others said says nothing of these.
            (self.asked, self.nodes, self.epoch) = (asked, Vec::new(), None);
        }
        let answer = match &address.discovery {
            Discovery::Sentinel { name } => self.ask_sentinels(&address, name).await?,
            Discovery::Cluster => self.ask_nodes(&address).await?,
            Discovery::Fixed => {
                return Err("REDIS_URL leads to one server now: restart this program".to_owned());
            }
        };
        self.epoch = Some((answer.epoch, Instant::now()));
        let connect_to = |place: Place| address.primary_at(&place.host, place.port);
        Ok(answer.primaries.into_iter().map(|primary| primary.map(connect_to)).collect())
    }

    /// The newest answer of all Sentinels.
    async fn ask_sentinels(&mut self, address: &RedisAddress, name: &str) -> Result<Answer, String> {
        let shards = self.shards;
        let read = |_: &ConnectionInfo, replies| sentinel::read(name, shards, replies);
        let answers = self.ask(&address.seeds, &sentinel::questions(name), read).await;
        self.newest(answers, "no Sentinel answered").map(|(_, answer)| answer)
    }

    /// The newest answer of the first few nodes of which one serves the cluster.
    async fn ask_nodes(&mut self, address: &RedisAddress) -> Result<Answer, String> {
        let connect_to = |place: &Place| address.primary_at(&place.host, place.port);
        let mut servers: Vec<ConnectionInfo> = self.nodes.iter().map(connect_to).collect();
        for seed in &address.seeds {
            if servers.iter().all(|server| server.addr() != seed.addr()) {
                servers.push(seed.clone());
            }
        }
        let shards = self.shards;
        let read = |asked: &ConnectionInfo, replies| cluster::read(&place_of(asked), shards, replies);
        let mut result = Err("REDIS_URL names no node".to_owned());
        for some in servers.chunks(NODES_AT_ONCE) {
            let answers = self.ask(some, &cluster::questions(), read).await;
            match self.newest(answers, "no node of the cluster answered") {
                Ok((at, answer)) => {
                    let asked = place_of(&some[at]);
                    self.nodes = [vec![asked.clone()], answer.nodes.clone()].concat();
                    let mut first = true;
                    self.nodes.retain(|node| *node != asked || std::mem::take(&mut first));
                    return Ok(answer);
                }
                Err(reason) => result = Err(reason),
            }
        }
        result
    }

    async fn ask(
        &mut self,
        servers: &[ConnectionInfo],
        questions: &[Cmd; 2],
        read: impl Fn(&ConnectionInfo, Replies) -> Result<Answer, String>,
    ) -> Vec<Result<Answer, String>> {
        let replies = self.inquiry.ask(servers, questions).await;
        let read = |(server, replies): (&ConnectionInfo, Result<Replies, String>)| read(server, replies?);
        servers.iter().zip(replies).map(read).collect()
    }

    /// The answer with the highest epoch, the first of several, and whose it is.
    fn newest(&self, answers: Vec<Result<Answer, String>>, none: &str) -> Result<(usize, Answer), String> {
        let mut reason = none.to_owned();
        let mut newest: Option<(usize, Answer)> = None;
        for (at, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(answer) if newest.as_ref().is_none_or(|(_, newest)| answer.epoch > newest.epoch) => {
                    newest = Some((at, answer));
                }
                Ok(_) => {}
                Err(why) => reason = format!("{none}: {why}"),
            }
        }
        let newest = newest.ok_or(reason)?;
        match self.epoch {
            Some((epoch, at)) if newest.1.epoch < epoch && at.elapsed() < BEHIND_TIME_MAX => {
                Err(format!("{none} but such as know less than was known before (a lower epoch)"))
            }
            _ => Ok(newest),
        }
    }
}

fn place_of(server: &ConnectionInfo) -> Place {
    match server.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Place { host: host.clone(), port: *port }
        }
        // Addresses of clusters have hosts only.
        _ => Place { host: String::new(), port: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(epoch: u64) -> Result<Answer, String> {
        Ok(Answer { epoch, primaries: Vec::new(), nodes: Vec::new() })
    }

    #[test]
    fn a_server_that_was_cut_off_does_not_lead_back_to_an_old_primary() {
        let mut lookup = Lookup::new(RedisSource::from("redis+sentinel://h/m"), 1);
        let silent = || Err("silent".to_owned());
        let chosen = |lookup: &Lookup, answers| lookup.newest(answers, "none").map(|(at, _)| at);
        assert_eq!(chosen(&lookup, vec![answer(1), answer(2), silent(), answer(2)]), Ok(1));
        lookup.epoch = Some((2, Instant::now()));
        assert!(chosen(&lookup, vec![answer(1), silent()]).unwrap_err().contains("a lower epoch"));
        assert_eq!(chosen(&lookup, vec![answer(1), answer(2)]), Ok(1));
        // Long after the last answer of that epoch, the servers were set up again.
        lookup.epoch = Instant::now().checked_sub(BEHIND_TIME_MAX).map(|at| (2, at));
        assert_eq!(chosen(&lookup, vec![answer(1), silent()]), Ok(0));
        assert_eq!(chosen(&lookup, vec![silent()]), Err("none: silent".to_owned()));
    }
}
