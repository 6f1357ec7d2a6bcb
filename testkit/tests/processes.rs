//! Child processes end with the test process, the HTTP proxy applies its faults, and waits report their
//! reason.

use std::time::Duration;

use testkit::{HttpProxy, Redis, RequestFault, eventually, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DEADLINE: Duration = Duration::from_secs(30);
/// Set in the child of [`servers_die_with_a_test_process_that_is_killed`].
const CHILD: &str = "TESTKIT_CHILD";

#[tokio::test]
async fn servers_die_with_a_test_process_that_is_killed() {
    if std::env::var_os(CHILD).is_some() {
        let redis = Redis::start().await;
        println!("port={}=", redis.port());
        std::future::pending::<()>().await;
    }
    let me = "servers_die_with_a_test_process_that_is_killed";
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([me, "--exact", "--nocapture"])
        .env(CHILD, "yes")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut text = String::new();
    let port: u16 = loop {
        let mut bytes = [0; 256];
        let count = output.read(&mut bytes).await.unwrap();
        assert!(count > 0, "the child has ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if let [_, port, _, ..] = text.split(['=']).collect::<Vec<_>>()[..] {
            break port.parse().unwrap();
        }
    };
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the child's Redis listens");
    child.kill().await.unwrap();
    eventually(DEADLINE, "the child's Redis to end", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn an_http_proxy_applies_faults_to_the_chosen_requests_and_no_others() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut served = 0_u32;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4_096];
            let count = stream.read(&mut head).await.unwrap();
            served += 1;
            assert!(head[..count].starts_with(b"POST /a HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Header: yes\r\n\r\n{served}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let faults =
        [(2, RequestFault::DropAnswer), (3, RequestFault::TooManyRequests(7)), (5, RequestFault::SlowBodies)];
    let proxy = HttpProxy::start(upstream, &faults).await;
    let mut client = http::HttpClient::new(proxy.address());
    let first = client.post("/a", &[], "x").await.unwrap();
    assert_eq!((first.status, &first.body[..], first.header("x-header")), (200, &b"1"[..], Some("yes")));
    client.post("/a", &[], "x").await.expect_err("the response was dropped");
    let third = client.post("/a", &[], "x").await.unwrap();
    assert_eq!((third.status, third.header("retry-after")), (429, Some("7")));
    let fourth = client.post("/a", &[], "x").await.unwrap();
    assert_eq!(&fourth.body[..], b"3", "the server received the second request but not the third");
    let fifth = client.post("/a", &[], "a slow body").await.unwrap();
    assert_eq!((fifth.status, &fifth.body[..]), (200, &b"4"[..]));
    let counts = proxy.counts();
    assert_eq!((counts.received, counts.delivered, counts.dropped, counts.refused), (5, 3, 1, 1));
    assert_eq!(counts.slowed, 1);
    serving.abort();
}

#[tokio::test]
#[should_panic(expected = "for a row; last check: no table")]
async fn a_wait_that_times_out_reports_the_last_check() {
    let () = eventually(Duration::ZERO, "a row", async || Err("no table")).await;
}
