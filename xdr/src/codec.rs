//! The XDR codec of RFC 4506: a bounded reader over borrowed bytes, a writer onto a `Vec<u8>`, and the
//! two traits that the generated types implement.
//!
//! What this file must never do: trust a length it has not compared with both its maximum and the bytes
//! that are really there; allocate before that; panic on input.

use thiserror::Error;

/// Why bytes are not the XDR value that was asked for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ended inside a value.
    #[error("the input ends {missing} byte(s) too early")]
    Truncated {
        /// How many bytes more the value needs, at least.
        missing: usize,
    },
    /// A variable length is over the maximum of its type.
    #[error("length {len} is over the maximum of {max}")]
    TooLong {
        /// The length that was sent.
        len: usize,
        /// The maximum that the protocol file names.
        max: usize,
    },
    /// An enum or union discriminant that the type does not have (also a bool other than 0 and 1).
    #[error("{value} is no value of {what}")]
    BadDiscriminant {
        /// The type's XDR name.
        what: &'static str,
        /// What was sent.
        value: i32,
    },
    /// Padding bytes that are not zero (RFC 4506 section 3: residual bytes are zero).
    #[error("padding is not zero")]
    BadPadding,
    /// Bytes are left over behind the value.
    #[error("{extra} byte(s) left over behind the value")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// A value that can be read from XDR. `'a` is the input's lifetime: opaques and strings are borrowed.
pub trait Decode<'a>: Sized {
    /// Reads one value and moves the reader behind it.
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Reads one value that must fill `bytes` to the end.
    fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let value = Self::decode(&mut r)?;
        r.finish()?;
        Ok(value)
    }
}

/// A value that can be written as XDR.
pub trait Encode {
    /// Appends the value. Lengths over a type's maximum are the caller's mistake: they are written as they
    /// are and the peer will refuse them; debug builds assert.
    fn encode(&self, w: &mut Writer<'_>);

    /// The value as a fresh vector.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut Writer::new(&mut out));
        out
    }
}

/// The most elements that an array gets room for before they are read.
const CAPACITY_AHEAD: usize = 64;

/// A cursor over borrowed input.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that are not read yet.
    pub fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// Refuses input that goes on behind the value.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }

    /// An unsigned 32-bit integer.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        match self.rest.split_first_chunk::<4>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(u32::from_be_bytes(*head))
            }
            None => Err(DecodeError::Truncated { missing: 4 - self.rest.len() }),
        }
    }

    /// A signed 32-bit integer.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(self.u32()? as i32)
    }

    /// An unsigned 64-bit integer ("unsigned hyper").
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        match self.rest.split_first_chunk::<8>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(u64::from_be_bytes(*head))
            }
            None => Err(DecodeError::Truncated { missing: 8 - self.rest.len() }),
        }
    }

    /// A signed 64-bit integer ("hyper").
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(self.u64()? as i64)
    }

    /// A bool: 0 or 1, nothing else.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.i32()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::BadDiscriminant { what: "bool", value }),
        }
    }

    /// `len` opaque bytes without a length in front, and their padding.
    #[inline]
    pub fn opaque_fixed(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if self.rest.len() < len {
            return Err(DecodeError::Truncated { missing: len - self.rest.len() });
        }
        let (data, rest) = self.rest.split_at(len);
        let pad = len.wrapping_neg() & 3;
        if rest.len() < pad {
            return Err(DecodeError::Truncated { missing: pad - rest.len() });
        }
        let (padding, rest) = rest.split_at(pad);
        if padding.iter().any(|b| *b != 0) {
            return Err(DecodeError::BadPadding);
        }
        self.rest = rest;
        Ok(data)
    }

    /// Opaque bytes with a length in front, `max` of them at the most.
    #[inline]
    pub fn opaque_var(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.length(max)?;
        self.opaque_fixed(len)
    }

    /// The length of a variable array, `max` at the most. Each element of every XDR type that lockferry uses
    /// takes at least four bytes, so a length that the input cannot hold is refused before anything is
    /// allocated for it.
    pub fn array_len(&mut self, max: usize) -> Result<usize, DecodeError> {
        let len = self.length(max)?;
        let least = len.saturating_mul(4);
        if least > self.rest.len() {
            return Err(DecodeError::Truncated { missing: least - self.rest.len() });
        }
        Ok(len)
    }

    /// `N` opaque bytes without a length in front, and their padding.
    #[inline]
    pub fn opaque_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.opaque_fixed(N)?);
        Ok(out)
    }

    /// A variable array of `max` elements at the most; `element` reads one.
    pub fn array<T>(
        &mut self,
        max: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let len = self.array_len(max)?;
        // Elements may be larger here than on the wire: what is not proven to be there is not allocated for.
        let mut out = Vec::with_capacity(len.min(CAPACITY_AHEAD));
        for _ in 0..len {
            out.push(element(self)?);
        }
        Ok(out)
    }

    /// `N` elements without a length in front; `element` reads one.
    pub fn array_fixed<T, const N: usize>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<[T; N], DecodeError> {
        let mut out = Vec::with_capacity(N.min(CAPACITY_AHEAD));
        for _ in 0..N {
            out.push(element(self)?);
        }
        // The vector has N elements, so this never fails; the error only spares a panic.
        out.try_into().map_err(|_| DecodeError::Truncated { missing: 0 })
    }

    /// A linked list ("optional data" chained by the last field) of `max` elements at the most; `element` reads
    /// one without its link. A loop, so the input cannot make the stack grow.
    pub fn list<T>(
        &mut self,
        max: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut out = Vec::new();
        while self.bool()? {
            if out.len() == max {
                return Err(DecodeError::TooLong { len: max.saturating_add(1), max });
            }
            out.push(element(self)?);
        }
        Ok(out)
    }

    /// Optional data; `element` reads it if it is there.
    pub fn optional<T>(
        &mut self,
        element: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Box<T>>, DecodeError> {
        if self.bool()? { Ok(Some(Box::new(element(self)?))) } else { Ok(None) }
    }

    #[inline]
    fn length(&mut self, max: usize) -> Result<usize, DecodeError> {
        let len = self.u32()? as usize;
        if len > max { Err(DecodeError::TooLong { len, max }) } else { Ok(len) }
    }
}

/// Appends XDR to a vector.
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Writer<'b> {
    /// A writer that appends to `out`.
    pub fn new(out: &'b mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Everything that is in the vector, also what was there before.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// An unsigned 32-bit integer.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A signed 32-bit integer.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.u32(value as u32);
    }

    /// An unsigned 64-bit integer.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A signed 64-bit integer.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.u64(value as u64);
    }

    /// A bool.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// Opaque bytes without a length, padded to a multiple of four.
    #[inline]
    pub fn opaque_fixed(&mut self, data: &[u8]) {
        self.out.extend_from_slice(data);
        let pad = data.len().wrapping_neg() & 3;
        self.out.extend_from_slice(&[0; 3][..pad]);
    }

    /// Opaque bytes with their length in front, padded.
    #[inline]
    pub fn opaque_var(&mut self, data: &[u8]) {
        self.u32(data.len() as u32);
        self.opaque_fixed(data);
    }

    /// The same for a type that has `max` bytes at the most; more is the caller's mistake (see [`Encode::encode`]).
    #[inline]
    pub fn opaque_max(&mut self, data: &[u8], max: usize) {
        debug_assert!(data.len() <= max, "{} bytes, the type has {max} at the most", data.len());
        self.opaque_var(data);
    }

    /// A variable array of `max` elements at the most; `element` writes one.
    pub fn array<T>(&mut self, items: &[T], max: usize, element: impl FnMut(&T, &mut Self)) {
        debug_assert!(items.len() <= max, "{} elements, the type has {max} at the most", items.len());
        self.u32(items.len() as u32);
        self.array_fixed(items, element);
    }

    /// Elements without their number in front; `element` writes one.
    pub fn array_fixed<T>(&mut self, items: &[T], mut element: impl FnMut(&T, &mut Self)) {
        for item in items {
            element(item, self);
        }
    }

    /// A linked list of `max` elements at the most; `element` writes one without its link.
    pub fn list<T>(&mut self, items: &[T], max: usize, mut element: impl FnMut(&T, &mut Self)) {
        debug_assert!(items.len() <= max, "{} elements, the list has {max} at the most", items.len());
        for item in items {
            self.bool(true);
            element(item, self);
        }
        self.bool(false);
    }

    /// Optional data; `element` writes it if it is there.
    pub fn optional<T>(&mut self, value: &Option<Box<T>>, element: impl FnOnce(&T, &mut Self)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            element(value, self);
        }
    }
}

impl Decode<'_> for () {
    fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl Encode for () {
    fn encode(&self, _: &mut Writer<'_>) {}
}

macro_rules! primitive {
    ($($t:ident),*) => {$(
        impl Decode<'_> for $t {
            #[inline]
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                r.$t()
            }
        }
        impl Encode for $t {
            #[inline]
            fn encode(&self, w: &mut Writer<'_>) {
                w.$t(*self);
            }
        }
    )*};
}
primitive!(u32, i32, u64, i64, bool);

impl<const N: usize> Decode<'_> for [u8; N] {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.opaque_array()
    }
}

impl<const N: usize> Encode for [u8; N] {
    #[inline]
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_fixed(self);
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Option<T> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if r.bool()? { Ok(Some(T::decode(r)?)) } else { Ok(None) }
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.bool(self.is_some());
        if let Some(value) = self {
            value.encode(w);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_input_is_refused_before_anything_is_allocated() {
        let mut r = Reader::new(&[0x0f, 0xff, 0xff, 0xff]);
        assert!(matches!(r.array_len(usize::MAX), Err(DecodeError::Truncated { .. })));
    }

    #[test]
    fn padding_must_be_zero_and_present() {
        assert_eq!(Reader::new(&[0, 0, 0, 1, 7, 0, 0, 1]).opaque_var(4), Err(DecodeError::BadPadding));
        assert_eq!(
            Reader::new(&[0, 0, 0, 1, 7, 0, 0]).opaque_var(4),
            Err(DecodeError::Truncated { missing: 1 })
        );
        assert_eq!(Reader::new(&[0, 0, 0, 1, 7, 0, 0, 0]).opaque_var(4), Ok(&[7u8][..]));
    }

    #[test]
    fn a_length_over_the_maximum_is_named() {
        assert_eq!(Reader::new(&[0, 0, 0, 9]).opaque_var(8), Err(DecodeError::TooLong { len: 9, max: 8 }));
    }

    /// The bytes that `write` writes.
    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        out
    }

    #[test]
    fn optional_data_has_a_bool_in_front() {
        let some = Some(Box::new(7u32));
        let bytes = written(|w| w.optional(&some, u32::encode));
        assert_eq!(bytes, [0, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!(Reader::new(&bytes).optional(u32::decode), Ok(some));
        let bytes = written(|w| w.optional(&None, u32::encode));
        assert_eq!(bytes, [0; 4]);
        assert_eq!(Reader::new(&bytes).optional(u32::decode), Ok(None));
    }

    #[test]
    fn a_fixed_array_has_no_length_in_front() {
        let bytes = written(|w| w.array_fixed(&[1u64, 2], u64::encode));
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(Reader::new(&bytes).array_fixed(u64::decode), Ok([1u64, 2]));
        let short = Reader::new(&bytes[..12]).array_fixed::<u64, 2>(u64::decode);
        assert_eq!(short, Err(DecodeError::Truncated { missing: 4 }));
    }

    #[test]
    fn a_list_longer_than_its_maximum_is_refused() {
        let bytes = written(|w| w.list(&[5u32, 6], 2, u32::encode));
        assert_eq!(bytes, [0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0]);
        assert_eq!(Reader::new(&bytes).list(2, u32::decode), Ok(vec![5, 6]));
        assert_eq!(Reader::new(&bytes).list(1, u32::decode), Err(DecodeError::TooLong { len: 2, max: 1 }));
    }

    #[test]
    fn a_huge_array_that_the_input_holds_in_part_only_is_refused_by_its_length() {
        let bytes = written(|w| w.array(&[1u32, 2, 3], 3, u32::encode));
        assert_eq!(Reader::new(&bytes).array(3, u32::decode), Ok(vec![1, 2, 3]));
        assert_eq!(
            Reader::new(&bytes[..12]).array(3, u32::decode),
            Err(DecodeError::Truncated { missing: 4 })
        );
    }
}
