//! `plan BUNDLE`: prints what would be done for a bundle's container, step by step and in the words of error messages, and
//! does none of it. For people: no containerd is needed, and no right but to read.
//!
//! The options are the node's, as at Create; a file of `--options FILE` stands for what containerd would send beside them: the
//! file, or the table, of a CRI handler.

use std::path::Path;

use config::{Bundle, ContainerId};
use runtime_core::{Error, Kind, Result, container};

use crate::options;

/// What follows `plan` on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Operands<'a> {
    options: Option<&'a str>,
    bundle: Option<&'a str>,
}

impl<'a> Operands<'a> {
    fn parse(operands: &'a [String]) -> Result<Self> {
        let invalid = |text: String| Error::new(Kind::Invalid, format!("plan: {text}"));
        let mut operands = operands.iter().map(String::as_str);
        let mut parsed = Self::default();
        while let Some(operand) = operands.next() {
            let (name, value) = operand.split_once('=').map_or((operand, None), |(name, value)| (name, Some(value)));
            match name {
                "-options" | "--options" => {
                    let file = value.or_else(|| operands.next()).filter(|file| !file.is_empty());
                    parsed.options = Some(file.ok_or_else(|| invalid(format!("{name} needs a file")))?);
                }
                _ if operand.starts_with('-') => return Err(invalid(format!("there is no flag {name}"))),
                _ if parsed.bundle.is_some() => return Err(invalid(format!("{operand:?} is a second bundle"))),
                _ => parsed.bundle = Some(operand),
            }
        }
        Ok(parsed)
    }
}

/// Prints the plan of the bundle that `operands` name. The directory's name stands for the container's id.
#[inline(never)]
pub(crate) fn plan(operands: &[String]) -> Result<()> {
    let operands = Operands::parse(operands)?;
    let path = operands.bundle.ok_or_else(|| Error::new(Kind::Invalid, "plan: name a bundle directory"))?;
    let absolute = |file| std::path::absolute(file).map_err(|e| Error::io(format!("find options file {file}"), &e));
    let options = operands.options.map(absolute).transpose()?;
    let options = options::resolve_file(options.as_deref())?;
    let bundle = Path::new(path).canonicalize().map_err(|e| Error::io(format!("open bundle {path}"), &e))?;
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    let spec = Bundle::read(&bundle, &ContainerId::new(name)?)?;
    let lines = container::explain(&spec, &options)?;
    crate::print(format!("{}\n", lines.join("\n")).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_before_or_behind_the_bundle() {
        let parse = |line: &str| {
            let operands: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            Operands::parse(&operands).map(|found| (found.options.map(str::to_owned), found.bundle.map(str::to_owned)))
        };
        let both = (Some("f".to_owned()), Some("b".to_owned()));
        for line in ["--options f b", "b --options f", "-options=f b", "b --options=f"] {
            assert_eq!(parse(line), Ok(both.clone()), "{line}");
        }
        assert_eq!(parse(""), Ok((None, None)));
        for (line, says) in [
            ("b --options", "plan: --options needs a file"),
            ("--options= b", "plan: --options needs a file"),
            ("a b", "plan: \"b\" is a second bundle"),
            ("-v b", "plan: there is no flag -v"),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), says, "{line}");
        }
    }
}
