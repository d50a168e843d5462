//! Tokens to syntax tree: RFC 4506 section 6.3 and the `program` of RFC 5531 section 12. A struct, union or enum
//! written in place becomes a definition of its own, named after what it stands in. Must never look names up:
//! that is the checker's work (constants excepted, which have to stand above their use).

use std::collections::BTreeMap;

use crate::ast::{
    Arm, ArmBody, Body, Decl, Def, Enumerator, File, Procedure, Program, Shape, Type, Union, Value, Version,
};
use crate::error::{Result, fail};
use crate::lexer::{Kind, Token, lex};

/// Parses a whole file.
pub(crate) fn parse(text: &str) -> Result<File> {
    let lexed = lex(text)?;
    let mut parser = Parser { tokens: lexed.tokens, at: 0, defs: Vec::new(), consts: BTreeMap::new() };
    while parser.peek().kind != Kind::End {
        parser.definition()?;
    }
    Ok(File { header: lexed.header, defs: parser.defs })
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    defs: Vec<Def>,
    consts: BTreeMap<String, i128>,
}

/// A type that was written: a name, or a body in place that waits for its name.
enum Written {
    Type(Type),
    Body(Box<Body>),
}

impl Parser {
    // The lexer always ends with `End` and `next` does not go past it, so the index holds.
    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn line(&self) -> usize {
        self.peek().line
    }

    fn is(&self, c: char) -> bool {
        self.peek().kind == Kind::Punct(c)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.peek().kind, Kind::Word(w) if w == word)
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.is(c);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<Token> {
        if self.is(c) { Ok(self.next()) } else { self.unexpected(&format!("`{c}`")) }
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.is_word(word) {
            self.next();
            return Ok(());
        }
        self.unexpected(&format!("`{word}`"))
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T> {
        let found = match &self.peek().kind {
            Kind::Word(w) => format!("`{w}`"),
            Kind::Number(n) => format!("`{n}`"),
            Kind::Punct(c) => format!("`{c}`"),
            Kind::End => "the end of the file".to_owned(),
        };
        fail(self.line(), format!("expected {wanted}, found {found}"))
    }

    fn name(&mut self) -> Result<(String, usize)> {
        let line = self.line();
        match &self.peek().kind {
            Kind::Word(w) if is_keyword(w) => fail(line, format!("`{w}` is a keyword and cannot be a name")),
            Kind::Word(w) => {
                let name = w.clone();
                self.next();
                Ok((name, line))
            }
            _ => self.unexpected("a name"),
        }
    }

    /// Doc of an item that starts at token `start` and ended with the token before the current one.
    fn doc(&self, start: usize) -> Vec<String> {
        let mut doc = self.tokens[start].above.clone();
        doc.extend(self.tokens[self.at.saturating_sub(1)].behind.iter().cloned());
        doc
    }

    fn definition(&mut self) -> Result<()> {
        let start = self.at;
        let Kind::Word(word) = self.peek().kind.clone() else { return self.unexpected("a definition") };
        match word.as_str() {
            "const" => self.const_def(start),
            "typedef" => self.typedef(start),
            "program" => self.program(start),
            "enum" | "struct" | "union" => {
                self.next();
                let (name, line) = self.name()?;
                let body = self.body(&word, &name)?;
                self.expect(';')?;
                let doc = self.tokens[start].above.clone();
                self.defs.push(Def { name, line, doc, body });
                Ok(())
            }
            _ => self.unexpected("const, typedef, enum, struct, union or program"),
        }
    }

    fn const_def(&mut self, start: usize) -> Result<()> {
        self.next();
        let (name, line) = self.name()?;
        self.expect('=')?;
        let value = self.number()?;
        self.expect(';')?;
        self.consts.insert(name.clone(), value);
        let doc = self.doc(start);
        self.defs.push(Def { name, line, doc, body: Body::Const(value) });
        Ok(())
    }

    fn typedef(&mut self, start: usize) -> Result<()> {
        self.next();
        let written = self.written_type("typedef")?;
        let (name, line, body) = match written {
            Written::Body(body) => {
                let (name, line) = self.name()?;
                (name, line, *body)
            }
            Written::Type(ty) => {
                let decl = self.declarator(ty, start)?;
                (decl.name.clone(), decl.line, Body::Typedef(decl))
            }
        };
        self.expect(';')?;
        let doc = self.doc(start);
        self.defs.push(Def { name, line, doc, body });
        Ok(())
    }

    /// What follows `enum NAME`, `struct NAME` or `union NAME`. `owner` names what is written in place inside.
    fn body(&mut self, keyword: &str, owner: &str) -> Result<Body> {
        match keyword {
            "enum" => self.enum_body(),
            "struct" => self.struct_body(owner),
            _ => self.union_body(owner),
        }
    }

    fn enum_body(&mut self) -> Result<Body> {
        self.expect('{')?;
        let mut out = Vec::new();
        loop {
            let start = self.at;
            let (name, line) = self.name()?;
            self.expect('=')?;
            let value = self.number()?;
            let Ok(value) = i32::try_from(value) else {
                return fail(line, format!("`{name}` = {value} does not fit in an enum (32 bits, signed)"));
            };
            let more = self.eat(',');
            out.push(Enumerator { name, line, doc: self.doc(start), value });
            if !more {
                break;
            }
        }
        self.expect('}')?;
        Ok(Body::Enum(out))
    }

    fn struct_body(&mut self, owner: &str) -> Result<Body> {
        self.expect('{')?;
        let mut fields = Vec::new();
        loop {
            let start = self.at;
            if self.is_word("void") {
                return fail(self.line(), "`void` is no field");
            }
            let mut decl = self.declaration(owner)?;
            self.expect(';')?;
            decl.doc = self.doc(start);
            fields.push(decl);
            if self.eat('}') {
                return Ok(Body::Struct(fields));
            }
        }
    }

    fn union_body(&mut self, owner: &str) -> Result<Body> {
        self.expect_word("switch")?;
        self.expect('(')?;
        let disc = self.declaration(owner)?;
        self.expect(')')?;
        self.expect('{')?;
        let mut arms = Vec::new();
        let mut default = None;
        while !self.eat('}') {
            let start = self.at;
            if self.is_word("default") {
                let line = self.line();
                self.next();
                self.expect(':')?;
                if default.replace(self.arm_body(owner, start)?).is_some() {
                    return fail(line, "a second `default`");
                }
                continue;
            }
            if default.is_some() {
                return self.unexpected("`}` (default is the last arm)");
            }
            let mut labels = Vec::new();
            while self.is_word("case") {
                self.next();
                let line = self.line();
                labels.push((self.value()?, line));
                self.expect(':')?;
            }
            if labels.is_empty() {
                return self.unexpected("`case`, `default` or `}`");
            }
            let body = self.arm_body(owner, start)?;
            arms.extend(labels.into_iter().map(|(label, line)| Arm { label, line, body: body.clone() }));
        }
        Ok(Body::Union(Union { disc, arms, default }))
    }

    fn arm_body(&mut self, owner: &str, start: usize) -> Result<ArmBody> {
        let decl = if self.is_word("void") {
            self.next();
            None
        } else {
            Some(self.declaration(owner)?)
        };
        self.expect(';')?;
        Ok(ArmBody { doc: self.doc(start), decl })
    }

    fn declaration(&mut self, owner: &str) -> Result<Decl> {
        let start = self.at;
        match self.written_type(owner)? {
            Written::Type(ty) => self.declarator(ty, start),
            Written::Body(body) => {
                let line = self.line();
                // A nested body has no name yet: it takes the owner's and that of the field it is for.
                let decl = self.declarator(Type::Int, start)?;
                let name = format!("{owner}_{}", decl.name);
                let doc = vec![format!("What `{owner}` holds as `{}`.", decl.name)];
                self.defs.push(Def { name: name.clone(), line, doc, body: *body });
                Ok(Decl { ty: Type::Named(name), ..decl })
            }
        }
    }

    fn declarator(&mut self, ty: Type, start: usize) -> Result<Decl> {
        let optional = self.eat('*');
        let (name, line) = self.name()?;
        let shape = if optional {
            Shape::Optional
        } else if self.eat('[') {
            let n = self.value()?;
            self.expect(']')?;
            Shape::Fixed(n)
        } else if self.eat('<') {
            if self.is('>') {
                return fail(line, format!("`{name}<>` has no maximum: write one, `{name}<MAX>`"));
            }
            let n = self.value()?;
            self.expect('>')?;
            Shape::Variable(n)
        } else {
            Shape::Plain
        };
        check_shape(&ty, &shape, &name, line)?;
        Ok(Decl { name, line, doc: self.tokens[start].above.clone(), ty, shape })
    }

    fn written_type(&mut self, owner: &str) -> Result<Written> {
        let line = self.line();
        let Kind::Word(word) = self.peek().kind.clone() else { return self.unexpected("a type") };
        if matches!(word.as_str(), "enum" | "struct" | "union") {
            self.next();
            if self.is('{') || self.is_word("switch") {
                return Ok(Written::Body(Box::new(self.body(&word, owner)?)));
            }
            return Ok(Written::Type(Type::Named(self.name()?.0)));
        }
        Ok(Written::Type(match word.as_str() {
            "int" => self.simple(Type::Int),
            "hyper" => self.simple(Type::Hyper),
            "bool" => self.simple(Type::Bool),
            "opaque" => self.simple(Type::Opaque),
            "string" => self.simple(Type::String),
            "unsigned" => {
                self.next();
                if self.is_word("hyper") {
                    self.simple(Type::UnsignedHyper)
                } else if self.is_word("int") {
                    self.simple(Type::UnsignedInt)
                } else {
                    Type::UnsignedInt
                }
            }
            "float" | "double" | "quadruple" => {
                return fail(line, format!("`{word}`: floating point is not supported"));
            }
            "long" | "short" | "char" => {
                return fail(line, format!("`{word}` is C, not XDR: write int or hyper"));
            }
            "void" => return fail(line, "`void` is no type here"),
            _ => Type::Named(self.name()?.0),
        }))
    }

    fn simple(&mut self, ty: Type) -> Type {
        self.next();
        ty
    }

    fn value(&mut self) -> Result<Value> {
        match self.peek().kind.clone() {
            Kind::Number(n) => {
                self.next();
                Ok(Value::Number(n))
            }
            Kind::Word(w) if matches!(w.as_str(), "TRUE" | "FALSE") => {
                self.next();
                Ok(Value::Name(w))
            }
            Kind::Word(_) => Ok(Value::Name(self.name()?.0)),
            _ => self.unexpected("a number or a name"),
        }
    }

    /// A number, or the name of a constant above.
    fn number(&mut self) -> Result<i128> {
        let line = self.line();
        match self.value()? {
            Value::Number(n) => Ok(n),
            Value::Name(name) => match self.consts.get(&name) {
                Some(n) => Ok(*n),
                None => fail(line, format!("`{name}` is no constant defined above")),
            },
        }
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        let line = self.line();
        let n = self.number()?;
        u32::try_from(n).or_else(|_| fail(line, format!("{what} number {n} does not fit in 32 bits")))
    }

    fn program(&mut self, start: usize) -> Result<()> {
        self.next();
        let (name, line) = self.name()?;
        self.expect('{')?;
        let mut versions = Vec::new();
        while !self.eat('}') {
            versions.push(self.version()?);
        }
        self.expect('=')?;
        let number = self.u32("program")?;
        self.expect(';')?;
        if versions.is_empty() {
            return fail(line, format!("program `{name}` has no version"));
        }
        let doc = self.tokens[start].above.clone();
        self.defs.push(Def { name, line, doc, body: Body::Program(Program { number, versions }) });
        Ok(())
    }

    fn version(&mut self) -> Result<Version> {
        let doc = self.peek().above.clone();
        self.expect_word("version")?;
        let (name, line) = self.name()?;
        self.expect('{')?;
        let mut procedures = Vec::new();
        while !self.eat('}') {
            procedures.push(self.procedure()?);
        }
        self.expect('=')?;
        let number = self.u32("version")?;
        self.expect(';')?;
        if procedures.is_empty() {
            return fail(line, format!("version `{name}` has no procedure"));
        }
        Ok(Version { name, line, doc, number, procedures })
    }

    fn procedure(&mut self) -> Result<Procedure> {
        let start = self.at;
        let result = self.procedure_type()?;
        let (name, line) = self.name()?;
        self.expect('(')?;
        let mut args = Vec::new();
        match self.procedure_type()? {
            None => {}
            Some(ty) => {
                args.push(ty);
                while self.eat(',') {
                    let line = self.line();
                    match self.procedure_type()? {
                        Some(ty) => args.push(ty),
                        None => return fail(line, "`void` beside other arguments"),
                    }
                }
            }
        }
        self.expect(')')?;
        self.expect('=')?;
        let number = self.u32("procedure")?;
        self.expect(';')?;
        Ok(Procedure { name, line, doc: self.doc(start), number, result, args })
    }

    fn procedure_type(&mut self) -> Result<Option<Type>> {
        if self.is_word("void") {
            self.next();
            return Ok(None);
        }
        let line = self.line();
        match self.written_type("procedure")? {
            Written::Type(Type::Opaque | Type::String) => {
                fail(line, "a procedure takes and returns types with a name: typedef this one")
            }
            Written::Type(ty) => Ok(Some(ty)),
            Written::Body(_) => {
                fail(line, "a procedure takes and returns types with a name: define this one")
            }
        }
    }
}

fn check_shape(ty: &Type, shape: &Shape, name: &str, line: usize) -> Result<()> {
    match (ty, shape) {
        (Type::Opaque, Shape::Plain | Shape::Optional) => {
            fail(line, format!("opaque `{name}` needs a length: `{name}[N]` or `{name}<MAX>`"))
        }
        (Type::String, Shape::Plain) => {
            fail(line, format!("string `{name}` has no maximum: write one, `{name}<MAX>`"))
        }
        (Type::String, Shape::Fixed(_) | Shape::Optional) => {
            fail(line, format!("string `{name}` has a maximum in `<MAX>`, nothing else"))
        }
        _ => Ok(()),
    }
}

/// RFC 4506 section 6.4 and RFC 5531 section 12.3.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "bool"
            | "case"
            | "const"
            | "default"
            | "double"
            | "quadruple"
            | "enum"
            | "float"
            | "hyper"
            | "int"
            | "opaque"
            | "string"
            | "struct"
            | "switch"
            | "typedef"
            | "union"
            | "unsigned"
            | "void"
            | "program"
            | "version"
    )
}
