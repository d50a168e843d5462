//! Every type of the protocol files: what is decoded encodes to the same bytes. Must never allocate for elements that are not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockferry_fuzz::memory;
use lockferry_fuzz::types::TYPES;

/// The largest element has some 30 times its four bytes on the wire, and a vector that grows is there twice.
const FACTOR: usize = 100;

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let Some(of) = TYPES.get(usize::from(*which)) else { return };
    memory::within(64 * 1024 + FACTOR * bytes.len(), || {
        let _ = (of.run)(bytes);
    });
});
