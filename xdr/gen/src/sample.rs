//! Makes valid XDR for any type straight from its .x file, without the generated code: what the tests hold that code
//! against. Must never share a line with the code that it checks.

use crate::ast::{Body, Decl, Def, File, Shape, Type, Value};
use crate::check::{Checked, Disc, check, fields_of};
use crate::error::{Error, fail};
use crate::names;
use crate::parser;

/// The largest length that is tried at its maximum; beyond it tests would only get slow.
const FULL_LENGTH: u64 = 1100;

/// A .x file that was read.
#[derive(Debug)]
pub struct Source {
    file: File,
}

impl Source {
    /// Reads a .x file's text.
    ///
    /// # Errors
    /// The first mistake in the syntax, with its line.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(Self { file: parser::parse(text)? })
    }

    /// What makes samples of this file's types.
    ///
    /// # Errors
    /// The first mistake in the meaning, with its line.
    pub fn sampler(&self) -> Result<Sampler<'_>, Error> {
        Ok(Sampler { checked: check(&self.file)? })
    }
}

/// Makes samples of a .x file's types.
#[derive(Debug)]
pub struct Sampler<'f> {
    checked: Checked<'f>,
}

impl<'f> Sampler<'f> {
    /// The Rust names of all enums, structs and unions in the file.
    pub fn types(&self) -> Vec<String> {
        let coded = |d: &&Def| matches!(d.body, Body::Enum(_) | Body::Struct(_) | Body::Union(_));
        self.checked.file.defs.iter().filter(coded).map(|d| names::type_name(&d.name)).collect()
    }

    /// A valid encoding of the type with that Rust name. Each choice asks `entropy` for a number; all zeros gives the
    /// smallest encoding.
    ///
    /// # Errors
    /// There is no such type.
    pub fn sample(&self, rust_name: &str, entropy: &mut dyn FnMut() -> u64) -> Result<Vec<u8>, Error> {
        let file: &'f File = self.checked.file;
        let Some(def) = file.defs.iter().find(|d| names::type_name(&d.name) == rust_name) else {
            return fail(0, format!("there is no type `{rust_name}`"));
        };
        let mut run = Run { checked: &self.checked, entropy, out: Vec::new() };
        run.def(def)?;
        Ok(run.out)
    }
}

struct Run<'c, 'f, 'e> {
    checked: &'c Checked<'f>,
    entropy: &'e mut dyn FnMut() -> u64,
    out: Vec<u8>,
}

impl<'f> Run<'_, 'f, '_> {
    fn pick(&mut self, n: u64) -> u64 {
        (self.entropy)() % n
    }

    fn word(&mut self, n: i128) {
        // Two's complement, whatever the sign: the low 32 bits.
        self.out.extend_from_slice(&(n as u32).to_be_bytes());
    }

    fn bytes(&mut self, n: u64) {
        for _ in 0..n {
            let byte = (self.entropy)() as u8;
            self.out.push(byte);
        }
        while !self.out.len().is_multiple_of(4) {
            self.out.push(0);
        }
    }

    fn length(&mut self, max: &Value, line: usize) -> Result<u64, Error> {
        let max = u64::try_from(self.checked.value(max, line)?).unwrap_or(0);
        let len = match self.pick(8) {
            0 => 0,
            7 if max <= FULL_LENGTH => max,
            6 => self.pick(64),
            small => small,
        };
        Ok(len.min(max))
    }

    fn def(&mut self, def: &'f Def) -> Result<(), Error> {
        match &def.body {
            Body::Const(_) | Body::Program(_) => Ok(()),
            Body::Typedef(decl) => self.decl(decl),
            Body::Struct(fields) => {
                fields_of(self.checked, def, fields).iter().try_for_each(|field| self.decl(field))
            }
            Body::Enum(all) => {
                let i = self.pick(all.len() as u64) as usize;
                self.word(i128::from(all[i].value));
                Ok(())
            }
            Body::Union(union) => {
                let disc = self.checked.disc(union)?;
                let labels: Result<Vec<i128>, Error> =
                    union.arms.iter().map(|arm| self.checked.label(disc, arm)).collect();
                let labels = labels?;
                let others: Vec<i128> = match disc {
                    Disc::Enum(_, all) => all.iter().map(|e| i128::from(e.value)).collect(),
                    Disc::Bool => (0..2).collect(),
                    Disc::Int | Disc::UnsignedInt => (0..8).collect(),
                };
                let others: Vec<i128> = others.into_iter().filter(|n| !labels.contains(n)).collect();
                let choices = labels.len() + usize::from(union.default.is_some());
                let i = self.pick(choices as u64) as usize;
                let (number, body) = match (labels.get(i), &union.default) {
                    (None, Some(default)) => {
                        let other = self.pick(others.len() as u64) as usize;
                        (others[other], default)
                    }
                    _ => (labels[i], &union.arms[i].body),
                };
                self.word(number);
                body.decl.as_ref().map_or(Ok(()), |decl| self.decl(decl))
            }
        }
    }

    fn decl(&mut self, decl: &'f Decl) -> Result<(), Error> {
        match (&decl.ty, &decl.shape) {
            (Type::Opaque, Shape::Fixed(n)) => {
                let len = self.checked.value(n, decl.line)?;
                self.bytes(len as u64);
            }
            (Type::Opaque | Type::String, Shape::Variable(max)) => {
                let len = self.length(max, decl.line)?;
                self.word(i128::from(len));
                self.bytes(len);
            }
            (ty, Shape::Plain) => self.ty(ty)?,
            (ty, Shape::Fixed(n)) => {
                for _ in 0..self.checked.value(n, decl.line)? {
                    self.ty(ty)?;
                }
            }
            (ty, Shape::Variable(max)) => {
                let len = self.length(max, decl.line)?;
                self.word(i128::from(len));
                for _ in 0..len {
                    self.ty(ty)?;
                }
            }
            (ty, Shape::Optional) => {
                let list = matches!(ty, Type::Named(name) if self.checked.is_list_node(name));
                let len = self.pick(if list { 4 } else { 2 });
                for _ in 0..len {
                    self.word(1);
                    self.ty(ty)?;
                }
                if list || len == 0 {
                    self.word(0);
                }
            }
        }
        Ok(())
    }

    fn ty(&mut self, ty: &Type) -> Result<(), Error> {
        match ty {
            Type::Bool => {
                let n = self.pick(2);
                self.word(i128::from(n));
            }
            Type::Int | Type::UnsignedInt => {
                let n = (self.entropy)();
                self.word(i128::from(n));
            }
            Type::Hyper | Type::UnsignedHyper => {
                let n = (self.entropy)();
                self.out.extend_from_slice(&n.to_be_bytes());
            }
            // The parser lets these two through only with a length.
            Type::Opaque | Type::String => {}
            named @ Type::Named(_) => {
                if let Some(def) = self.checked.type_def(named) {
                    self.def(def)?;
                }
            }
        }
        Ok(())
    }
}
