//! A checked file to Rust source. The text is not pretty yet: rustfmt goes over it. Must give the same output for
//! the same input, and nothing that clippy or `missing_docs` would complain about.

use std::fmt::Write;

use crate::ast::{Body, Decl, Def, Enumerator, Program, Shape, Type, Union, Value};
use crate::check::{Checked, Disc, fields_of, show};
use crate::error::Result;
use crate::names;

/// The Rust source for the file called `stem`.x.
pub(crate) fn emit(checked: &Checked<'_>, stem: &str) -> Result<String> {
    let mut emitter = Emitter { checked, out: String::new() };
    emitter.header(stem);
    for def in &checked.file.defs {
        emitter.definition(def)?;
    }
    Ok(emitter.out)
}

/// The module file that names all the others.
pub(crate) fn emit_mod(stems: &[String]) -> String {
    let mut out = String::from(
        "//! Made by lockferry-xdrgen from the files in `x/`. Do not edit: change the .x file and run the\n\
         //! generator. This code must never be changed by hand.\n\n\
         #![allow(clippy::large_enum_variant, reason = \"how large an arm is, the protocol says\")]\n",
    );
    for stem in stems {
        let _ = write!(out, "\npub mod {stem};");
    }
    out.push('\n');
    out
}

struct Emitter<'c, 'f> {
    checked: &'c Checked<'f>,
    out: String,
}

/// One half of the code for a declaration: an expression that decodes it, and a statement that encodes it.
struct Shaped {
    ty: String,
    decode: String,
    limit: Option<String>,
}

impl<'f> Emitter<'_, 'f> {
    fn line(&mut self, text: impl AsRef<str>) {
        self.out.push_str(text.as_ref());
        self.out.push('\n');
    }

    fn doc(&mut self, lines: &[String], fallback: &str, notes: &[String]) {
        let mut text: Vec<String> = lines.iter().map(|l| escape(l)).collect();
        if text.is_empty() {
            text.push(fallback.to_owned());
        }
        for note in notes {
            text.push(String::new());
            text.push(note.clone());
        }
        for line in text {
            self.line(format!("/// {line}").trim_end());
        }
    }

    fn header(&mut self, stem: &str) {
        for line in &self.checked.file.header {
            self.line(format!("//! {}", escape(line)).trim_end());
        }
        if !self.checked.file.header.is_empty() {
            self.line("//!");
        }
        self.line(format!("//! Made from `x/{stem}.x` by lockferry-xdrgen. Must never be edited by hand."));
        self.line("");
        let defs = &self.checked.file.defs;
        if defs.iter().any(|d| !matches!(d.body, Body::Const(_) | Body::Program(_))) {
            let coded =
                defs.iter().any(|d| matches!(d.body, Body::Enum(_) | Body::Struct(_) | Body::Union(_)));
            let functions = defs.iter().any(|d| self.has_functions(d));
            if coded {
                self.line("use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};\n");
            } else if functions {
                self.line("use crate::codec::{DecodeError, Reader, Writer};\n");
            }
        }
    }

    fn definition(&mut self, def: &'f Def) -> Result<()> {
        match &def.body {
            Body::Const(value) => self.constant(def, *value),
            Body::Enum(enumerators) => self.enumeration(def, enumerators),
            Body::Struct(fields) => self.structure(def, fields_of(self.checked, def, fields)),
            Body::Union(union) => self.union(def, union)?,
            Body::Typedef(decl) => self.typedef(def, decl),
            Body::Program(program) => self.program(def, program),
        }
        self.line("");
        Ok(())
    }

    fn constant(&mut self, def: &Def, value: i128) {
        let ty = if u32::try_from(value).is_ok() {
            "u32"
        } else if i32::try_from(value).is_ok() {
            "i32"
        } else {
            "i64"
        };
        self.doc(&def.doc, &format!("XDR `{}`.", def.name), &[]);
        self.line(format!("pub const {}: {ty} = {value};", names::const_name(&def.name)));
    }

    fn enumeration(&mut self, def: &Def, enumerators: &[Enumerator]) {
        let rust = names::type_name(&def.name);
        self.doc(&def.doc, &format!("XDR enum `{}`.", def.name), &named(def));
        self.line("#[derive(Clone, Copy, Debug, PartialEq, Eq)]\n#[repr(i32)]");
        self.line(format!("pub enum {rust} {{"));
        for e in enumerators {
            self.doc(&e.doc, &format!("`{}`.", e.name), &[]);
            self.line(format!("{} = {},", names::type_name(&e.name), e.value));
        }
        self.line("}\n");
        self.line(format!("impl TryFrom<i32> for {rust} {{ type Error = DecodeError;"));
        self.line("fn try_from(value: i32) -> Result<Self, DecodeError> { match value {");
        for e in enumerators {
            self.line(format!("{} => Ok(Self::{}),", e.value, names::type_name(&e.name)));
        }
        self.line(format!("_ => Err(DecodeError::BadDiscriminant {{ what: \"{}\", value }}),", def.name));
        self.line("}}}\n");
        self.line(format!("impl Decode<'_> for {rust} {{"));
        self.line(
            "fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> { Self::try_from(r.i32()?) }}\n",
        );
        self.line(format!("impl Encode for {rust} {{"));
        self.line("fn encode(&self, w: &mut Writer<'_>) { w.i32(*self as i32); }}");
    }

    fn derive(&mut self, def: &'f Def) {
        let copy = if self.checked.def_is_copy(def) { " Copy," } else { "" };
        self.line(format!("#[derive(Clone,{copy} Debug, PartialEq, Eq)]"));
    }

    fn open_decode(&mut self, def: &'f Def) {
        let rust = names::type_name(&def.name);
        let (owner, anon) = if self.checked.def_borrows(def) { ("<'a>", "'a") } else { ("", "'_") };
        let generics = if owner.is_empty() { "" } else { "<'a>" };
        self.line(format!("impl{generics} Decode<{anon}> for {rust}{owner} {{"));
        self.line(format!("fn decode(r: &mut Reader<{anon}>) -> Result<Self, DecodeError> {{"));
    }

    fn open_encode(&mut self, def: &'f Def) {
        let rust = names::type_name(&def.name);
        let owner = if self.checked.def_borrows(def) { "<'_>" } else { "" };
        self.line(format!("impl Encode for {rust}{owner} {{ fn encode(&self, w: &mut Writer<'_>) {{"));
    }

    fn structure(&mut self, def: &'f Def, fields: &[Decl]) {
        let rust = names::type_name(&def.name);
        let mut notes = named(def);
        if self.checked.is_list_node(&def.name) {
            let max = names::list_max(&def.name);
            notes.push(format!(
                "One element of a list: the link to the next is left out. At most [`{max}`] of them."
            ));
        }
        self.doc(&def.doc, &format!("XDR struct `{}`.", def.name), &notes);
        self.derive(def);
        let generics = if self.checked.def_borrows(def) { "<'a>" } else { "" };
        self.line(format!("pub struct {rust}{generics} {{"));
        for field in fields {
            let shaped = self.shaped(field, "'a");
            let limit: Vec<String> = shaped.limit.into_iter().collect();
            self.doc(&field.doc, &format!("XDR `{}`.", field.name), &limit);
            self.line(format!("pub {}: {},", names::snake_name(&field.name), shaped.ty));
        }
        self.line("}\n");
        self.open_decode(def);
        self.line("Ok(Self {");
        for field in fields {
            let decode = self.shaped(field, "'_").decode;
            self.line(format!("{}: {decode}?,", names::snake_name(&field.name)));
        }
        self.line("})}}\n");
        self.open_encode(def);
        for field in fields {
            let place = format!("self.{}", names::snake_name(&field.name));
            let encode = self.encode(field, &format!("&{place}"), &place);
            self.line(format!("{encode};"));
        }
        self.line("}}");
    }

    fn union(&mut self, def: &'f Def, union: &'f Union) -> Result<()> {
        let disc = self.checked.disc(union)?;
        self.union_type(def, union, disc)?;
        self.union_decode(def, union, disc)?;
        self.union_encode(def, union, disc)?;
        if let (Disc::Bool, None) = (disc, &union.default) {
            self.bool_union_as_option(def, union);
        }
        Ok(())
    }

    fn union_type(&mut self, def: &'f Def, union: &'f Union, disc: Disc<'f>) -> Result<()> {
        let rust = names::type_name(&def.name);
        let mut notes = named(def);
        if union.default.is_some() {
            notes.push(
                "`Default` carries the discriminant, which must not be one that has a variant of its own."
                    .to_owned(),
            );
        }
        self.doc(&def.doc, &format!("XDR union `{}`.", def.name), &notes);
        self.derive(def);
        let generics = if self.checked.def_borrows(def) { "<'a>" } else { "" };
        self.line(format!("pub enum {rust}{generics} {{"));
        for arm in &union.arms {
            let number = self.checked.label(disc, arm)?;
            let body = arm.body.decl.as_ref().map(|d| self.shaped(d, "'a"));
            let limit: Vec<String> = body.as_ref().and_then(|b| b.limit.clone()).into_iter().collect();
            self.doc(&arm.body.doc, &format!("`case {}`.", show(&arm.label)), &limit);
            let body = body.map_or(String::new(), |b| format!("({})", b.ty));
            self.line(format!("{}{body},", variant(disc, number)));
        }
        if let Some(default) = &union.default {
            let body = default.decl.as_ref().map(|d| self.shaped(d, "'a"));
            let limit: Vec<String> = body.as_ref().and_then(|b| b.limit.clone()).into_iter().collect();
            self.doc(&default.doc, "Every other discriminant.", &limit);
            let body = body.map_or(String::new(), |b| format!(", {}", b.ty));
            self.line(format!("Default({}{body}),", disc_type(disc)));
        }
        self.line("}\n");
        Ok(())
    }

    fn union_decode(&mut self, def: &'f Def, union: &'f Union, disc: Disc<'f>) -> Result<()> {
        self.open_decode(def);
        self.line(match disc {
            Disc::Enum(name, _) => format!("match {}::decode(r)? {{", names::type_name(name)),
            Disc::Int => "match r.i32()? {".to_owned(),
            Disc::UnsignedInt => "match r.u32()? {".to_owned(),
            Disc::Bool => "match r.bool()? {".to_owned(),
        });
        for arm in &union.arms {
            let number = self.checked.label(disc, arm)?;
            let name = variant(disc, number);
            let body = match &arm.body.decl {
                Some(decl) => format!("({}?)", self.shaped(decl, "'_").decode),
                None => String::new(),
            };
            self.line(format!("{} => Ok(Self::{name}{body}),", pattern(disc, number)));
        }
        if let Some(default) = &union.default {
            let body = match &default.decl {
                Some(decl) => format!(", {}?", self.shaped(decl, "'_").decode),
                None => String::new(),
            };
            self.line(format!("other => Ok(Self::Default(other{body})),"));
        } else if !disc.is_covered_by(union) {
            let value = match disc {
                Disc::Int => "other",
                Disc::Bool => "i32::from(other)",
                _ => "other as i32",
            };
            let what = &def.name;
            self.line(format!(
                "other => Err(DecodeError::BadDiscriminant {{ what: \"{what}\", value: {value} }}),"
            ));
        }
        self.line("}}}\n");
        Ok(())
    }

    fn union_encode(&mut self, def: &'f Def, union: &'f Union, disc: Disc<'f>) -> Result<()> {
        self.open_encode(def);
        self.line("match self {");
        for arm in &union.arms {
            let number = self.checked.label(disc, arm)?;
            let bind = if arm.body.decl.is_some() { "(body)" } else { "" };
            self.line(format!("Self::{}{bind} => {{", variant(disc, number)));
            self.line(match disc {
                Disc::Enum(name, _) => {
                    format!("{}::{}.encode(w);", names::type_name(name), variant(disc, number))
                }
                Disc::Int => format!("w.i32({number});"),
                Disc::UnsignedInt => format!("w.u32({number});"),
                Disc::Bool => format!("w.bool({});", number == 1),
            });
            if let Some(decl) = &arm.body.decl {
                let encode = self.encode(decl, "body", "body");
                self.line(format!("{encode};"));
            }
            self.line("}");
        }
        if let Some(default) = &union.default {
            let bind = if default.decl.is_some() { ", body" } else { "" };
            self.line(format!("Self::Default(disc{bind}) => {{"));
            let others = self.other_discriminants(union, disc)?;
            self.line(format!(
                "debug_assert!({others}, \"{disc_name} has a variant of its own\");",
                disc_name = "{disc:?}"
            ));
            self.line("disc.encode(w);");
            if let Some(decl) = &default.decl {
                let encode = self.encode(decl, "body", "body");
                self.line(format!("{encode};"));
            }
            self.line("}");
        }
        self.line("}}}");
        Ok(())
    }

    /// The condition that `disc` has no variant of its own.
    fn other_discriminants(&self, union: &'f Union, disc: Disc<'f>) -> Result<String> {
        let mut own = Vec::new();
        for arm in &union.arms {
            own.push(pattern(disc, self.checked.label(disc, arm)?));
        }
        Ok(match (disc, own.as_slice()) {
            (Disc::Bool, [own]) if own == "true" => "!*disc".to_owned(),
            (Disc::Bool, _) => "*disc".to_owned(),
            _ => format!("!matches!(disc, {})", own.join(" | ")),
        })
    }

    /// A bool union with one empty side is an option in all but name.
    fn bool_union_as_option(&mut self, def: &'f Def, union: &'f Union) {
        let [first, second] = union.arms.as_slice() else { return };
        let is_true = |label: &Value| *label == Value::Name("TRUE".to_owned());
        let (yes, no) = if is_true(&first.label) { (first, second) } else { (second, first) };
        let (Some(decl), None) = (&yes.body.decl, &no.body.decl) else { return };
        let rust = names::type_name(&def.name);
        let (generics, owner) = if self.checked.def_borrows(def) { ("<'a>", "<'a>") } else { ("", "") };
        let body = self.shaped(decl, "'a").ty;
        self.line(format!("\nimpl{generics} From<Option<{body}>> for {rust}{owner} {{"));
        self.line(format!("fn from(value: Option<{body}>) -> Self {{"));
        self.line("match value { Some(body) => Self::True(body), None => Self::False } } }");
        self.line(format!("\nimpl{generics} From<{rust}{owner}> for Option<{body}> {{"));
        self.line(format!("fn from(value: {rust}{owner}) -> Self {{"));
        self.line(format!("match value {{ {rust}::True(body) => Some(body), {rust}::False => None }} }} }}"));
    }

    fn typedef(&mut self, def: &'f Def, decl: &'f Decl) {
        let rust = names::type_name(&def.name);
        let borrows = self.checked.decl_borrows(decl);
        let generics = if borrows { "<'a>" } else { "" };
        let shaped = self.shaped(decl, "'a");
        let mut notes = named(def);
        notes.extend(shaped.limit.clone());
        self.doc(&def.doc, &format!("XDR typedef `{}`.", def.name), &notes);
        self.line(format!("pub type {rust}{generics} = {};", shaped.ty));
        if !self.has_functions(def) {
            return;
        }
        let snake = def.name.to_ascii_lowercase();
        let (reader, owner) = if borrows { ("Reader<'a>", "<'a>") } else { ("Reader<'_>", "") };
        self.line(format!("\n/// Reads a [`{rust}`] and checks its length."));
        self.line(format!(
            "pub fn decode_{snake}{owner}(r: &mut {reader}) -> Result<{rust}{owner}, DecodeError> {{"
        ));
        self.line(format!("{} }}", shaped.decode));
        let owner = if borrows { "<'_>" } else { "" };
        self.line(format!("\n/// Writes a [`{rust}`]."));
        self.line(format!("pub fn encode_{snake}(value: &{rust}{owner}, w: &mut Writer<'_>) {{"));
        let encode = self.encode(decl, "value", "value");
        self.line(format!("{encode}; }}"));
    }

    /// Whether the typedef needs functions of its own, because its Rust form does not know its maximum.
    fn has_functions(&self, def: &Def) -> bool {
        let Body::Typedef(decl) = &def.body else { return false };
        match (&decl.ty, &decl.shape) {
            (Type::Opaque, Shape::Fixed(_)) => false,
            (ty, Shape::Plain) => self.checked.type_def(ty).is_some_and(|d| self.has_functions(d)),
            _ => true,
        }
    }

    fn program(&mut self, def: &Def, program: &Program) {
        self.doc(&def.doc, &format!("RPC program `{}`.", def.name), &[]);
        self.line(format!("pub const {}: u32 = {};\n", names::const_name(&def.name), program.number));
        for version in &program.versions {
            let fallback = format!("Version {} of `{}`.", version.number, def.name);
            self.doc(&version.doc, &fallback, &[]);
            self.line(format!("pub const {}: u32 = {};\n", names::const_name(&version.name), version.number));
        }
        self.line(format!("/// The procedures of `{}`, one module for each version.", def.name));
        self.line(format!("pub mod {} {{", names::snake_name(&def.name)));
        for version in &program.versions {
            self.line(format!("/// Version {} (`{}`).", version.number, version.name));
            self.line(format!("pub mod v{} {{", version.number));
            self.line(format!("/// The version's number.\npub const VERSION: u32 = {};", version.number));
            let prefix = names::shared_prefix(version.procedures.iter().map(|p| p.name.as_str()));
            for p in &version.procedures {
                let args: Vec<String> = p.args.iter().map(|t| self.linked(t)).collect();
                let args = if args.is_empty() { "nothing".to_owned() } else { args.join(", ") };
                let result = p.result.as_ref().map_or("nothing".to_owned(), |t| self.linked(t));
                let signature = format!("Takes {args}, returns {result}.");
                self.doc(&p.doc, &format!("`{}`.", p.name), &[signature]);
                self.line(format!("pub const {}: u32 = {};", names::const_name(&p.name[prefix..]), p.number));
            }
            self.line("}\n");
        }
        self.line("}");
    }

    /// A type's name as a link for the docs inside `pub mod program { pub mod vN`.
    fn linked(&self, ty: &Type) -> String {
        match ty {
            Type::Named(name) => {
                let rust = names::type_name(name);
                format!("[`{rust}`](super::super::{rust})")
            }
            other => format!("`{}`", builtin(other)),
        }
    }

    /// The Rust name of a type.
    fn type_ref(&self, ty: &Type, lifetime: &str) -> String {
        match ty {
            Type::Named(name) => {
                let owner = if self.checked.borrows(ty) { format!("<{lifetime}>") } else { String::new() };
                format!("{}{owner}", names::type_name(name))
            }
            other => builtin(other).to_owned(),
        }
    }

    /// The path of the function that decodes (or encodes) a type.
    fn coder(&self, ty: &Type, verb: &str) -> String {
        match self.checked.type_def(ty) {
            Some(def) if self.has_functions(def) => format!("{verb}_{}", def.name.to_ascii_lowercase()),
            Some(def) => format!("{}::{verb}", names::type_name(&def.name)),
            None => format!("{}::{verb}", builtin(ty)),
        }
    }

    fn list_of(&self, decl: &Decl) -> Option<String> {
        match (&decl.ty, &decl.shape) {
            (Type::Named(name), Shape::Optional) if self.checked.is_list_node(name) => {
                Some(names::list_max(name))
            }
            _ => None,
        }
    }

    fn shaped(&self, decl: &Decl, lifetime: &str) -> Shaped {
        let element = || self.type_ref(&decl.ty, lifetime);
        let decoder = || self.coder(&decl.ty, "decode");
        match (&decl.ty, &decl.shape) {
            (Type::Opaque, Shape::Fixed(n)) => {
                let n = length(n);
                Shaped { ty: format!("[u8; {n}]"), decode: "r.opaque_array()".to_owned(), limit: None }
            }
            (Type::Opaque | Type::String, Shape::Variable(n)) => Shaped {
                ty: format!("&{lifetime} [u8]"),
                decode: format!("r.opaque_var({})", length(n)),
                limit: Some(format!("At most {} bytes.", maximum(n))),
            },
            (_, Shape::Fixed(n)) => Shaped {
                ty: format!("[{}; {}]", element(), length(n)),
                decode: format!("r.array_fixed({})", decoder()),
                limit: None,
            },
            (_, Shape::Variable(n)) => Shaped {
                ty: format!("Vec<{}>", element()),
                decode: format!("r.array({}, {})", length(n), decoder()),
                limit: Some(format!("At most {} elements.", maximum(n))),
            },
            (_, Shape::Optional) => match self.list_of(decl) {
                Some(max) => Shaped {
                    ty: format!("Vec<{}>", element()),
                    decode: format!("r.list({max} as usize, {})", decoder()),
                    limit: Some(format!("At most [`{max}`] elements.")),
                },
                None => Shaped {
                    ty: format!("Option<Box<{}>>", element()),
                    decode: format!("r.optional({})", decoder()),
                    limit: None,
                },
            },
            (_, Shape::Plain) => Shaped { ty: element(), decode: format!("{}(r)", decoder()), limit: None },
        }
    }

    /// The statement that encodes `decl`, by a reference to it (`by_ref`) or the place itself.
    fn encode(&self, decl: &Decl, by_ref: &str, place: &str) -> String {
        let encoder = || self.coder(&decl.ty, "encode");
        match (&decl.ty, &decl.shape) {
            (Type::Opaque, Shape::Fixed(_)) => format!("w.opaque_fixed({by_ref})"),
            (Type::Opaque | Type::String, Shape::Variable(n)) => {
                format!("w.opaque_max({place}, {})", length(n))
            }
            (_, Shape::Fixed(_)) => format!("w.array_fixed({by_ref}, {})", encoder()),
            (_, Shape::Variable(n)) => format!("w.array({by_ref}, {}, {})", length(n), encoder()),
            (_, Shape::Optional) => match self.list_of(decl) {
                Some(max) => format!("w.list({by_ref}, {max} as usize, {})", encoder()),
                None => format!("w.optional({by_ref}, {})", encoder()),
            },
            (_, Shape::Plain) => format!("{}({by_ref}, w)", encoder()),
        }
    }
}

fn builtin(ty: &Type) -> &'static str {
    match ty {
        Type::Int => "i32",
        Type::UnsignedInt => "u32",
        Type::Hyper => "i64",
        Type::UnsignedHyper => "u64",
        Type::Bool => "bool",
        // These two never stand alone: their shape decides, see `Emitter::shaped`.
        Type::Opaque | Type::String | Type::Named(_) => "[u8]",
    }
}

fn disc_type(disc: Disc<'_>) -> String {
    match disc {
        Disc::Int => "i32".to_owned(),
        Disc::UnsignedInt => "u32".to_owned(),
        Disc::Bool => "bool".to_owned(),
        Disc::Enum(name, _) => names::type_name(name),
    }
}

/// The variant for one label.
fn variant(disc: Disc<'_>, number: i128) -> String {
    match disc {
        Disc::Bool => if number == 1 { "True" } else { "False" }.to_owned(),
        Disc::Enum(_, all) => all
            .iter()
            .find(|e| i128::from(e.value) == number)
            .map_or(String::new(), |e| names::type_name(&e.name)),
        Disc::Int | Disc::UnsignedInt if number < 0 => format!("CaseMinus{}", -number),
        Disc::Int | Disc::UnsignedInt => format!("Case{number}"),
    }
}

/// The pattern that a decoded discriminant is matched with.
fn pattern(disc: Disc<'_>, number: i128) -> String {
    match disc {
        Disc::Bool => (number == 1).to_string(),
        Disc::Enum(name, _) => format!("{}::{}", names::type_name(name), variant(disc, number)),
        Disc::Int | Disc::UnsignedInt => number.to_string(),
    }
}

/// A length as a `usize` expression.
fn length(value: &Value) -> String {
    match value {
        Value::Number(n) => n.to_string(),
        Value::Name(name) => format!("{} as usize", names::const_name(name)),
    }
}

/// A length for the docs.
fn maximum(value: &Value) -> String {
    match value {
        Value::Number(n) => n.to_string(),
        Value::Name(name) => format!("[`{}`]", names::const_name(name)),
    }
}

/// The note that gives the XDR name, where a comment took the first line.
fn named(def: &Def) -> Vec<String> {
    if def.doc.is_empty() { Vec::new() } else { vec![format!("XDR name: `{}`.", def.name)] }
}

/// Comment text as Markdown that means what it says.
fn escape(line: &str) -> String {
    let mut out = String::new();
    let mut code = false;
    for c in line.chars() {
        if c == '`' {
            code = !code;
        } else if !code && matches!(c, '[' | ']' | '<' | '>' | '*' | '_') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
