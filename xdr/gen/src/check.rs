//! Looks every name up and refuses what the generated code could not bear: names that are missing or doubled, lengths
//! without a sane maximum, types that hold themselves other than as a list. Must never change the tree.

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{Arm, Body, Decl, Def, Enumerator, File, Program, Shape, Type, Union, Value};
use crate::error::{Result, fail};
use crate::names;

/// The largest maximum that still counts as one: nothing that lockferry speaks carries more than 1 MiB.
const LARGEST_MAXIMUM: i128 = 16 << 20;

/// A file whose names all resolve.
#[derive(Debug)]
pub(crate) struct Checked<'f> {
    pub(crate) file: &'f File,
    types: BTreeMap<&'f str, &'f Def>,
    consts: BTreeMap<&'f str, i128>,
    enumerators: BTreeMap<&'f str, i128>,
}

/// What a union switches on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disc<'f> {
    Int,
    UnsignedInt,
    Bool,
    Enum(&'f str, &'f [Enumerator]),
}

impl Disc<'_> {
    /// Whether the labels of `union` name every value there is, so that nothing is left over.
    pub(crate) fn is_covered_by(&self, union: &Union) -> bool {
        match self {
            Disc::Bool => union.arms.len() == 2,
            Disc::Enum(_, all) => union.arms.len() == all.len(),
            Disc::Int | Disc::UnsignedInt => false,
        }
    }
}

/// Checks `file`.
pub(crate) fn check(file: &File) -> Result<Checked<'_>> {
    let mut checked =
        Checked { file, types: BTreeMap::new(), consts: BTreeMap::new(), enumerators: BTreeMap::new() };
    checked.collect()?;
    for def in &file.defs {
        checked.definition(def)?;
    }
    for def in &file.defs {
        checked.no_cycle(def, &mut Vec::new())?;
    }
    Ok(checked)
}

impl<'f> Checked<'f> {
    fn collect(&mut self) -> Result<()> {
        let mut xdr: BTreeMap<&str, usize> = BTreeMap::new();
        let mut rust: BTreeMap<String, usize> = BTreeMap::new();
        let mut claim = |name: &'f str, rust_name: Option<String>, line: usize| {
            if let Some(first) = xdr.insert(name, line) {
                return fail(line, format!("`{name}` is defined on line {first} already"));
            }
            let Some(rust_name) = rust_name else { return Ok(()) };
            if names::is_taken_type(&rust_name) {
                return fail(line, format!("`{name}` becomes `{rust_name}`, which Rust needs: rename it"));
            }
            match rust.insert(rust_name.clone(), line) {
                Some(first) => {
                    fail(line, format!("`{name}` becomes `{rust_name}` in Rust, and so does line {first}"))
                }
                None => Ok(()),
            }
        };
        for def in &self.file.defs {
            match &def.body {
                Body::Const(value) => {
                    claim(&def.name, Some(names::const_name(&def.name)), def.line)?;
                    self.consts.insert(&def.name, *value);
                }
                Body::Program(program) => {
                    claim(&def.name, Some(names::const_name(&def.name)), def.line)?;
                    for version in &program.versions {
                        claim(&version.name, Some(names::const_name(&version.name)), version.line)?;
                    }
                }
                Body::Enum(enumerators) => {
                    claim(&def.name, Some(names::type_name(&def.name)), def.line)?;
                    for e in enumerators {
                        claim(&e.name, None, e.line)?;
                        self.enumerators.insert(&e.name, i128::from(e.value));
                    }
                    self.types.insert(&def.name, def);
                }
                _ => {
                    claim(&def.name, Some(names::type_name(&def.name)), def.line)?;
                    self.types.insert(&def.name, def);
                }
            }
        }
        Ok(())
    }

    fn definition(&self, def: &'f Def) -> Result<()> {
        match &def.body {
            Body::Const(value) if i64::try_from(*value).is_err() => {
                fail(def.line, format!("{value} does not fit in 64 bits"))
            }
            Body::Const(_) => Ok(()),
            Body::Enum(enumerators) => check_enum(enumerators),
            Body::Typedef(decl) => self.declaration(decl),
            Body::Struct(fields) => self.structure(def, fields),
            Body::Union(union) => self.union(def, union),
            Body::Program(program) => self.program(program),
        }
    }

    fn structure(&self, def: &'f Def, fields: &'f [Decl]) -> Result<()> {
        let mut seen = BTreeSet::new();
        for field in fields {
            if !seen.insert(names::snake_name(&field.name)) {
                return fail(field.line, format!("a second field `{}`", field.name));
            }
        }
        if self.is_list_node(&def.name) {
            let max = names::list_max(&def.name);
            let Some(value) = self.consts.get(max.as_str()) else {
                let name = &def.name;
                return fail(
                    def.line,
                    format!("the list of `{name}` has no maximum: add `const {max} = N;` above it"),
                );
            };
            self.sane_maximum(*value, def.line)?;
            if fields.len() == 1 {
                return fail(def.line, format!("the list of `{}` holds nothing", def.name));
            }
        }
        fields_of(self, def, fields).iter().try_for_each(|f| self.declaration(f))
    }

    fn union(&self, def: &'f Def, union: &'f Union) -> Result<()> {
        if union.disc.shape != Shape::Plain {
            return fail(union.disc.line, "a union switches on int, unsigned int, bool or an enum");
        }
        let disc = self.disc(union)?;
        if union.arms.is_empty() {
            return fail(def.line, format!("union `{}` has no `case`", def.name));
        }
        let mut seen = BTreeSet::new();
        for arm in &union.arms {
            if !seen.insert(self.label(disc, arm)?) {
                return fail(arm.line, format!("a second `case {}`", show(&arm.label)));
            }
            if let Some(decl) = &arm.body.decl {
                self.declaration(decl)?;
            }
        }
        if let Some(default) = &union.default {
            if disc.is_covered_by(union) {
                return fail(def.line, format!("union `{}`: nothing is left for `default`", def.name));
            }
            if let Some(decl) = &default.decl {
                self.declaration(decl)?;
            }
        }
        Ok(())
    }

    fn program(&self, program: &Program) -> Result<()> {
        let mut versions = BTreeSet::new();
        for version in &program.versions {
            if !versions.insert(version.number) {
                return fail(version.line, format!("a second version {}", version.number));
            }
            let mut numbers = BTreeSet::new();
            let mut seen = BTreeSet::new();
            for p in &version.procedures {
                if !numbers.insert(p.number) {
                    return fail(p.line, format!("a second procedure {}", p.number));
                }
                if !seen.insert(&p.name) {
                    return fail(p.line, format!("a second procedure `{}`", p.name));
                }
                for ty in p.args.iter().chain(&p.result) {
                    self.known(ty, p.line)?;
                }
            }
        }
        Ok(())
    }

    fn declaration(&self, decl: &Decl) -> Result<()> {
        self.known(&decl.ty, decl.line)?;
        if decl.shape != Shape::Optional
            && let Type::Named(name) = &decl.ty
            && self.is_list_node(name)
        {
            return fail(
                decl.line,
                format!("`{name}` is a list's node: point to it, `{name} *{}`", decl.name),
            );
        }
        match &decl.shape {
            Shape::Plain | Shape::Optional => Ok(()),
            Shape::Fixed(n) | Shape::Variable(n) => self.sane_maximum(self.value(n, decl.line)?, decl.line),
        }
    }

    fn sane_maximum(&self, value: i128, line: usize) -> Result<()> {
        match value {
            i128::MIN..=0 => fail(line, format!("a length of {value} holds nothing")),
            1..=LARGEST_MAXIMUM => Ok(()),
            _ => fail(line, format!("a length of {value} is no limit: the most is {LARGEST_MAXIMUM}")),
        }
    }

    fn known(&self, ty: &Type, line: usize) -> Result<()> {
        match ty {
            Type::Named(name) if !self.types.contains_key(name.as_str()) => {
                fail(line, format!("there is no type `{name}` in this file"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a type that holds itself, so that decoding has a depth known from the file alone.
    fn no_cycle(&self, def: &'f Def, path: &mut Vec<&'f str>) -> Result<()> {
        if path.contains(&def.name.as_str()) {
            let way = path.join("` in `");
            return fail(
                def.line,
                format!(
                    "`{}` holds itself (by way of `{way}`): only lists may, by a last field `*next`",
                    def.name
                ),
            );
        }
        path.push(&def.name);
        for decl in self.held(def) {
            if let Type::Named(name) = &decl.ty
                && let Some(inner) = self.types.get(name.as_str())
            {
                self.no_cycle(inner, path)?;
            }
        }
        path.pop();
        Ok(())
    }

    /// The declarations inside a type; without a list node's link.
    fn held(&self, def: &'f Def) -> Vec<&'f Decl> {
        match &def.body {
            Body::Struct(fields) => fields_of(self, def, fields).iter().collect(),
            Body::Union(union) => {
                let bodies = union.arms.iter().map(|a| &a.body).chain(&union.default);
                bodies.filter_map(|b| b.decl.as_ref()).collect()
            }
            Body::Typedef(decl) => vec![decl],
            _ => Vec::new(),
        }
    }

    /// The definition of a type; `None` for what XDR itself brings.
    pub(crate) fn type_def(&self, ty: &Type) -> Option<&'f Def> {
        match ty {
            Type::Named(name) => self.types.get(name.as_str()).copied(),
            _ => None,
        }
    }

    /// The number that a length or label stands for.
    pub(crate) fn value(&self, value: &Value, line: usize) -> Result<i128> {
        match value {
            Value::Number(n) => Ok(*n),
            Value::Name(name) => match self.consts.get(name.as_str()) {
                Some(n) => Ok(*n),
                None => fail(line, format!("there is no constant `{name}` in this file")),
            },
        }
    }

    /// Whether `name` is a struct whose last field points to the same struct, directly or by a typedef.
    pub(crate) fn is_list_node(&self, name: &str) -> bool {
        let Some(Def { body: Body::Struct(fields), .. }) = self.types.get(name) else { return false };
        let Some(last) = fields.last() else { return false };
        match (&last.ty, &last.shape) {
            (Type::Named(to), Shape::Optional) => to == name,
            (Type::Named(alias), Shape::Plain) => match self.types.get(alias.as_str()) {
                Some(Def { body: Body::Typedef(decl), .. }) => {
                    decl.shape == Shape::Optional && decl.ty == Type::Named(name.to_owned())
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// What a union switches on, typedefs followed.
    pub(crate) fn disc(&self, union: &'f Union) -> Result<Disc<'f>> {
        let mut ty = &union.disc.ty;
        // A typedef that leads back to itself is reported as a cycle; here it just must not spin.
        for _ in 0..=self.types.len() {
            match ty {
                Type::Int => return Ok(Disc::Int),
                Type::UnsignedInt => return Ok(Disc::UnsignedInt),
                Type::Bool => return Ok(Disc::Bool),
                _ => {}
            }
            self.known(ty, union.disc.line)?;
            match self.type_def(ty) {
                Some(Def { name, body: Body::Enum(e), .. }) => return Ok(Disc::Enum(name, e)),
                Some(Def { body: Body::Typedef(decl), .. }) if decl.shape == Shape::Plain => ty = &decl.ty,
                _ => break,
            }
        }
        fail(union.disc.line, "a union switches on int, unsigned int, bool or an enum")
    }

    /// The number of a `case` label, which must be one of the discriminant's.
    pub(crate) fn label(&self, disc: Disc<'_>, arm: &Arm) -> Result<i128> {
        let what = show(&arm.label);
        match (disc, &arm.label) {
            (Disc::Bool, Value::Name(name)) if name == "TRUE" => Ok(1),
            (Disc::Bool, Value::Name(name)) if name == "FALSE" => Ok(0),
            (Disc::Bool, _) => fail(arm.line, format!("`{what}` is neither TRUE nor FALSE")),
            (Disc::Enum(enum_name, all), label) => {
                let found = all.iter().find(|e| match label {
                    Value::Name(name) => e.name == *name,
                    Value::Number(n) => i128::from(e.value) == *n,
                });
                match found {
                    Some(e) => Ok(i128::from(e.value)),
                    None => fail(arm.line, format!("`{what}` is no value of `{enum_name}`")),
                }
            }
            (_, label) => {
                let n = match label {
                    Value::Name(name) if self.enumerators.contains_key(name.as_str()) => {
                        self.enumerators[name.as_str()]
                    }
                    label => self.value(label, arm.line)?,
                };
                let fits = match disc {
                    Disc::UnsignedInt => u32::try_from(n).is_ok(),
                    _ => i32::try_from(n).is_ok(),
                };
                if fits { Ok(n) } else { fail(arm.line, format!("`{what}` does not fit the discriminant")) }
            }
        }
    }

    /// Whether the type's Rust form borrows from the input.
    pub(crate) fn borrows(&self, ty: &Type) -> bool {
        self.type_def(ty).is_some_and(|def| self.def_borrows(def))
    }

    /// The same for a definition.
    pub(crate) fn def_borrows(&self, def: &'f Def) -> bool {
        self.held(def).into_iter().any(|decl| self.decl_borrows(decl))
    }

    /// The same for a declaration.
    pub(crate) fn decl_borrows(&self, decl: &Decl) -> bool {
        match (&decl.ty, &decl.shape) {
            (Type::String, _) | (Type::Opaque, Shape::Variable(_)) => true,
            (ty, _) => self.borrows(ty),
        }
    }

    /// Whether the definition's Rust form is `Copy`.
    pub(crate) fn def_is_copy(&self, def: &'f Def) -> bool {
        self.held(def).into_iter().all(|decl| {
            let inner = || self.type_def(&decl.ty).is_none_or(|d| self.def_is_copy(d));
            match (&decl.ty, &decl.shape) {
                (Type::Opaque | Type::String, _) => true,
                (_, Shape::Plain | Shape::Fixed(_)) => inner(),
                _ => false,
            }
        })
    }
}

/// A struct's fields; without a list node's link.
pub(crate) fn fields_of<'d>(checked: &Checked<'_>, def: &Def, fields: &'d [Decl]) -> &'d [Decl] {
    if checked.is_list_node(&def.name) { &fields[..fields.len() - 1] } else { fields }
}

/// A label or length as written.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Number(n) => n.to_string(),
        Value::Name(name) => name.clone(),
    }
}

fn check_enum(enumerators: &[Enumerator]) -> Result<()> {
    let mut values = BTreeMap::new();
    let mut rust = BTreeSet::new();
    for e in enumerators {
        if let Some(first) = values.insert(e.value, &e.name) {
            return fail(e.line, format!("`{}` has the same value as `{first}`", e.name));
        }
        if !rust.insert(names::type_name(&e.name)) {
            return fail(e.line, format!("`{}` has the same name in Rust as another value", e.name));
        }
    }
    Ok(())
}
