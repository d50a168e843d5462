//! A small lock server and random clients, to show that the checker is silent about what is right and loud about what is wrong.
//! Shares no code with the service, nor with the checker.
#![allow(dead_code, unreachable_pub)]

pub mod clients;
pub mod server;

use lockferry_checker::history::{Bytes, FileId, Lock, Owner};
use std::net::{IpAddr, Ipv4Addr};

/// Bytes 0 to 14 one by one, and all from 15 on.
pub const CELLS: usize = 16;
pub const FILES: usize = 3;

/// The address of a lock manager.
pub fn ip(lm: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1 + lm as u8))
}

pub fn lm_of(ip: IpAddr) -> usize {
    match ip {
        IpAddr::V4(ip) => usize::from(ip.octets()[3] - 1),
        IpAddr::V6(_) => unreachable!(),
    }
}

pub fn bytes(from: usize, to: usize) -> Bytes {
    Bytes { start: from as u64, end: if to == CELLS - 1 { u64::MAX } else { to as u64 } }
}

pub fn cells(bytes: Bytes) -> std::ops::RangeInclusive<usize> {
    bytes.start as usize..=(bytes.end.min(CELLS as u64 - 1) as usize)
}

pub fn lock(owner: Owner, file: usize, from: usize, to: usize, exclusive: bool) -> Lock {
    Lock { owner, file: FileId(file as u64), bytes: bytes(from, to), exclusive }
}

/// Numbers by chance, the same for the same seed.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub fn range(&mut self) -> (usize, usize) {
        let a = self.below(CELLS as u64) as usize;
        let b = if self.one_in(3) { CELLS - 1 } else { self.below(CELLS as u64) as usize };
        (a.min(b), a.max(b))
    }
}
