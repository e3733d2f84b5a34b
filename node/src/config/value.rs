//! How one value is read from text or TOML, and shown again.
//!
//! Nothing here knows which setting it reads or where the value came from. Text (a flag, a variable) is
//! read leniently; TOML must have the right type.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use bus_schemas::{NodeId, Roles};
use engine::model::{Backend, WeightFormat};

/// A value before its type is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// From a flag, a variable or the table of defaults: any type, as text.
    Text(String),
    /// A TOML string.
    String(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Bool(bool),
    /// A TOML array.
    List(Vec<Raw>),
    /// A TOML value of a type that no setting has.
    Other(&'static str),
}

impl Raw {
    /// The value as someone wrote it, for an error.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::String(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::shown).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Other(what) => (*what).to_owned(),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::String(text) => Some(text),
            Self::Integer(_) | Self::Bool(_) | Self::List(_) | Self::Other(_) => None,
        }
    }
}

/// A type that a setting can have.
pub(super) trait Value: Sized {
    /// Its values may hold a password: errors do not repeat them.
    const SECRET: bool = false;
    /// It is a list: its flag may be repeated.
    const LIST: bool = false;
    /// It is a switch: its flag needs no value.
    const SWITCH: bool = false;
    /// What is allowed, in words.
    fn expects() -> &'static str;
    /// Reads it; none if it is something else.
    fn read(raw: &Raw) -> Option<Self>;
    /// As TOML; none if it is not set.
    fn show(&self) -> Option<String>;
}

impl Value for bool {
    const SWITCH: bool = true;
    fn expects() -> &'static str {
        "true or false"
    }
    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Bool(truth) => Some(*truth),
            Raw::Text(text) => match text.as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            Raw::String(_) | Raw::Integer(_) | Raw::List(_) | Raw::Other(_) => None,
        }
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! whole_numbers {
    ($($type:ty)*) => {$(
        impl Value for $type {
            fn expects() -> &'static str {
                "a whole number"
            }
            fn read(raw: &Raw) -> Option<Self> {
                match raw {
                    Raw::Integer(number) => Self::try_from(*number).ok(),
                    Raw::Text(text) => text.parse().ok(),
                    Raw::String(_) | Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => None,
                }
            }
            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
whole_numbers! { u32 u64 }

impl Value for String {
    fn expects() -> &'static str {
        "text"
    }
    fn read(raw: &Raw) -> Option<Self> {
        raw.text().map(str::to_owned)
    }
    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Value for Backend {
    fn expects() -> &'static str {
        "a backend that this processor has: reference, plain, avx2, avx512 or neon"
    }
    fn read(raw: &Raw) -> Option<Self> {
        String::read(raw)?.parse().ok()
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&self.name()))
    }
}

impl Value for WeightFormat {
    fn expects() -> &'static str {
        "none or int8"
    }
    fn read(raw: &Raw) -> Option<Self> {
        String::read(raw)?.parse().ok()
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&self.name()))
    }
}

impl Value for PathBuf {
    fn expects() -> &'static str {
        "a path"
    }
    fn read(raw: &Raw) -> Option<Self> {
        raw.text()
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }
    fn show(&self) -> Option<String> {
        Some(quoted_path(self))
    }
}

impl Value for SocketAddr {
    fn expects() -> &'static str {
        "an address and port such as 127.0.0.1:8080 or [::1]:8080"
    }
    fn read(raw: &Raw) -> Option<Self> {
        raw.text()?.parse().ok()
    }
    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Value for IpAddr {
    fn expects() -> &'static str {
        "an address such as 10.0.0.1 or ::1"
    }
    fn read(raw: &Raw) -> Option<Self> {
        raw.text()?.parse().ok()
    }
    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Value for NodeId {
    fn expects() -> &'static str {
        "a name of 1 to 32 characters from a-z, 0-9 and '-'"
    }
    fn read(raw: &Raw) -> Option<Self> {
        raw.text()?.parse().ok()
    }
    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Value for Roles {
    const LIST: bool = true;
    fn expects() -> &'static str {
        "a list of gateway, router, prefill, decode, worker"
    }
    fn read(raw: &Raw) -> Option<Self> {
        let names = Vec::<String>::read(raw)?;
        names.iter().try_fold(Self::default(), |all, name| {
            name.parse::<Self>().ok().map(|one| Self(all.0 | one.0))
        })
    }
    fn show(&self) -> Option<String> {
        let text = self.to_string();
        let names: Vec<_> = text.split('+').filter(|name| !name.is_empty()).collect();
        (!names.is_empty()).then(|| format!("{names:?}"))
    }
}

/// Empty text, and absence, mean that it is not set.
impl<T: Value> Value for Option<T> {
    const SECRET: bool = T::SECRET;
    fn expects() -> &'static str {
        T::expects()
    }
    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) | Raw::String(text) if text.is_empty() => Some(None),
            set => T::read(set).map(Some),
        }
    }
    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

/// As text, items are separated by commas; a TOML string is a list of one.
impl<T: Value> Value for Vec<T> {
    const SECRET: bool = T::SECRET;
    const LIST: bool = true;
    fn expects() -> &'static str {
        T::expects()
    }
    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| T::read(&Raw::Text(item.to_owned())))
                .collect(),
            Raw::List(items) => items.iter().map(T::read).collect(),
            Raw::String(_) | Raw::Integer(_) | Raw::Bool(_) | Raw::Other(_) => {
                T::read(raw).map(|item| vec![item])
            }
        }
    }
    fn show(&self) -> Option<String> {
        let items: Vec<_> = self.iter().filter_map(T::show).collect();
        (!items.is_empty()).then(|| format!("[{}]", items.join(", ")))
    }
}

/// Text as a TOML string.
pub(super) fn quoted(text: &impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display())
}

/// Which values of a type a setting allows.
pub(super) struct Rule<T> {
    /// In words, after "allowed is".
    pub(super) allowed: String,
    /// Whether a value is one of them.
    pub(super) holds: Box<dyn Fn(&T) -> bool>,
}

/// Every value of the type.
pub(super) fn any<T: Value>() -> Rule<T> {
    Rule {
        allowed: T::expects().to_owned(),
        holds: Box::new(|_| true),
    }
}

/// From the first to the last.
pub(super) fn within<T: Value + PartialOrd + Display + Copy + 'static>(
    range: RangeInclusive<T>,
) -> Rule<T> {
    Rule {
        allowed: format!("{} from {} to {}", T::expects(), range.start(), range.end()),
        holds: Box::new(move |value| range.contains(value)),
    }
}

/// A power of two, from the first to the last.
pub(super) fn power_of_two(range: RangeInclusive<u32>) -> Rule<u32> {
    Rule {
        allowed: format!("a power of two from {} to {}", range.start(), range.end()),
        holds: Box::new(move |value| value.is_power_of_two() && range.contains(value)),
    }
}

/// A list with something in it.
pub(super) fn some<T: Value>() -> Rule<Vec<T>> {
    Rule {
        allowed: format!("at least one of: {}", T::expects()),
        holds: Box::new(|list| !list.is_empty()),
    }
}
