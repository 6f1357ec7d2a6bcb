//! One connection from its acceptance to its end: two pumps, and how the sockets are closed when the pumps
//! stop.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::pump::{Ending, Link, Pump, discard_until_healed};
use super::state::ProxyState;
use super::weather::{Sky, Weather};
use super::wire::Direction;

/// Serves a client until its connection has ended.
pub(super) async fn serve(mut client: TcpStream, state: &ProxyState) {
    let mut sky = state.sky.subscribe();
    let initial = *sky.borrow_and_update();
    if initial.now == Weather::Refuse {
        return refuse(client, state);
    }
    if initial.now == Weather::BlackHole {
        state.counters.count_accepted();
        serve_black_hole(&mut client, &mut sky, initial, state).await;
        return reset(client, state);
    }
    let address = *state.upstream.borrow();
    let Ok(mut upstream) = TcpStream::connect(address).await else { return refuse(client, state) };
    state.counters.count_accepted();
    for stream in [&client, &upstream] {
        // It fails for a connection that is already closed; the pump notices that.
        drop(stream.set_nodelay(true));
    }
    match carry(&mut client, &mut upstream, &mut sky, initial, state).await {
        Ok(()) => {}
        Err(Ending::Reset) => {
            set_to_reset(&upstream);
            reset(client, state);
        }
        Err(Ending::CutReply) => {
            reset(client, state);
            read_to_end(upstream, &mut sky, initial).await;
        }
    }
}

/// Pumps in both directions until both are closed, a pump ends the connection, or all connections are reset.
async fn carry(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    sky: &mut watch::Receiver<Sky>,
    initial: Sky,
    state: &ProxyState,
) -> Result<(), Ending> {
    let link = Link::new(state);
    let (from_client, to_client) = client.split();
    let (from_upstream, to_upstream) = upstream.split();
    let up = Pump::new(Direction::Up, from_client, to_upstream, &link);
    let down = Pump::new(Direction::Down, from_upstream, to_client, &link);
    tokio::select! {
        ended = async { tokio::try_join!(up.run(), down.run()) } => ended.map(|_| ()),
        () = wait_for_reset(sky, initial) => Err(Ending::Reset),
    }
}

/// Keeps the client connected, without a connection to the server, and discards what it sends.
async fn serve_black_hole(
    client: &mut TcpStream,
    sky: &mut watch::Receiver<Sky>,
    initial: Sky,
    state: &ProxyState,
) {
    let (mut from_client, _to_client) = client.split();
    let mut healing = sky.clone();
    tokio::select! {
        () = discard_until_healed(&mut from_client, &mut healing, initial.heals, state) => {}
        () = wait_for_reset(sky, initial) => {}
    }
}

/// Closes the client's half of the server connection and discards what the server still sends.
async fn read_to_end(mut upstream: TcpStream, sky: &mut watch::Receiver<Sky>, initial: Sky) {
    let mut discarded = vec![0; 4 << 10];
    let reading = async {
        if upstream.shutdown().await.is_ok() {
            while let Ok(1..) = upstream.read(&mut discarded).await {}
        }
    };
    tokio::select! {
        () = reading => {}
        () = wait_for_reset(sky, initial) => {}
    }
}

/// Waits until every open connection is to be reset.
async fn wait_for_reset(sky: &mut watch::Receiver<Sky>, initial: Sky) {
    drop(sky.wait_for(|sky| sky.resets != initial.resets).await.expect("the proxy outlives its connections"));
}

fn refuse(client: TcpStream, state: &ProxyState) {
    state.counters.count_refused();
    set_to_reset(&client);
}

fn reset(client: TcpStream, state: &ProxyState) {
    state.counters.count_reset();
    set_to_reset(&client);
}

/// Makes the socket send a reset when it is closed.
fn set_to_reset(stream: &TcpStream) {
    // It fails for a connection that the other side has reset already.
    drop(stream.set_zero_linger());
}
