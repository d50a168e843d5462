//! A TCP stream, cut into pieces in different ways. Must never see the cut in what comes out, nor more memory than the calls may have;
//! and what comes out must be what a few lines make of the whole stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockferry::rpc::header::{CallHeader, MAX_HEADER, Parsed, Refusal, parse_call};
use lockferry::rpc::record::{Assembler, BadStream, Step, Verdict};
use lockferry_fuzz::input::Input;
use lockferry_fuzz::memory;

/// The most that any procedure takes here: above and below what is collected without asking.
const MAX_ARGS: [usize; 4] = [100, 5_000, 40_000, 1 << 20];

/// What came out, without what belongs to one run only.
#[derive(Debug, PartialEq)]
enum Said {
    Reserve(usize),
    Call(CallHeader, Vec<u8>, bool),
    Refuse(Vec<u8>, bool),
    Close(BadStream),
    Unserved,
}

fn judge(header: &CallHeader, max: usize) -> Verdict {
    match header.procedure % 16 {
        13 => Verdict::Refuse(Refusal::ProcUnavail),
        14 => Verdict::Refuse(Refusal::ProgMismatch(3, 4)),
        15 => Verdict::Unserved,
        n => Verdict::Accept { max_args: if n < 8 { max } else { max >> (n - 7) } },
    }
}

/// All that comes of a stream, and whether it ended inside of a record. `None` for that: it was given up.
fn feed(stream: &[u8], max: usize, mut cut: impl FnMut() -> usize) -> (Vec<Said>, Option<bool>) {
    let mut assembler = Assembler::new(max);
    let (mut said, mut rest) = (Vec::new(), stream);
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(cut().clamp(1, rest.len()));
        rest = after;
        loop {
            let step = assembler.next(&mut piece, &mut |header| judge(header, max));
            let end = match &step {
                Step::NeedInput => {
                    assert!(piece.is_empty(), "all input is used up");
                    break;
                }
                Step::Refuse { close, .. } => *close,
                Step::Close(_) | Step::Unserved => true,
                Step::Reserve(_) | Step::Call { .. } => false,
            };
            said.push(match step {
                Step::Reserve(n) => Said::Reserve(n),
                Step::Call { header, args, reserved } => Said::Call(header, args.to_vec(), reserved),
                Step::Refuse { reply, close } => Said::Refuse(reply, close),
                Step::Close(why) => Said::Close(why),
                Step::NeedInput | Step::Unserved => Said::Unserved,
            });
            if end {
                return (said, None);
            }
        }
    }
    (said, Some(assembler.mid_record()))
}

/// The whole records at the front of a stream, in one piece each.
fn records(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut records, mut record) = (Vec::new(), Vec::new());
    while let Some((mark, rest)) = stream.split_first_chunk::<4>() {
        let mark = u32::from_be_bytes(*mark);
        let len = (mark & 0x7fff_ffff) as usize;
        let Some((fragment, rest)) = rest.split_at_checked(len) else { break };
        record.extend_from_slice(fragment);
        if mark >> 31 == 1 {
            records.push(std::mem::take(&mut record));
        }
        stream = rest;
    }
    records
}

fn check(stream: &[u8], max: usize, said: &[Said]) {
    let whole = records(stream);
    let mut calls = whole.iter();
    for step in said {
        if let Said::Call(header, args, reserved) = step {
            // Those that were refused in between are passed over.
            let is_it = |record: &&Vec<u8>| match parse_call(record) {
                Parsed::Call(known, at) => known == *header && record[at..] == args[..],
                _ => false,
            };
            assert!(calls.any(|record| is_it(&record)), "a call that nobody made: {header:?}");
            let Verdict::Accept { max_args } = judge(header, max) else { panic!("it was refused") };
            assert!(args.len() <= max_args);
            assert!(*reserved || args.len() <= lockferry::rpc::record::SMALL);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let max = input.one_of(&MAX_ARGS);
    let seed = u64::from(input.u16()) << 1 | 1;
    let stream = input.rest();
    // Twice the arguments while a vector grows; the results are kept for the comparison.
    let limit = 3 * max + 4 * stream.len() + 2 * MAX_HEADER + 16_384;
    let whole = memory::within(limit, || feed(stream, max, || stream.len()));
    check(stream, max, &whole.0);
    let mut random = seed;
    let mut cut = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let most = [2, 5, 50, 900][(random >> 40) as usize % 4];
        (random >> 33) as usize % most
    };
    let pieces = memory::within(limit + 4 * stream.len(), || feed(stream, max, &mut cut));
    assert_eq!(whole, pieces, "what comes out depends on how it was cut");
    if stream.len() <= 4096 {
        assert_eq!(whole, feed(stream, max, || 1), "what comes out depends on how it was cut");
    }
});
