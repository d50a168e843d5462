//! Record marking (RFC 5531 section 11): puts calls together from the bytes of a stream.
//! Pure: it is fed what was read and says what to do. Must never keep more of a record than its header
//! before the call has been judged, nor more than its procedure may have afterwards.

use bytes::Bytes;

use super::header::{CallHeader, MAX_HEADER, Parsed, Refusal, parse_call};

/// Fragments one record may have. Clients send one, some (TI-RPC) one per 4 to 9 KiB: a 1 MiB WRITE then
/// has about 260.
pub const MAX_FRAGMENTS: u32 = 1_024;

/// Arguments up to this size are collected without asking; more need room in the shared budget.
pub const SMALL: usize = 16 * 1024;

const LAST_FRAGMENT: u32 = 0x8000_0000;

/// Whether a call may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, with so many bytes of arguments at the most.
    Accept {
        /// See `Program::max_args`.
        max_args: usize,
    },
    /// No, and the peer is told.
    Refuse(Refusal),
    /// The address is not served: the connection is to be reset.
    Unserved,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// All input is used up.
    NeedInput,
    /// Call `next` again, with the rest of the input, once so many bytes of the budget are set aside.
    Reserve(usize),
    /// A whole call. `reserved`: a `Reserve` was made for it.
    Call {
        /// Its header.
        header: CallHeader,
        /// Its arguments, in memory of their own.
        args: Bytes,
        /// Whether the budget was asked for.
        reserved: bool,
    },
    /// Send this reply; the record's other bytes are skipped. With `close` the connection ends after it.
    Refuse {
        /// The reply.
        reply: Vec<u8>,
        /// The record is too long to be skipped.
        close: bool,
    },
    /// The stream makes no sense (any more): close it.
    Close(BadStream),
    /// Reset the connection: see [`Verdict::Unserved`].
    Unserved,
}

/// Why a stream is given up.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadStream {
    /// The record is no RPC call.
    #[error("a record that is no RPC call")]
    NotACall,
    /// It ends inside the header.
    #[error("a record that ends inside its header")]
    ShortHeader,
    /// It has too many fragments.
    #[error("a record of more than {MAX_FRAGMENTS} fragments")]
    Fragments,
    /// It is longer than any call.
    #[error("a record that is longer than any call")]
    TooLong,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Assembler {
    max_record: usize,
    mark: [u8; 4],
    mark_have: usize,
    /// Bytes still to come of the fragment that is being read.
    left: usize,
    last: bool,
    fragments: u32,
    /// Bytes of earlier and present fragments that were consumed.
    seen: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Header { have: Vec<u8>, need: usize },
    Args(Box<Args>),
    Skip,
}

#[derive(Debug)]
struct Args {
    header: CallHeader,
    max: usize,
    args: Vec<u8>,
    /// None: not asked. Some(n): `n` bytes were asked for.
    reserved: bool,
}

impl Assembler {
    /// A fresh stream. `max_args`: the most any procedure of any program on this port takes.
    pub fn new(max_args: usize) -> Self {
        Self {
            max_record: max_args + MAX_HEADER,
            mark: [0; 4],
            mark_have: 0,
            left: 0,
            last: false,
            fragments: 0,
            seen: 0,
            state: State::start(),
        }
    }

    /// Whether a record has begun and is not complete.
    pub fn mid_record(&self) -> bool {
        self.mark_have > 0
    }

    /// Goes on with `input` and takes what it used off its front. `judge` is asked once per call.
    pub fn next(&mut self, input: &mut &[u8], judge: &mut dyn FnMut(&CallHeader) -> Verdict) -> Step {
        loop {
            if self.mark_have < 4 {
                if !self.read_mark(input) {
                    return Step::NeedInput;
                }
                if let Some(step) = self.enter_fragment() {
                    return step;
                }
            }
            if let Some(step) = self.payload(input, judge) {
                return step;
            }
            if self.left > 0 {
                return Step::NeedInput;
            }
            if self.last {
                match self.end_of_record() {
                    Some(step) => return step,
                    None => continue,
                }
            }
            self.mark_have = 0;
        }
    }

    fn read_mark(&mut self, input: &mut &[u8]) -> bool {
        let take = input.len().min(4 - self.mark_have);
        self.mark[self.mark_have..self.mark_have + take].copy_from_slice(&input[..take]);
        self.mark_have += take;
        *input = &input[take..];
        if self.mark_have < 4 {
            return false;
        }
        let mark = u32::from_be_bytes(self.mark);
        self.last = mark & LAST_FRAGMENT != 0;
        self.left = (mark & !LAST_FRAGMENT) as usize;
        self.fragments += 1;
        true
    }

    fn enter_fragment(&mut self) -> Option<Step> {
        if self.fragments > MAX_FRAGMENTS {
            return Some(Step::Close(BadStream::Fragments));
        }
        match &self.state {
            State::Skip if self.absurd() => Some(Step::Close(BadStream::TooLong)),
            State::Args(args) if args.args.len() + self.left > args.max => {
                let xid = args.header.xid;
                Some(self.refuse(xid, Refusal::GarbageArgs))
            }
            _ => None,
        }
    }

    fn absurd(&self) -> bool {
        self.seen + self.left > self.max_record
    }

    fn refuse(&mut self, xid: u32, refusal: Refusal) -> Step {
        self.state = State::Skip;
        Step::Refuse { reply: refusal.encode(xid), close: self.absurd() }
    }

    /// Uses what `input` holds of the present fragment.
    fn payload(&mut self, input: &mut &[u8], judge: &mut dyn FnMut(&CallHeader) -> Verdict) -> Option<Step> {
        if let State::Header { have, need } = &mut self.state {
            let here = &input[..input.len().min(self.left)];
            // The usual case, the whole header in one piece, copies nothing.
            let (parsed, from_have) = if have.is_empty() {
                (parse_call(here), 0)
            } else {
                let from_have = have.len();
                have.extend_from_slice(&here[..here.len().min(MAX_HEADER - from_have)]);
                let parsed = if have.len() < *need { Parsed::Need(*need) } else { parse_call(have) };
                (parsed, from_have)
            };
            match parsed {
                Parsed::Need(n) => {
                    if from_have == 0 {
                        have.extend_from_slice(here);
                    }
                    *need = n;
                    let used = here.len();
                    self.advance(input, used);
                    return None;
                }
                Parsed::NotACall => return Some(Step::Close(BadStream::NotACall)),
                Parsed::Refuse(xid, refusal) => return Some(self.refuse(xid, refusal)),
                Parsed::Call(header, len) => {
                    self.advance(input, len - from_have);
                    match judge(&header) {
                        Verdict::Unserved => return Some(Step::Unserved),
                        Verdict::Refuse(refusal) => return Some(self.refuse(header.xid, refusal)),
                        Verdict::Accept { max_args } if self.left > max_args => {
                            return Some(self.refuse(header.xid, Refusal::GarbageArgs));
                        }
                        Verdict::Accept { max_args } => {
                            let args = Args { header, max: max_args, args: Vec::new(), reserved: false };
                            self.state = State::Args(Box::new(args));
                        }
                    }
                }
            }
        }
        self.body(input)
    }

    fn body(&mut self, input: &mut &[u8]) -> Option<Step> {
        let take = input.len().min(self.left);
        if let State::Args(args) = &mut self.state {
            let known = args.args.len() + self.left;
            if known > SMALL && !args.reserved {
                args.reserved = true;
                return Some(Step::Reserve(if self.last { known } else { args.max }));
            }
            // The exact size where it is known, so that the vector becomes `Bytes` without a copy. `known` is
            // within `max`, and over SMALL it is paid for.
            if self.last || args.args.capacity() == 0 {
                args.args.reserve_exact(self.left);
            }
            args.args.extend_from_slice(&input[..take]);
        }
        self.advance(input, take);
        None
    }

    fn advance(&mut self, input: &mut &[u8], by: usize) {
        *input = &input[by..];
        self.left -= by;
        self.seen += by;
    }

    fn end_of_record(&mut self) -> Option<Step> {
        self.mark_have = 0;
        self.fragments = 0;
        self.seen = 0;
        match std::mem::replace(&mut self.state, State::start()) {
            State::Header { .. } => Some(Step::Close(BadStream::ShortHeader)),
            State::Skip => None,
            State::Args(args) => {
                let Args { header, args, reserved, .. } = *args;
                Some(Step::Call { header, args: Bytes::from(args), reserved })
            }
        }
    }
}

impl State {
    fn start() -> Self {
        State::Header { have: Vec::new(), need: 0 }
    }
}

/// The record mark for a message of `len` bytes in one fragment.
pub fn mark(len: usize) -> [u8; 4] {
    (LAST_FRAGMENT | len as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::header::write_call;
    use super::super::types::Cred;
    use super::*;

    const MAX: usize = 100_000;

    fn message(xid: u32, args: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let header = CallHeader { xid, program: 1, version: 1, procedure: 1, cred: Cred::None };
        write_call(&mut out, &header);
        out.extend_from_slice(args);
        out
    }

    fn fragmented(message: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut chunks = message.chunks(size).peekable();
        while let Some(chunk) = chunks.next() {
            let last = if chunks.peek().is_none() { LAST_FRAGMENT } else { 0 };
            out.extend((last | chunk.len() as u32).to_be_bytes());
            out.extend(chunk);
        }
        out
    }

    fn feed(a: &mut Assembler, stream: &[u8], piece: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        for chunk in stream.chunks(piece) {
            let mut input = chunk;
            loop {
                match a.next(&mut input, &mut |_| Verdict::Accept { max_args: MAX }) {
                    Step::NeedInput => break,
                    step => {
                        let end = matches!(step, Step::Close(_));
                        steps.push(step);
                        if end {
                            return steps;
                        }
                    }
                }
            }
        }
        steps
    }

    fn calls(steps: &[Step]) -> Vec<(u32, usize)> {
        let one = |s: &Step| match s {
            Step::Call { header, args, .. } => Some((header.xid, args.len())),
            _ => None,
        };
        steps.iter().filter_map(one).collect()
    }

    #[test]
    fn records_come_out_whole_however_they_are_cut() {
        for fragment in [1, 3, 40, 41, 1000] {
            for piece in [1, 2, 7, 64, 100_000] {
                let mut stream = fragmented(&message(1, &[1; 57]), fragment);
                stream.extend(fragmented(&message(2, &[]), fragment));
                stream.extend(fragmented(&message(3, &[3; 200]), fragment));
                let mut a = Assembler::new(MAX);
                assert_eq!(calls(&feed(&mut a, &stream, piece)), [(1, 57), (2, 0), (3, 200)]);
                assert!(!a.mid_record());
            }
        }
    }

    #[test]
    fn empty_fragments_are_allowed_but_counted() {
        let mut stream = vec![0; 4 * 10];
        stream.extend(fragmented(&message(1, &[1; 4]), 44));
        assert_eq!(calls(&feed(&mut Assembler::new(MAX), &stream, 9)), [(1, 4)]);
        let stream = vec![0; 4 * 1025];
        let steps = feed(&mut Assembler::new(MAX), &stream, 9);
        assert!(matches!(steps[..], [Step::Close(BadStream::Fragments)]));
    }

    #[test]
    fn a_large_record_asks_for_the_budget_once_and_keeps_an_exact_buffer() {
        let stream = fragmented(&message(1, &vec![1; 50_000]), 60_000);
        let steps = feed(&mut Assembler::new(MAX), &stream, 1000);
        assert!(matches!(steps[0], Step::Reserve(50_000)));
        assert!(matches!(&steps[1], Step::Call { reserved: true, args, .. } if args.len() == 50_000));
        assert_eq!(steps.len(), 2);
        // Of unknown length: the procedure's maximum.
        let stream = fragmented(&message(1, &vec![1; 50_000]), 20_000);
        let steps = feed(&mut Assembler::new(MAX), &stream, 1000);
        assert!(matches!(steps[0], Step::Reserve(MAX)));
        assert_eq!(calls(&steps), [(1, 50_000)]);
    }

    #[test]
    fn too_long_arguments_are_refused_at_the_header_and_skipped() {
        let mut stream = fragmented(&message(1, &[0; 300]), 1000);
        stream.extend(fragmented(&message(2, &[]), 1000));
        let mut a = Assembler::new(MAX);
        let mut judge = |_: &CallHeader| Verdict::Accept { max_args: 299 };
        let mut input = &stream[..44];
        let Step::Refuse { reply, close } = a.next(&mut input, &mut judge) else { panic!() };
        assert_eq!((reply, close), (Refusal::GarbageArgs.encode(1), false));
        let mut input = &stream[44..];
        assert!(matches!(a.next(&mut input, &mut judge), Step::Call { header, .. } if header.xid == 2));
    }

    #[test]
    fn fragments_that_grow_past_the_maximum_are_refused_before_they_are_read() {
        let mut a = Assembler::new(MAX);
        let mut judge = |_: &CallHeader| Verdict::Accept { max_args: 100 };
        let mut stream = (40u32 + 96).to_be_bytes().to_vec();
        stream.extend(message(1, &[0; 96]));
        stream.extend(8u32.to_be_bytes());
        assert!(matches!(a.next(&mut &stream[..], &mut judge), Step::Refuse { close: false, .. }));
    }

    #[test]
    fn an_absurd_length_ends_the_stream_after_the_reply() {
        let mut stream = vec![0xff; 4];
        stream.extend(message(1, &[]));
        let steps = feed(&mut Assembler::new(MAX), &stream, 1000);
        assert!(matches!(steps[0], Step::Refuse { close: true, .. }));
    }

    #[test]
    fn rubbish_and_short_records_close() {
        let steps = feed(&mut Assembler::new(MAX), &[0x41; 100], 100);
        assert!(matches!(steps[..], [Step::Close(BadStream::NotACall)]));
        let stream = fragmented(&message(1, &[])[..39], 1000);
        let steps = feed(&mut Assembler::new(MAX), &stream, 5);
        assert!(matches!(steps[..], [Step::Close(BadStream::ShortHeader)]));
        let steps = feed(&mut Assembler::new(MAX), &[0x80, 0, 0, 0], 5);
        assert!(matches!(steps[..], [Step::Close(BadStream::ShortHeader)]));
    }

    proptest::proptest! {
        /// Whatever comes: no panic, no endless loop, and no more kept than was allowed.
        #[test]
        fn any_stream_is_survived(
            pieces in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60), 0..8),
            good in proptest::collection::vec((0usize..300, 1usize..80), 0..4),
            cut in 1usize..50,
        ) {
            let mut stream = Vec::new();
            for (len, size) in good {
                stream.extend(fragmented(&message(9, &vec![7; len]), size));
            }
            stream.extend(pieces.concat());
            for step in feed(&mut Assembler::new(MAX), &stream, cut) {
                if let Step::Call { args, .. } = step {
                    proptest::prop_assert!(args.len() <= MAX);
                }
            }
        }

        /// A valid call with one byte changed, cut anywhere.
        #[test]
        fn a_damaged_header_is_survived(at in 0usize..40, byte in proptest::prelude::any::<u8>(), cut in 0usize..44) {
            let mut bytes = message(1, &[0; 4]);
            bytes[at] = byte;
            let _ = parse_call(&bytes[..cut]);
        }
    }
}
