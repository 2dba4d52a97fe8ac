//! The parts of the README that a program writes: between two marks, and the same wherever it is read or written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A part, by what its marks say.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    /// The command that writes it.
    pub written_by: &'static str,
}

impl Part {
    /// Its text as it stands.
    pub fn read(self) -> Result<String> {
        Ok(self.split()?.1)
    }

    /// Puts `text`, whole lines, in its place.
    pub fn write(self, text: &str) -> Result<()> {
        let (before, _, after) = self.split()?;
        let (begin, end) = self.marks();
        std::fs::write(file(), format!("{before}{begin}{text}{end}{after}")).context("write README.md")
    }

    fn split(self) -> Result<(String, String, String)> {
        let text = std::fs::read_to_string(file()).context("read README.md")?;
        let (begin, end) = self.marks();
        let found = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
        let (before, (part, after)) = found.with_context(|| format!("README.md has no {begin}"))?;
        Ok((before.to_owned(), part.to_owned(), after.to_owned()))
    }

    fn marks(self) -> (String, String) {
        let Self { name, written_by } = self;
        (format!("<!-- {name}: written by `{written_by}` -->\n"), format!("<!-- end of {name} -->"))
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}
