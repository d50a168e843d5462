//! What a parsed .x file looks like. Plain data; must never know anything about Rust.

/// A whole .x file.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// The comment at the top of the file, if a blank line follows it.
    pub(crate) header: Vec<String>,
    pub(crate) defs: Vec<Def>,
}

/// One definition with its name, its line and its comment.
#[derive(Debug)]
pub(crate) struct Def {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) doc: Vec<String>,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Const(i128),
    Enum(Vec<Enumerator>),
    Struct(Vec<Decl>),
    Union(Union),
    Typedef(Decl),
    Program(Program),
}

#[derive(Clone, Debug)]
pub(crate) struct Enumerator {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) doc: Vec<String>,
    pub(crate) value: i32,
}

#[derive(Debug)]
pub(crate) struct Union {
    /// The discriminant. Its type is `int`, `unsigned int`, `bool` or an enum.
    pub(crate) disc: Decl,
    pub(crate) arms: Vec<Arm>,
    pub(crate) default: Option<ArmBody>,
}

/// One `case` label. An arm with several labels is several of these.
#[derive(Debug)]
pub(crate) struct Arm {
    pub(crate) label: Value,
    pub(crate) line: usize,
    pub(crate) body: ArmBody,
}

#[derive(Clone, Debug)]
pub(crate) struct ArmBody {
    pub(crate) doc: Vec<String>,
    /// `None` is `void`.
    pub(crate) decl: Option<Decl>,
}

/// A declaration: a type, a shape and a name.
#[derive(Clone, Debug)]
pub(crate) struct Decl {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) doc: Vec<String>,
    pub(crate) ty: Type,
    pub(crate) shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Int,
    UnsignedInt,
    Hyper,
    UnsignedHyper,
    Bool,
    Opaque,
    String,
    Named(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `T x`
    Plain,
    /// `T x[N]`
    Fixed(Value),
    /// `T x<N>`
    Variable(Value),
    /// `T *x`
    Optional,
}

/// A number, or the name of a constant or enumerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(i128),
    Name(String),
}

#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) number: u32,
    pub(crate) versions: Vec<Version>,
}

#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) doc: Vec<String>,
    pub(crate) number: u32,
    pub(crate) procedures: Vec<Procedure>,
}

#[derive(Debug)]
pub(crate) struct Procedure {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) doc: Vec<String>,
    pub(crate) number: u32,
    /// `None` is `void`.
    pub(crate) result: Option<Type>,
    /// Empty is `void`.
    pub(crate) args: Vec<Type>,
}
