//! Annotations `org.systemd.property.NAME`: a property of the unit each, its value in GVariant's text form, as runc and crun
//! take them. Pure.
//!
//! Understood are the types that properties have: booleans, numbers, strings, arrays and tuples of these, with or without a type
//! in front (`uint64 5`, `@at [1, 2]`). A number without one is an int32, as GVariant has it.

use zbus::{Array, Signature, Structure, Variant};

use super::properties::Property;
use crate::error::{Error, Kind, Result};

/// What their keys begin with.
pub(crate) const PREFIX: &str = "org.systemd.property.";

/// The properties that `annotations` ask for. Kind `Invalid` with the annotation's name.
pub(super) fn properties(annotations: &[(String, String)]) -> Result<Vec<Property>> {
    let ours = annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)));
    ours.map(|(name, value)| property(name, value)).collect()
}

fn property(name: &str, text: &str) -> Result<Property> {
    let invalid = |why: &str| Error::new(Kind::Invalid, format!("annotation {PREFIX}{name}: {text:?} {why}"));
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(invalid("is for a property that has no such name"));
    }
    let value = parse(text).ok_or_else(|| invalid("is no value in GVariant's text form"))?;
    // `TimeoutStopSec` is what unit files have and `TimeoutStopUSec` what the bus has.
    match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|last: char| last.is_ascii_lowercase())) {
        Some(stem) => {
            let value = microseconds(&value).ok_or_else(|| invalid("is no number of seconds"))?;
            Ok((format!("{stem}USec"), value.into()))
        }
        None => Ok((name.to_owned(), value)),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, or at its end")]
fn microseconds(seconds: &Variant<'_>) -> Option<u64> {
    let whole = match seconds {
        Variant::U8(value) => u64::from(*value),
        Variant::U16(value) => u64::from(*value),
        Variant::U32(value) => u64::from(*value),
        Variant::U64(value) => *value,
        Variant::I16(value) => u64::try_from(*value).ok()?,
        Variant::I32(value) => u64::try_from(*value).ok()?,
        Variant::I64(value) => u64::try_from(*value).ok()?,
        Variant::F64(value) if *value >= 0.0 => return Some((value * 1e6) as u64),
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

/// The value that the whole of `text` stands for.
fn parse(text: &str) -> Option<Variant<'static>> {
    let mut parser = Parser { rest: text };
    let value = parser.value(0)?;
    parser.skip_space();
    parser.rest.is_empty().then_some(value)
}

/// How deep arrays and tuples may go: D-Bus itself allows 32 of each.
const DEEPEST: usize = 8;

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, start: &str) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(start);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A value, with its type in front or not.
    fn value(&mut self, depth: usize) -> Option<Variant<'static>> {
        self.skip_space();
        if let Some(rest) = self.rest.strip_prefix('@') {
            let (signature, rest) = rest.split_once(char::is_whitespace)?;
            self.rest = rest;
            let signature = Signature::try_from(signature).ok()?;
            return self.typed(&signature, depth);
        }
        let word: &str = self.rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if let Some(signature) = keyword(word) {
            self.rest = &self.rest[word.len()..];
            return self.typed(&signature, depth);
        }
        match self.rest.bytes().next()? {
            b'[' => self.array(None, depth),
            b'(' => self.tuple(None, depth),
            b'\'' | b'"' => self.typed(&Signature::Str, depth),
            b't' | b'f' => self.typed(&Signature::Bool, depth),
            _ if self.number_text().contains(['.', 'e']) && !self.number_text().starts_with("0x") => {
                self.typed(&Signature::F64, depth)
            }
            _ => self.typed(&Signature::I32, depth),
        }
    }

    /// A value of the type `signature`.
    fn typed(&mut self, signature: &Signature, depth: usize) -> Option<Variant<'static>> {
        self.skip_space();
        match signature {
            Signature::Bool if self.take("true") => Some(true.into()),
            Signature::Bool if self.take("false") => Some(false.into()),
            Signature::Str => self.string().map(Variant::from),
            Signature::F64 => self.number().and_then(|text| text.parse::<f64>().ok()).map(Variant::from),
            Signature::U8 => self.integer::<u8>().map(Variant::from),
            Signature::I16 => self.integer::<i16>().map(Variant::from),
            Signature::U16 => self.integer::<u16>().map(Variant::from),
            Signature::I32 => self.integer::<i32>().map(Variant::from),
            Signature::U32 => self.integer::<u32>().map(Variant::from),
            Signature::I64 => self.integer::<i64>().map(Variant::from),
            Signature::U64 => self.integer::<u64>().map(Variant::from),
            Signature::Array(element) => self.array(Some(element.signature()), depth),
            Signature::Structure(fields) => self.tuple(Some(&fields.iter().cloned().collect::<Vec<_>>()), depth),
            _ => None,
        }
    }

    fn array(&mut self, element: Option<&Signature>, depth: usize) -> Option<Variant<'static>> {
        let mut signature = element.cloned();
        let elements = self.elements('[', ']', depth, |parser, _| {
            let value = match &signature {
                Some(signature) => parser.typed_or_said(signature, depth + 1)?,
                None => parser.value(depth + 1)?,
            };
            signature.get_or_insert_with(|| value.value_signature().clone());
            Some(value)
        })?;
        let mut array = Array::new(&signature?);
        elements.into_iter().try_for_each(|element| array.append(element)).ok()?;
        Some(array.into())
    }

    fn tuple(&mut self, fields: Option<&[Signature]>, depth: usize) -> Option<Variant<'static>> {
        let values = self.elements('(', ')', depth, |parser, place| match fields {
            Some(fields) => parser.typed_or_said(fields.get(place)?, depth + 1),
            None => parser.value(depth + 1),
        })?;
        if fields.is_some_and(|fields| fields.len() != values.len()) {
            return None;
        }
        let mut builder = Structure::builder();
        for value in values {
            builder.push_value(value);
        }
        builder.build().ok().map(Variant::Structure)
    }

    /// An element may say again what it is.
    fn typed_or_said(&mut self, signature: &Signature, depth: usize) -> Option<Variant<'static>> {
        let before = self.rest;
        if let Some(value) = self.typed(signature, depth) {
            return Some(value);
        }
        self.rest = before;
        self.value(depth).filter(|value| value.value_signature() == signature)
    }

    /// What stands between `open` and `close`, separated by commas; the last may be followed by one.
    fn elements(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        mut one: impl FnMut(&mut Self, usize) -> Option<Variant<'static>>,
    ) -> Option<Vec<Variant<'static>>> {
        let (open, close) = (open.to_string(), close.to_string());
        if depth > DEEPEST || !self.take(&open) {
            return None;
        }
        let mut elements = Vec::new();
        while !self.take(&close) {
            elements.push(one(self, elements.len())?);
            if !self.take(",") {
                return self.take(&close).then_some(elements);
            }
        }
        Some(elements)
    }

    fn number_text(&self) -> &str {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        &self.rest[..end.unwrap_or(self.rest.len())]
    }

    fn number(&mut self) -> Option<String> {
        let text = self.number_text().to_owned();
        self.rest = &self.rest[text.len()..];
        (!text.is_empty()).then_some(text)
    }

    /// Decimal, `0x` or, with a leading zero, octal.
    fn integer<T: TryFrom<i128>>(&mut self) -> Option<T> {
        let text = self.number()?;
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(&text)),
        };
        let (radix, digits) = match digits.strip_prefix("0x") {
            Some(digits) => (16, digits),
            None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
            None => (10, digits),
        };
        let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
        T::try_from(if negative { -value } else { value }).ok()
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let mut chars = self.rest[1..].chars();
        let mut text = String::new();
        loop {
            match chars.next()? {
                '\\' => text.push(match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'v' => '\x0b',
                    'u' => code_point(&mut chars, 4)?,
                    'U' => code_point(&mut chars, 8)?,
                    other => other,
                }),
                end if end == quote => break,
                // D-Bus strings have none.
                '\0' => return None,
                other => text.push(other),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}

fn code_point(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let text: String = chars.take(digits).collect();
    let point = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits)?;
    char::from_u32(point).filter(|c| *c != '\0')
}

/// GVariant's names for types.
fn keyword(word: &str) -> Option<Signature> {
    Some(match word {
        "boolean" => Signature::Bool,
        "byte" => Signature::U8,
        "int16" => Signature::I16,
        "uint16" => Signature::U16,
        "int32" => Signature::I32,
        "uint32" => Signature::U32,
        "int64" => Signature::I64,
        "uint64" => Signature::U64,
        "double" => Signature::F64,
        "string" => Signature::Str,
        _ => return None,
    })
}
