//! Cuts a .x file into words, numbers and punctuation, and keeps the comments beside the token they belong to.
//! Must never interpret: that is the parser's work.

use crate::error::{Result, fail};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word(String),
    Number(i128),
    Punct(char),
    End,
}

/// A token and the comments around it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
    /// Comments on the lines directly above.
    pub(crate) above: Vec<String>,
    /// Comments behind it on its own line.
    pub(crate) behind: Vec<String>,
}

/// A file's tokens, the last one being `End`, and its header comment.
#[derive(Debug)]
pub(crate) struct Lexed {
    pub(crate) header: Vec<String>,
    pub(crate) tokens: Vec<Token>,
}

struct Comment {
    first: usize,
    last: usize,
    lines: Vec<String>,
}

/// Cuts `text` up.
pub(crate) fn lex(text: &str) -> Result<Lexed> {
    let mut lexer = Lexer { text, at: 0, line: 1, fresh_line: true };
    let mut out = Lexed { header: Vec::new(), tokens: Vec::new() };
    let mut pending: Vec<Comment> = Vec::new();
    loop {
        lexer.skip_space();
        if let Some(comment) = lexer.comment()? {
            match out.tokens.last_mut() {
                Some(token) if token.line == comment.first => token.behind.extend(comment.lines),
                _ => pending.push(comment),
            }
            continue;
        }
        let line = lexer.line;
        let kind = lexer.token()?;
        let comments = std::mem::take(&mut pending);
        if out.tokens.is_empty() {
            out.header = header(&comments, line);
        }
        let end = kind == Kind::End;
        out.tokens.push(Token { kind, line, above: directly_above(comments, line), behind: Vec::new() });
        if end {
            return Ok(out);
        }
    }
}

/// The first comment, unless it belongs to the first token.
fn header(comments: &[Comment], token_line: usize) -> Vec<String> {
    let Some(first) = comments.first() else { return Vec::new() };
    let next = comments.get(1).map_or(token_line, |c| c.first);
    if first.last + 1 < next { first.lines.clone() } else { Vec::new() }
}

/// The comments that reach down to `line` without a blank line between.
fn directly_above(comments: Vec<Comment>, line: usize) -> Vec<String> {
    let mut reach = line;
    let mut start = comments.len();
    for (i, comment) in comments.iter().enumerate().rev() {
        if comment.last + 1 < reach {
            break;
        }
        reach = comment.first;
        start = i;
    }
    comments.into_iter().skip(start).flat_map(|c| c.lines).collect()
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    line: usize,
    fresh_line: bool,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        for c in self.rest().chars() {
            if !c.is_whitespace() {
                return;
            }
            if c == '\n' {
                self.line += 1;
                self.fresh_line = true;
            }
            self.at += c.len_utf8();
        }
    }

    fn comment(&mut self) -> Result<Option<Comment>> {
        if self.rest().starts_with("//") {
            return fail(self.line, "`//` comments are not XDR: write /* ... */");
        }
        if !self.rest().starts_with("/*") {
            return Ok(None);
        }
        let first = self.line;
        let Some(len) = self.rest()[2..].find("*/") else {
            return fail(first, "this comment never ends: */ is missing");
        };
        let body = &self.rest()[2..2 + len];
        self.at += len + 4;
        self.line += body.matches('\n').count();
        let lines: Vec<String> =
            body.trim().lines().map(|line| line.trim().trim_start_matches('*').trim().to_owned()).collect();
        Ok(Some(Comment { first, last: self.line, lines }))
    }

    fn token(&mut self) -> Result<Kind> {
        let Some(c) = self.rest().chars().next() else { return Ok(Kind::End) };
        if matches!(c, '%' | '#') && self.fresh_line {
            return fail(self.line, format!("`{c}` lines are for C compilers: this generator takes none"));
        }
        self.fresh_line = false;
        if c.is_ascii_alphabetic() || c == '_' {
            return Ok(Kind::Word(self.take(|c| c.is_ascii_alphanumeric() || c == '_').to_owned()));
        }
        if c.is_ascii_digit() || c == '-' {
            return self.number();
        }
        if "{}[]()<>=,;:*".contains(c) {
            self.at += 1;
            return Ok(Kind::Punct(c));
        }
        fail(self.line, format!("`{c}` has no meaning in XDR"))
    }

    fn take(&mut self, keep: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let len = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn number(&mut self) -> Result<Kind> {
        let negative = self.rest().starts_with('-');
        if negative {
            self.at += 1;
        }
        let digits = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        let parsed = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            i128::from_str_radix(hex, 16)
        } else if digits.len() > 1 && digits.starts_with('0') {
            i128::from_str_radix(digits, 8)
        } else {
            digits.parse()
        };
        match parsed {
            Ok(value) => Ok(Kind::Number(if negative { -value } else { value })),
            Err(_) => {
                fail(self.line, format!("`{digits}` is no number (decimal, 0x hexadecimal or 0 octal)"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        lex(text).unwrap().tokens.into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn numbers_are_decimal_hexadecimal_octal_and_signed() {
        let n = Kind::Number;
        assert_eq!(kinds("12 0x1F 017 -3 0"), vec![n(12), n(31), n(15), n(-3), n(0), Kind::End]);
    }

    #[test]
    fn comments_belong_to_what_they_stand_beside() {
        let lexed = lex("/* file */\n\n/* lost */\n\n/* one */\n/* two */\na /* three */\n b").unwrap();
        assert_eq!(lexed.header, ["file"]);
        assert_eq!(lexed.tokens[0].above, ["one", "two"]);
        assert_eq!(lexed.tokens[0].behind, ["three"]);
        assert!(lexed.tokens[1].above.is_empty());
    }

    #[test]
    fn each_mistake_names_its_line() {
        let message = |text: &str| lex(text).unwrap_err().to_string();
        assert_eq!(message("a\n/* b"), "line 2: this comment never ends: */ is missing");
        assert_eq!(message("a\n\n$"), "line 3: `$` has no meaning in XDR");
        assert_eq!(
            message("a\n%#define x"),
            "line 2: `%` lines are for C compilers: this generator takes none"
        );
        assert_eq!(message("a // b"), "line 1: `//` comments are not XDR: write /* ... */");
        assert_eq!(message("0x1G"), "line 1: `0x1G` is no number (decimal, 0x hexadecimal or 0 octal)");
    }
}
