//! What hostile, broken and slow peers get, and what it costs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lockferry::rpc::server::ServerLimits;

use super::echo::*;
use super::wire::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_rpc_is_closed() {
    let served = serve();
    let streams: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &record(&words(&[1, 1, 0, 0, 0, 0])), // a reply
        &record(&call(1, ECHO, b"")[..36]),   // ends inside the header
        &[0; 4 * 1100],                       // fragments without end
    ];
    for stream in streams {
        let mut tcp = Tcp::connect(served.port).await;
        tcp.send(stream).await;
        assert_eq!(tcp.receive().await, None);
    }
    eventually("all are gone", || served.server.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absurd_length_is_answered_and_closed() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    let mut stream = vec![0xff; 4];
    stream.extend(call(3, LARGE, &[0; 10_000]));
    tcp.send(&stream).await;
    assert_eq!(tcp.receive().await, Some(words(&[3, 1, 0, 0, 0, 4])));
    assert_eq!(tcp.receive().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_call_is_taken_and_one_byte_more_is_refused_and_skipped() {
    let served = serve();
    let mut tcp = Tcp::connect(served.port).await;
    let reply = tcp.ask(&call(1, LARGE, &vec![1; 1 << 20])).await;
    assert_eq!(reply, ok_with(1, &(1u32 << 20).to_be_bytes()));
    assert_eq!(tcp.ask(&call(2, LARGE, &vec![1; (1 << 20) + 1])).await, words(&[2, 1, 0, 0, 0, 4]));
    assert_eq!(tcp.ask(&call(3, ECHO, b"")).await, ok(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_never_ends_and_an_idle_connection_are_closed() {
    let limits = ServerLimits {
        record_timeout: Duration::from_millis(200),
        idle: Duration::from_millis(400),
        ..ServerLimits::default()
    };
    let served = serve_with(limits);
    let mut slow = Tcp::connect(served.port).await;
    slow.send(&record(&call(1, ECHO, b"abcd"))[..45]).await;
    let mut idle = Tcp::connect(served.port).await;
    idle.ask(&call(1, ECHO, b"")).await;
    let mut busy = Tcp::connect(served.port).await;
    busy.send(&record(&call(9, HOLD, b""))).await;
    assert_eq!(slow.receive().await, None);
    assert_eq!(idle.receive().await, None);
    // A call in flight is not idleness.
    eventually("the call is held", || served.echo.held.lock().unwrap().len() == 1).await;
    busy.send(&record(&call(10, RELEASE, b""))).await;
    let replies = [busy.receive().await, busy.receive().await];
    assert!(replies.contains(&Some(ok(10))) && replies.contains(&Some(ok_with(9, &7u32.to_be_bytes()))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_share_one_budget_and_wait_for_it() {
    let limits = ServerLimits { budget: 1 << 20, ..ServerLimits::default() };
    let served = serve_with(limits);
    let large = record(&call(1, LARGE, &vec![1; 900_000]));
    let mut first = Tcp::connect(served.port).await;
    first.send(&large[..500_000]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut second = Tcp::connect(served.port).await;
    // The second is not read while the first holds the budget; small calls on a third go on.
    let sending = async {
        second.send(&large).await;
        second.receive().await
    };
    let other = async {
        let mut third = Tcp::connect(served.port).await;
        assert_eq!(third.ask(&call(5, ECHO, b"")).await, ok(5));
        first.send(&large[500_000..]).await;
        first.receive().await
    };
    let expected = Some(ok_with(1, &900_000u32.to_be_bytes()));
    let (a, b) = tokio::join!(sending, other);
    assert_eq!((a, b), (expected.clone(), expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_connection_limit_new_ones_are_closed_and_old_ones_work() {
    let served = serve_with(ServerLimits { connections: 3, ..ServerLimits::default() });
    let mut old = Vec::new();
    for _ in 0..3 {
        let mut tcp = Tcp::connect(served.port).await;
        tcp.ask(&call(1, ECHO, b"")).await;
        old.push(tcp);
    }
    assert_eq!(Tcp::connect(served.port).await.receive().await, None);
    assert_eq!(served.server.connections_refused(), 1);
    for tcp in &mut old {
        tcp.ask(&call(2, ECHO, b"")).await;
    }
    old.pop();
    eventually("there is room again", || served.server.connections() == 2).await;
    Tcp::connect(served.port).await.ask(&call(1, ECHO, b"")).await;
}

/// Sends 21 calls at once and sees never more than `most` in flight; all are answered in the end.
async fn never_more_in_flight_than(most: usize, limits: ServerLimits) {
    let served = serve_with(limits);
    let mut tcp = Tcp::connect(served.port).await;
    let mut stream: Vec<u8> = (0..20).flat_map(|xid| record(&call(xid, HOLD, b""))).collect();
    stream.extend(record(&call(99, COUNT, b"")));
    tcp.send(&stream).await;
    let mut replies = Vec::new();
    while replies.len() < 20 {
        let wanted = most.min(20 - replies.len());
        eventually("they are held", || served.echo.held.lock().unwrap().len() == wanted).await;
        assert!(replies.len() + wanted == 20 || served.echo.count.load(Ordering::SeqCst) == 0);
        let held = std::mem::take(&mut *served.echo.held.lock().unwrap());
        assert_eq!(held.len(), wanted);
        held.into_iter().for_each(|h| h.success(&()));
        for _ in 0..wanted {
            replies.push(tcp.receive().await.unwrap());
        }
    }
    let last = tcp.receive().await.unwrap();
    assert!(replies.contains(&ok_with(99, &1u32.to_be_bytes())) || last == ok_with(99, &1u32.to_be_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_on_a_connection_are_bounded_by_number() {
    never_more_in_flight_than(10, ServerLimits { calls: 10, ..ServerLimits::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_on_a_connection_are_bounded_by_the_size_of_their_replies() {
    // A reply of the test program may have 4 KiB: the fifth call fills what is allowed.
    never_more_in_flight_than(5, ServerLimits { load: 4 * 4096 + 1, ..ServerLimits::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_idle_connection_makes_room_but_never_one_with_a_call_in_flight() {
    let limits =
        ServerLimits { connections: 2, evict_idle: Duration::from_millis(1), ..ServerLimits::default() };
    let served = serve_with(limits);
    let mut busy = Tcp::connect(served.port).await;
    busy.send(&record(&call(1, HOLD, b""))).await;
    eventually("the call is held", || served.echo.held.lock().unwrap().len() == 1).await;
    let mut idle = Tcp::connect(served.port).await;
    idle.ask(&call(1, ECHO, b"")).await;
    // The server looks for one to evict ten times a second at the most, from its start on.
    let mut refused = 0;
    while served.server.connections() == 2 {
        assert_eq!(Tcp::connect(served.port).await.receive().await, None);
        refused += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused > 0);
    assert_eq!(idle.receive().await, None);
    let mut new = Tcp::connect(served.port).await;
    assert_eq!(new.ask(&call(1, ECHO, b"")).await, ok(1));
    served.echo.held.lock().unwrap().pop().unwrap().success(&7u32);
    assert_eq!(busy.receive().await, Some(ok_with(1, &7u32.to_be_bytes())));
}

/// Pseudo-random bytes, the same in each run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// 200 connections of five kinds: noise, huge lengths, large records left unfinished, floods of wrong calls
/// whose replies are never read, and floods of small fragments. Each ends when it is cut off or has sent all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_connections_of_garbage_cost_less_than_64_mib() {
    let served = serve();
    let before = resident_kib();
    let mut open = Vec::new();
    for n in 0..200u32 {
        let mut tcp = Tcp::connect(served.port).await;
        let stream = match n % 5 {
            0 => noise(u64::from(n), 50_000),
            1 => [vec![0xff; 4], call(n, LARGE, &[7; 50_000])].concat(),
            2 => record(&call(n, LARGE, &vec![1; 1 << 20]))[..200_000].to_vec(),
            3 => record(&words(&[n, 0, 2, 1, 1, 1, 0, 0, 0, 0])).repeat(20_000),
            _ => fragments(&call(n, LARGE, &vec![1; 1000]), 1),
        };
        open.push(tokio::spawn(async move {
            let send = tokio::io::AsyncWriteExt::write_all(&mut tcp.0, &stream);
            let _ = tokio::time::timeout(Duration::from_millis(300), send).await;
            tcp
        }));
    }
    let mut kept = Vec::new();
    for task in open {
        kept.push(task.await.unwrap());
    }
    let cost = resident_kib().saturating_sub(before);
    println!("cost: {cost} KiB, {} connections left", served.server.connections());
    assert!(cost < 64 * 1024, "{cost} KiB");
    let mut good = Tcp::connect(served.port).await;
    assert_eq!(good.ask(&call(1, ECHO, b"abcd")).await, ok_with(1, b"abcd"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_datagrams_are_ignored_or_refused_and_the_socket_goes_on() {
    let served = serve();
    let udp = Udp::to(([127, 0, 0, 1], served.port).into()).await;
    for n in 0..300usize {
        udp.send(&noise(n as u64, n * 7)).await;
        let mut cut = call(n as u32, 99, b"");
        cut.truncate(n % 41);
        udp.send(&cut).await;
    }
    udp.send(&call(0xabcd, ECHO, b"still")).await;
    let expected = ok_with(0xabcd, b"still");
    for _ in 0..300 {
        if udp.receive().await == expected {
            return;
        }
    }
    panic!("not answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections_are_fine() {
    let served = serve();
    let mut open = Vec::new();
    for _ in 0..1000 {
        open.push(Tcp::connect(served.port).await);
    }
    eventually("all are accepted", || served.server.connections() == 1000).await;
    for tcp in open.iter_mut().step_by(100) {
        assert_eq!(tcp.ask(&call(1, ECHO, b"")).await, ok(1));
    }
}

#[tokio::test]
async fn a_connection_with_a_thousand_calls_at_once_lets_others_in_between() {
    let served = serve();
    let (mut greedy, mut other) = (Tcp::connect(served.port).await, Tcp::connect(served.port).await);
    greedy.ask(&call(1, ECHO, b"")).await;
    other.ask(&call(1, ECHO, b"")).await;
    // One thread for all: the server reads nothing before both are sent.
    let calls: Vec<u8> = (0..1_000).flat_map(|n| record(&call(10 + n, COUNT, b""))).collect();
    greedy.send(&calls).await;
    other.send(&record(&call(2, COUNT, b""))).await;
    let reply = other.receive().await.unwrap();
    let count = u32::from_be_bytes(reply[reply.len() - 4..].try_into().unwrap());
    assert!(count < 1_000, "{count} calls came first");
}
