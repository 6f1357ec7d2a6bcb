//! One connection from its acceptance to its end: two pumps, and what becomes of the sockets when they stop.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Shared;
use super::pump::{Ending, Link, Pump, swallow};
use super::weather::{Direction, Sky, Weather};

/// Serves a client until its connection has ended, well or badly.
pub(super) async fn serve(mut client: TcpStream, shared: &Shared) {
    let mut sky = shared.sky.subscribe();
    let born = *sky.borrow_and_update();
    if born.now == Weather::Refuse {
        return refuse(client, shared);
    }
    if born.now == Weather::BlackHole {
        shared.counts.accepted();
        vanish(&mut client, &mut sky, born, shared).await;
        return reset(client, shared);
    }
    let Ok(mut upstream) = TcpStream::connect(shared.upstream).await else { return refuse(client, shared) };
    shared.counts.accepted();
    for stream in [&client, &upstream] {
        // It fails for a connection that is already gone, which its pump will notice.
        drop(stream.set_nodelay(true));
    }
    match carry(&mut client, &mut upstream, &mut sky, born, shared).await {
        Ok(()) => {}
        Err(Ending::Reset) => {
            set_to_reset(&upstream);
            reset(client, shared);
        }
        Err(Ending::CutReply) => {
            reset(client, shared);
            read_to_end(upstream, &mut sky, born).await;
        }
    }
}

/// Pumps in both directions until both have closed, or one of them says how it ends, or everything is reset.
async fn carry(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    sky: &mut watch::Receiver<Sky>,
    born: Sky,
    shared: &Shared,
) -> Result<(), Ending> {
    let link = Link::new(shared);
    let (from_client, to_client) = client.split();
    let (from_upstream, to_upstream) = upstream.split();
    let up = Pump::new(Direction::Up, from_client, to_upstream, &link);
    let down = Pump::new(Direction::Down, from_upstream, to_client, &link);
    tokio::select! {
        ended = async { tokio::try_join!(up.run(), down.run()) } => ended.map(|_| ()),
        () = resets(sky, born) => Err(Ending::Reset),
    }
}

/// Keeps a client that will never hear of anybody.
async fn vanish(client: &mut TcpStream, sky: &mut watch::Receiver<Sky>, born: Sky, shared: &Shared) {
    let (mut from_client, _to_client) = client.split();
    let mut healing = sky.clone();
    tokio::select! {
        () = swallow(&mut from_client, &mut healing, born.heals, shared) => {}
        () = resets(sky, born) => {}
    }
}

/// Tells the server that its client has closed, and hears it out.
async fn read_to_end(mut upstream: TcpStream, sky: &mut watch::Receiver<Sky>, born: Sky) {
    let mut ignored = vec![0; 4 << 10];
    let listening = async {
        if upstream.shutdown().await.is_ok() {
            while let Ok(1..) = upstream.read(&mut ignored).await {}
        }
    };
    tokio::select! {
        () = listening => {}
        () = resets(sky, born) => {}
    }
}

/// Waits until every open connection is to be reset.
async fn resets(sky: &mut watch::Receiver<Sky>, born: Sky) {
    drop(sky.wait_for(|sky| sky.resets != born.resets).await.expect("the proxy outlives its connections"));
}

fn refuse(client: TcpStream, shared: &Shared) {
    shared.counts.refused();
    set_to_reset(&client);
}

fn reset(client: TcpStream, shared: &Shared) {
    shared.counts.reset();
    set_to_reset(&client);
}

/// Makes the coming close of a socket a reset.
fn set_to_reset(stream: &TcpStream) {
    // It fails for a connection that the other side has reset already.
    drop(stream.set_zero_linger());
}
