//! No protocol: one of everything that the generator knows, so that the tests compile and run it all.
//!
//! Made from `x/shapes.x` by lockferry-xdrgen. Must never be edited by hand.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// XDR `N`.
pub const N: u32 = 4;

/// XDR `NODE_LIST_MAX`.
pub const NODE_LIST_MAX: u32 = 9;

/// XDR `CHAIN_LIST_MAX`.
pub const CHAIN_LIST_MAX: u32 = 9;

/// XDR `NEGATIVE`.
pub const NEGATIVE: i32 = -5;

/// XDR typedef `t`.
pub type T = u32;

/// XDR typedef `blob`.
///
/// At most [`N`] bytes.
pub type Blob<'a> = &'a [u8];

/// Reads a [`Blob`] and checks its length.
pub fn decode_blob<'a>(r: &mut Reader<'a>) -> Result<Blob<'a>, DecodeError> {
    r.opaque_var(N as usize)
}

/// Writes a [`Blob`].
pub fn encode_blob(value: &Blob<'_>, w: &mut Writer<'_>) {
    w.opaque_max(value, N as usize);
}

/// XDR typedef `blob2`.
pub type Blob2<'a> = Blob<'a>;

/// Reads a [`Blob2`] and checks its length.
pub fn decode_blob2<'a>(r: &mut Reader<'a>) -> Result<Blob2<'a>, DecodeError> {
    decode_blob(r)
}

/// Writes a [`Blob2`].
pub fn encode_blob2(value: &Blob2<'_>, w: &mut Writer<'_>) {
    encode_blob(value, w);
}

/// XDR typedef `blobs`.
///
/// At most [`N`] elements.
pub type Blobs<'a> = Vec<Blob<'a>>;

/// Reads a [`Blobs`] and checks its length.
pub fn decode_blobs<'a>(r: &mut Reader<'a>) -> Result<Blobs<'a>, DecodeError> {
    r.array(N as usize, decode_blob)
}

/// Writes a [`Blobs`].
pub fn encode_blobs(value: &Blobs<'_>, w: &mut Writer<'_>) {
    w.array(value, N as usize, encode_blob);
}

/// XDR typedef `ts`.
///
/// At most 3 elements.
pub type Ts = Vec<T>;

/// Reads a [`Ts`] and checks its length.
pub fn decode_ts(r: &mut Reader<'_>) -> Result<Ts, DecodeError> {
    r.array(3, T::decode)
}

/// Writes a [`Ts`].
pub fn encode_ts(value: &Ts, w: &mut Writer<'_>) {
    w.array(value, 3, T::encode);
}

/// XDR typedef `fixed_ts`.
pub type FixedTs = [T; 3];

/// Reads a [`FixedTs`] and checks its length.
pub fn decode_fixed_ts(r: &mut Reader<'_>) -> Result<FixedTs, DecodeError> {
    r.array_fixed(T::decode)
}

/// Writes a [`FixedTs`].
pub fn encode_fixed_ts(value: &FixedTs, w: &mut Writer<'_>) {
    w.array_fixed(value, T::encode);
}

/// XDR typedef `fixed_blobs`.
pub type FixedBlobs<'a> = [Blob<'a>; 2];

/// Reads a [`FixedBlobs`] and checks its length.
pub fn decode_fixed_blobs<'a>(r: &mut Reader<'a>) -> Result<FixedBlobs<'a>, DecodeError> {
    r.array_fixed(decode_blob)
}

/// Writes a [`FixedBlobs`].
pub fn encode_fixed_blobs(value: &FixedBlobs<'_>, w: &mut Writer<'_>) {
    w.array_fixed(value, encode_blob);
}

/// XDR typedef `gp`.
pub type Gp = Option<Box<G>>;

/// Reads a [`Gp`] and checks its length.
pub fn decode_gp(r: &mut Reader<'_>) -> Result<Gp, DecodeError> {
    r.optional(G::decode)
}

/// Writes a [`Gp`].
pub fn encode_gp(value: &Gp, w: &mut Writer<'_>) {
    w.optional(value, G::encode);
}

/// XDR typedef `names`.
///
/// At most 9 bytes.
pub type Names<'a> = &'a [u8];

/// Reads a [`Names`] and checks its length.
pub fn decode_names<'a>(r: &mut Reader<'a>) -> Result<Names<'a>, DecodeError> {
    r.opaque_var(9)
}

/// Writes a [`Names`].
pub fn encode_names(value: &Names<'_>, w: &mut Writer<'_>) {
    w.opaque_max(value, 9);
}

/// XDR enum `en`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum En {
    /// `ONE`.
    One = 1,
    /// `MINUS`.
    Minus = -1,
}

impl TryFrom<i32> for En {
    type Error = DecodeError;
    fn try_from(value: i32) -> Result<Self, DecodeError> {
        match value {
            1 => Ok(Self::One),
            -1 => Ok(Self::Minus),
            _ => Err(DecodeError::BadDiscriminant { what: "en", value }),
        }
    }
}

impl Decode<'_> for En {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(r.i32()?)
    }
}

impl Encode for En {
    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(*self as i32);
    }
}

/// XDR struct `g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct G {
    /// XDR `t`.
    pub t: T,
}

impl Decode<'_> for G {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { t: T::decode(r)? })
    }
}

impl Encode for G {
    fn encode(&self, w: &mut Writer<'_>) {
        T::encode(&self.t, w);
    }
}

/// XDR struct `node`.
///
/// One element of a list: the link to the next is left out. At most [`NODE_LIST_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// XDR `a`.
    pub a: i32,
    /// XDR `s`.
    ///
    /// At most 4 bytes.
    pub s: &'a [u8],
}

impl<'a> Decode<'a> for Node<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { a: i32::decode(r)?, s: r.opaque_var(4)? })
    }
}

impl Encode for Node<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        i32::encode(&self.a, w);
        w.opaque_max(self.s, 4);
    }
}

/// XDR typedef `chains`.
///
/// At most [`CHAIN_LIST_MAX`] elements.
pub type Chains<'a> = Vec<Chain<'a>>;

/// Reads a [`Chains`] and checks its length.
pub fn decode_chains<'a>(r: &mut Reader<'a>) -> Result<Chains<'a>, DecodeError> {
    r.list(CHAIN_LIST_MAX as usize, Chain::decode)
}

/// Writes a [`Chains`].
pub fn encode_chains(value: &Chains<'_>, w: &mut Writer<'_>) {
    w.list(value, CHAIN_LIST_MAX as usize, Chain::encode);
}

/// XDR struct `chain`.
///
/// One element of a list: the link to the next is left out. At most [`CHAIN_LIST_MAX`] of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    /// XDR `b`.
    pub b: Blobs<'a>,
}

impl<'a> Decode<'a> for Chain<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { b: decode_blobs(r)? })
    }
}

impl Encode for Chain<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        encode_blobs(&self.b, w);
    }
}

/// XDR struct `s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S<'a> {
    /// XDR `a`.
    pub a: [u8; N as usize],
    /// XDR `b`.
    ///
    /// At most [`N`] bytes.
    pub b: &'a [u8],
    /// XDR `c`.
    ///
    /// At most 9 bytes.
    pub c: &'a [u8],
    /// XDR `d`.
    pub d: [T; 2],
    /// XDR `e`.
    ///
    /// At most [`N`] elements.
    pub e: Vec<T>,
    /// XDR `f`.
    pub f: Option<Box<T>>,
    /// XDR `gg`.
    pub gg: Gp,
    /// XDR `h`.
    pub h: Option<Box<G>>,
    /// XDR `i`.
    pub i: [Blob2<'a>; 2],
    /// XDR `j`.
    ///
    /// At most [`NODE_LIST_MAX`] elements.
    pub j: Vec<Node<'a>>,
    /// XDR `k`.
    pub k: Chains<'a>,
    /// XDR `l`.
    pub l: Option<Box<Blob<'a>>>,
    /// XDR `m`.
    ///
    /// At most 2 elements.
    pub m: Vec<Blobs<'a>>,
    /// XDR `n`.
    pub n: Ts,
    /// XDR `o`.
    pub o: FixedTs,
    /// XDR `p`.
    pub p: FixedBlobs<'a>,
    /// XDR `q`.
    pub q: [i64; 2],
    /// XDR `r`.
    ///
    /// At most 4 elements.
    pub r: Vec<bool>,
    /// XDR `type`.
    ///
    /// At most 3 elements.
    pub type_: Vec<En>,
    /// XDR `v`.
    ///
    /// At most 2 elements.
    pub v: Vec<FixedTs>,
}

impl<'a> Decode<'a> for S<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            a: r.opaque_array()?,
            b: r.opaque_var(N as usize)?,
            c: r.opaque_var(9)?,
            d: r.array_fixed(T::decode)?,
            e: r.array(N as usize, T::decode)?,
            f: r.optional(T::decode)?,
            gg: decode_gp(r)?,
            h: r.optional(G::decode)?,
            i: r.array_fixed(decode_blob2)?,
            j: r.list(NODE_LIST_MAX as usize, Node::decode)?,
            k: decode_chains(r)?,
            l: r.optional(decode_blob)?,
            m: r.array(2, decode_blobs)?,
            n: decode_ts(r)?,
            o: decode_fixed_ts(r)?,
            p: decode_fixed_blobs(r)?,
            q: r.array_fixed(i64::decode)?,
            r: r.array(4, bool::decode)?,
            type_: r.array(3, En::decode)?,
            v: r.array(2, decode_fixed_ts)?,
        })
    }
}

impl Encode for S<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        w.opaque_fixed(&self.a);
        w.opaque_max(self.b, N as usize);
        w.opaque_max(self.c, 9);
        w.array_fixed(&self.d, T::encode);
        w.array(&self.e, N as usize, T::encode);
        w.optional(&self.f, T::encode);
        encode_gp(&self.gg, w);
        w.optional(&self.h, G::encode);
        w.array_fixed(&self.i, encode_blob2);
        w.list(&self.j, NODE_LIST_MAX as usize, Node::encode);
        encode_chains(&self.k, w);
        w.optional(&self.l, encode_blob);
        w.array(&self.m, 2, encode_blobs);
        encode_ts(&self.n, w);
        encode_fixed_ts(&self.o, w);
        encode_fixed_blobs(&self.p, w);
        w.array_fixed(&self.q, i64::encode);
        w.array(&self.r, 4, bool::encode);
        w.array(&self.type_, 3, En::encode);
        w.array(&self.v, 2, encode_fixed_ts);
    }
}

/// XDR union `u1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum U1<'a> {
    /// `case -1`.
    CaseMinus1,
    /// `case 3`.
    Case3(i64),
    /// `case 4`.
    Case4(Blob<'a>),
    /// `case 5`.
    ///
    /// At most 3 bytes.
    Case5(&'a [u8]),
    /// `case 6`.
    Case6([u8; 3]),
    /// `case 7`.
    ///
    /// At most 4 elements.
    Case7(Vec<T>),
    /// `case 8`.
    Case8(Option<Box<S<'a>>>),
}

impl<'a> Decode<'a> for U1<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match r.i32()? {
            -1 => Ok(Self::CaseMinus1),
            3 => Ok(Self::Case3(i64::decode(r)?)),
            4 => Ok(Self::Case4(decode_blob(r)?)),
            5 => Ok(Self::Case5(r.opaque_var(3)?)),
            6 => Ok(Self::Case6(r.opaque_array()?)),
            7 => Ok(Self::Case7(r.array(4, T::decode)?)),
            8 => Ok(Self::Case8(r.optional(S::decode)?)),
            other => Err(DecodeError::BadDiscriminant { what: "u1", value: other }),
        }
    }
}

impl Encode for U1<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::CaseMinus1 => {
                w.i32(-1);
            }
            Self::Case3(body) => {
                w.i32(3);
                i64::encode(body, w);
            }
            Self::Case4(body) => {
                w.i32(4);
                encode_blob(body, w);
            }
            Self::Case5(body) => {
                w.i32(5);
                w.opaque_max(body, 3);
            }
            Self::Case6(body) => {
                w.i32(6);
                w.opaque_fixed(body);
            }
            Self::Case7(body) => {
                w.i32(7);
                w.array(body, 4, T::encode);
            }
            Self::Case8(body) => {
                w.i32(8);
                w.optional(body, S::encode);
            }
        }
    }
}

/// XDR union `u2`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum U2<'a> {
    /// `case 1`.
    ///
    /// At most [`NODE_LIST_MAX`] elements.
    Case1(Vec<Node<'a>>),
    /// `case 2`.
    Case2([G; 2]),
    /// Every other discriminant.
    Default(u32, S<'a>),
}

impl<'a> Decode<'a> for U2<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match r.u32()? {
            1 => Ok(Self::Case1(r.list(NODE_LIST_MAX as usize, Node::decode)?)),
            2 => Ok(Self::Case2(r.array_fixed(G::decode)?)),
            other => Ok(Self::Default(other, S::decode(r)?)),
        }
    }
}

impl Encode for U2<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Case1(body) => {
                w.u32(1);
                w.list(body, NODE_LIST_MAX as usize, Node::encode);
            }
            Self::Case2(body) => {
                w.u32(2);
                w.array_fixed(body, G::encode);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, 1 | 2), "{disc:?} has a variant of its own");
                disc.encode(w);
                S::encode(body, w);
            }
        }
    }
}

/// What `u3` holds as `deep`.
///
/// XDR name: `u3_deep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum U3Deep<'a> {
    /// `case TRUE`.
    True(Blob<'a>),
    /// `case FALSE`.
    False,
}

impl<'a> Decode<'a> for U3Deep<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True(decode_blob(r)?)),
            false => Ok(Self::False),
        }
    }
}

impl Encode for U3Deep<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True(body) => {
                w.bool(true);
                encode_blob(body, w);
            }
            Self::False => {
                w.bool(false);
            }
        }
    }
}

impl<'a> From<Option<Blob<'a>>> for U3Deep<'a> {
    fn from(value: Option<Blob<'a>>) -> Self {
        match value {
            Some(body) => Self::True(body),
            None => Self::False,
        }
    }
}

impl<'a> From<U3Deep<'a>> for Option<Blob<'a>> {
    fn from(value: U3Deep<'a>) -> Self {
        match value {
            U3Deep::True(body) => Some(body),
            U3Deep::False => None,
        }
    }
}

/// XDR union `u3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum U3<'a> {
    /// `case ONE`.
    One,
    /// `case -1`.
    Minus(U3Deep<'a>),
}

impl<'a> Decode<'a> for U3<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match En::decode(r)? {
            En::One => Ok(Self::One),
            En::Minus => Ok(Self::Minus(U3Deep::decode(r)?)),
        }
    }
}

impl Encode for U3<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::One => {
                En::One.encode(w);
            }
            Self::Minus(body) => {
                En::Minus.encode(w);
                U3Deep::encode(body, w);
            }
        }
    }
}

/// XDR union `u4`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum U4<'a> {
    /// `case TRUE`.
    True,
    /// Every other discriminant.
    Default(bool, Blobs<'a>),
}

impl<'a> Decode<'a> for U4<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match r.bool()? {
            true => Ok(Self::True),
            other => Ok(Self::Default(other, decode_blobs(r)?)),
        }
    }
}

impl Encode for U4<'_> {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::True => {
                w.bool(true);
            }
            Self::Default(disc, body) => {
                debug_assert!(!*disc, "{disc:?} has a variant of its own");
                disc.encode(w);
                encode_blobs(body, w);
            }
        }
    }
}

/// XDR union `u5`.
///
/// `Default` carries the discriminant, which must not be one that has a variant of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum U5 {
    /// `case ONE`.
    One(G),
    /// Every other discriminant.
    Default(En, Option<Box<G>>),
}

impl Decode<'_> for U5 {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match En::decode(r)? {
            En::One => Ok(Self::One(G::decode(r)?)),
            other => Ok(Self::Default(other, r.optional(G::decode)?)),
        }
    }
}

impl Encode for U5 {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::One(body) => {
                En::One.encode(w);
                G::encode(body, w);
            }
            Self::Default(disc, body) => {
                debug_assert!(!matches!(disc, En::One), "{disc:?} has a variant of its own");
                disc.encode(w);
                w.optional(body, G::encode);
            }
        }
    }
}

/// RPC program `SHAPES_PROG`.
pub const SHAPES_PROG: u32 = 536870912;

/// Version 9 of `SHAPES_PROG`.
pub const SHAPES_V9: u32 = 9;

/// The procedures of `SHAPES_PROG`, one module for each version.
pub mod shapes_prog {
    /// Version 9 (`SHAPES_V9`).
    pub mod v9 {
        /// The version's number.
        pub const VERSION: u32 = 9;
        /// `NOTHING`.
        ///
        /// Takes nothing, returns nothing.
        pub const NOTHING: u32 = 0;
        /// `TWO`.
        ///
        /// Takes [`Blob`](super::super::Blob), `i32`, returns [`Gp`](super::super::Gp).
        pub const TWO: u32 = 1;
    }
}
