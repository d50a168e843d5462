//! File headers and frames as bytes (docs/journal.md, "Segment"). Pure. Must never trust a length before its check.

/// Bytes of a file header.
pub(super) const HEADER: usize = 64;
/// Bytes of a frame before its payload.
pub(super) const FRAME: usize = 32;
/// Most bytes of a payload: well above the longest entry (an export's path and a reply, about 4,800).
pub(super) const MAX_PAYLOAD: usize = 16_384;
/// Most bytes of a frame.
pub(super) const MAX_FRAME: usize = frame_size(MAX_PAYLOAD);
/// What a disk writes whole or not at all, at the least.
const SECTOR: u64 = 512;
/// Last byte of each frame.
const END_MARK: u8 = 0xA5;
/// Version of segments and snapshots so far.
const VERSION: u16 = 1;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Segment,
    Snapshot,
}

/// The first 64 bytes of a segment or snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) epoch: u64,
    /// Segment: its number K. Snapshot: S.
    pub(super) number: u64,
    /// Segment: sequence of its first record.
    pub(super) first: u64,
    /// Segment: epoch of the record before that.
    pub(super) previous: u64,
    /// Segment: size of the file.
    pub(super) size: u64,
    /// CRC of the lock manager's name.
    pub(super) name: u32,
}

/// Why a header is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("the file header is damaged")]
    Damaged,
    #[error("the file has format version {0}: written by a newer lockferry")]
    Newer(u16),
}

impl Header {
    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[..8].copy_from_slice(match self.kind {
            Kind::Segment => b"LFJOURNL",
            Kind::Snapshot => b"LFSNAPSH",
        });
        b[8..10].copy_from_slice(&VERSION.to_le_bytes());
        b[10..12].copy_from_slice(&(HEADER as u16).to_le_bytes());
        b[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        b[24..32].copy_from_slice(&self.number.to_le_bytes());
        b[32..40].copy_from_slice(&self.first.to_le_bytes());
        b[40..48].copy_from_slice(&self.previous.to_le_bytes());
        b[48..56].copy_from_slice(&self.size.to_le_bytes());
        b[56..60].copy_from_slice(&self.name.to_le_bytes());
        let crc = header_crc(&b);
        b[12..16].copy_from_slice(&crc.to_le_bytes());
        b
    }

    pub(super) fn parse(b: &[u8; HEADER]) -> Result<Header, HeaderError> {
        let kind = match &b[..8] {
            b"LFJOURNL" => Kind::Segment,
            b"LFSNAPSH" => Kind::Snapshot,
            _ => return Err(HeaderError::Damaged),
        };
        if u32_at(b, 12) != header_crc(b) {
            return Err(HeaderError::Damaged);
        }
        let version = u16::from_le_bytes([b[8], b[9]]);
        if version != VERSION {
            return Err(HeaderError::Newer(version));
        }
        Ok(Header {
            kind,
            epoch: u64_at(b, 16),
            number: u64_at(b, 24),
            first: u64_at(b, 32),
            previous: u64_at(b, 40),
            size: u64_at(b, 48),
            name: u32_at(b, 56),
        })
    }
}

fn header_crc(b: &[u8; HEADER]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&b[..12]), &b[16..])
}

/// What a frame says besides its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) len: usize,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) lag: u32,
    pub(super) kind: u8,
    pub(super) version: u8,
}

/// Bytes of a frame whose payload has `len`, padding and end mark included.
pub(super) const fn frame_size(len: usize) -> usize {
    // One byte at least for the end mark.
    (FRAME + len + 8) & !7
}

/// Starts a frame at the end of `out`: room for its head. The payload is appended next, then [`finish`] is called.
pub(super) fn start(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.resize(at + FRAME, 0);
    at
}

/// Completes the frame that begins at `at` and whose payload reaches to the end of `out`.
pub(super) fn finish(
    out: &mut Vec<u8>,
    at: usize,
    epoch: u64,
    sequence: u64,
    lag: u32,
    kind: u8,
    version: u8,
) {
    let len = out.len() - at - FRAME;
    out.resize(at + frame_size(len), 0);
    if let Some(last) = out.last_mut() {
        *last = END_MARK;
    }
    let b = &mut out[at..];
    b[..4].copy_from_slice(&(len as u32).to_le_bytes());
    b[8..16].copy_from_slice(&epoch.to_le_bytes());
    b[16..24].copy_from_slice(&sequence.to_le_bytes());
    b[24..28].copy_from_slice(&lag.to_le_bytes());
    b[28] = kind;
    b[29] = version;
    let head = head_crc(b);
    b[30..32].copy_from_slice(&(head as u16).to_le_bytes());
    let crc = frame_crc(head, b);
    b[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// What lies where a frame should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A whole frame.
    Frame(Frame),
    /// Zeros instead of a head, or no room for one.
    End,
    /// Not a whole frame. True: as a crash can leave it.
    Bad(bool),
}

/// Looks at `b`, which begins `at` bytes into the file and reaches to the file's end or at least [`MAX_FRAME`] far.
pub(super) fn look(b: &[u8], at: u64) -> Look {
    let Some(head) = b.get(..FRAME) else {
        return if b.iter().all(|b| *b == 0) { Look::End } else { Look::Bad(has_zero_part(b, at)) };
    };
    if head.iter().all(|b| *b == 0) {
        return Look::End;
    }
    let len = u32_at(head, 0) as usize;
    let head_crc = head_crc(head);
    if len == 0 || len > MAX_PAYLOAD || u16::from_le_bytes([head[30], head[31]]) != head_crc as u16 {
        return Look::Bad(has_zero_part(head, at));
    }
    let Some(frame) = b.get(..frame_size(len)) else { return Look::Bad(false) };
    let wrong = u32_at(frame, 4) != frame_crc(head_crc, frame) && !mutant!(FrameUnchecked);
    if wrong || frame.last() != Some(&END_MARK) {
        return Look::Bad(has_zero_part(frame, at));
    }
    Look::Frame(Frame {
        len,
        epoch: u64_at(head, 8),
        sequence: u64_at(head, 16),
        lag: u32_at(head, 24),
        kind: head[28],
        version: head[29],
    })
}

/// Whether the part of `b` in some sector is all zeros: as it was before it was written.
fn has_zero_part(b: &[u8], at: u64) -> bool {
    let first = (SECTOR - at % SECTOR) as usize;
    let (head, rest) = b.split_at(first.min(b.len()));
    let zero = |part: &[u8]| part.iter().all(|b| *b == 0);
    zero(head) || rest.chunks(SECTOR as usize).any(zero)
}

/// Of the head without the checks themselves: its lower half is the one of them, and the other goes on from there.
fn head_crc(b: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&b[..4]), &b[8..30])
}

fn frame_crc(head: u32, b: &[u8]) -> u32 {
    crc32c::crc32c_append(head, &b[30..])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let at = start(&mut out);
        out.extend_from_slice(payload);
        finish(&mut out, at, 5, 77, 3, 2, 1);
        out
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_and_ends_at_a_multiple_of_eight() {
        for len in 1..40 {
            let b = sample(&vec![9; len]);
            assert_eq!(b.len() % 8, 0);
            let frame = Frame { len, epoch: 5, sequence: 77, lag: 3, kind: 2, version: 1 };
            assert_eq!(look(&b, 64), Look::Frame(frame));
        }
    }

    #[test]
    fn every_flipped_bit_is_seen_and_is_not_taken_for_a_tear() {
        let b = sample(&[9; 700]);
        for at in [0u64, 488, 504] {
            for bit in 0..b.len() * 8 {
                let mut bad = b.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(look(&bad, at), Look::Bad(false), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_missing_sector_is_taken_for_a_tear() {
        let b = sample(&[9; 1500]);
        for at in [0u64, 488, 504] {
            let mut torn = b.clone();
            let from = (512 - at as usize) % 512;
            torn[from..from + 512].fill(0);
            assert!(matches!(look(&torn, at), Look::Bad(true) | Look::End), "at {at}");
        }
    }

    #[test]
    fn a_damaged_header_is_refused() {
        let header =
            Header { kind: Kind::Segment, epoch: 1, number: 2, first: 3, previous: 4, size: 5, name: 6 };
        let b = header.bytes();
        assert_eq!(Header::parse(&b), Ok(header));
        for bit in 0..HEADER * 8 {
            let mut bad = b;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(b in proptest::collection::vec(any::<u8>(), 0..200), at in any::<u32>()) {
            let _ = look(&b, at.into());
        }
    }
}
