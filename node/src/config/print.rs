//! Shows a configuration as TOML, with the origin of each value where asked. It never shows a secret:
//! settings hold none, and passwords inside URLs are masked by their type.

use std::fmt::Write;

use super::sources::{Loaded, variable};

impl Loaded {
    /// One line a setting, in the table's order; `origin` adds where each came from.
    #[must_use]
    pub fn to_toml(&self, origin: bool) -> String {
        let mut text = String::new();
        for setting in &self.settings {
            let line = match &setting.value {
                Some(value) => format!("{} = {value}", setting.key),
                None => format!("# {} is not set", setting.key),
            };
            let written = if origin {
                let variable = variable(&setting.key);
                writeln!(text, "{line:<48} # {} ({variable})", setting.origin)
            } else {
                writeln!(text, "{line}")
            };
            written.expect("writing to a String cannot fail");
        }
        text
    }
}
