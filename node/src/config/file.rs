//! A TOML file, flattened to dotted keys that remember their lines. It never judges a key or a value.

use std::path::Path;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    reader::{Given, Origin, join},
    value::Raw,
};

/// Reads `text` of the file `path`; the error names file and line.
pub(super) fn flatten(path: &Path, text: &str) -> Result<Vec<(String, Given)>, String> {
    let file = File { path, text };
    let table = DeTable::parse(text).map_err(|error| {
        let line = file.line(error.span().map_or(0, |span| span.start));
        format!("{}:{line}: {}", path.display(), error.message())
    })?;
    let mut found = Vec::new();
    file.collect("", table.get_ref(), &mut found);
    Ok(found)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn collect(&self, prefix: &str, table: &DeTable<'_>, found: &mut Vec<(String, Given)>) {
        for (name, value) in table {
            let key = join(prefix, name.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) => self.collect(&key, inner, found),
                leaf => {
                    let origin = Origin::File {
                        path: self.path.to_owned(),
                        line: self.line(name.span().start),
                    };
                    let raw = raw(leaf);
                    found.push((key, Given { raw, origin }));
                }
            }
        }
    }

    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::String(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("a number of more than 64 bits"), Raw::Integer),
        DeValue::Boolean(truth) => Raw::Bool(*truth),
        DeValue::Array(items) => Raw::List(items.iter().map(Spanned::get_ref).map(raw).collect()),
        DeValue::Float(_) => Raw::Other("a number with a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date or time"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}
