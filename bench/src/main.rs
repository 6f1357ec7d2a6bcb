//! wip
#![forbid(unsafe_code)]
#[allow(dead_code)]
mod load;
use std::convert::Infallible;
use std::time::Duration;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let got = request.into_body().collect().await.map(|b| b.to_bytes().len());
    drop(got);
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}
fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("rt");
    rt.block_on(async move {
        if what == "serve" {
            let l = tokio::net::TcpListener::bind("127.0.0.1:18999").await.expect("bind");
            loop {
                let (s, _) = l.accept().await.expect("accept");
                s.set_nodelay(true).expect("nodelay");
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(s), service_fn(answer)));
            }
        }
        let conns: usize = args.next().expect("conns").parse().expect("n");
        let n: usize = args.next().expect("events").parse().expect("n");
        let rate: f64 = args.next().map_or(0.0, |r| r.parse().expect("n"));
        let addr = args.next().unwrap_or("127.0.0.1:18999".to_owned());
        let key = args.next().unwrap_or("k".to_owned());
        let l = load::Load { target: load::Target { address: addr.parse().expect("addr"), key, days_ago: 0 },
            shape: load::Shape { events: n..=n, duplicates: 0.0 }, connections: conns,
            pace: if rate > 0.0 { load::Pace::Fixed { requests_per_s: rate } } else { load::Pace::Closed },
            warm_up: Duration::from_secs(1), window: Duration::from_secs(4) };
        let r = load::start(&l).await.expect("start");
        let t = r.finish().await.expect("finish");
        println!("{} req/s {} ev/s mean {} p50 {} p99 {} p999 {} max {} | late p50 {} p99 {} | cpu {} of 5 s; refused {} {:?} unanswered {}", t.requests / 4, t.events / 4,
            t.latency.mean_ms(), t.latency.quantile_ms(0.5), t.latency.quantile_ms(0.99), t.latency.quantile_ms(0.999), t.latency.max_ms(), t.lateness.quantile_ms(0.5), t.lateness.quantile_ms(0.99), t.cpu_s, t.refused, t.refused_with, t.unanswered);
    });
}
