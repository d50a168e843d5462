//! How many events the checker takes in a second: many clients that lock, test and unlock, some of them in each other's way.
//! Run with `--release`. Prints, and must never judge.

use lockferry_checker::history::*;
use lockferry_checker::{Checker, Settings};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

fn main() -> std::result::Result<(), lockferry_checker::Violation> {
    for (files, width) in [(1000, 1000), (10, 1000), (1, 100_000)] {
        let mut checker = Checker::new(Settings::default());
        let started = Instant::now();
        let events = drive(&mut checker, files, width)?;
        let rate = events as f64 / started.elapsed().as_secs_f64();
        println!("{files} files, bytes below {width}: {events} events, {rate:.0} a second");
    }
    Ok(())
}

/// 64 owners, each of which asks for a lock and gives it back 5000 times. Who would be in another's way is refused.
fn drive(
    checker: &mut Checker,
    files: u64,
    width: u64,
) -> std::result::Result<u64, lockferry_checker::Violation> {
    let mut held: Vec<Option<Lock>> = vec![None; 64];
    let (mut at, mut events, mut dice, mut call) = (0, 0, 1_u64, 0);
    for _ in 0..5000 {
        for i in 0..held.len() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = dice >> 20;
            let client = ClientId(i as u32 / 4);
            let lm = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
            let owner = Owner { client, lm, svid: i as u32 % 4 };
            let start = chance % width;
            let bytes = Bytes { start, end: start + chance % 20 };
            let lock = Lock { owner, file: FileId(chance % files), bytes, exclusive: chance % 3 == 0 };
            call += 1;
            at += 10;
            let (request, answer) = match held[i] {
                Some(lock) => {
                    held[i] = None;
                    (Request::Unlock { owner, file: lock.file, bytes: lock.bytes }, Answer::Granted)
                }
                None => {
                    let blocked = held.iter().flatten().any(|other| clash(other, &lock));
                    held[i] = (!blocked).then_some(lock);
                    let answer = if blocked { Answer::Denied } else { Answer::Granted };
                    (Request::Lock { lock, block: false, reclaim: false, state: 1 }, answer)
                }
            };
            let call = CallId(call);
            checker.observe(at, &Event::Sent { client, call, request })?;
            checker.observe(at + 5, &Event::Got { client, call, answer })?;
            events += 2;
        }
    }
    Ok(events)
}

fn clash(a: &Lock, b: &Lock) -> bool {
    a.file == b.file
        && a.owner != b.owner
        && a.bytes.start <= b.bytes.end
        && b.bytes.start <= a.bytes.end
        && (a.exclusive || b.exclusive)
}
