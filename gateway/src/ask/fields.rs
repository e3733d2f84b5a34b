//! Reads the fields of a JSON object one by one, each with its type and range; what is left over is known by name.
//!
//! `null` is the same as absent. It never guesses: a string is not a number, and a number is not cut to fit.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{ApiError, quote};

/// Longest list of ignored names that is told back, in names: more is noise.
const IGNORED_MAX: usize = 32;

/// The fields that were not read yet.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// All fields of an object.
    #[must_use]
    pub fn new(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// Takes a field, unless it is absent or null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Whether a field is there and not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// A text.
    ///
    /// # Errors
    /// It is something else, or longer than `bytes_max`.
    pub fn text(&mut self, name: &str, bytes_max: usize) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= bytes_max => Ok(Some(text)),
            Some(Value::String(_)) => {
                let message = format!("{name} must have at most {bytes_max} bytes");
                Err(ApiError::field(name, message))
            }
            Some(other) => Err(wrong_type(name, "a string", &other)),
        }
    }

    /// True or false; false when absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        self.flag_or(name, false)
    }

    /// True or false, or `default` when absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag_or(&mut self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong_type(name, "true or false", &other)),
        }
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// It is something else or outside.
    pub fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        self.take(name)
            .map(|value| integer_of(name, &value, range))
            .transpose()
    }

    /// A count within `range`.
    ///
    /// # Errors
    /// It is something else or outside.
    pub fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ApiError> {
        let wide = i64::from(*range.start())..=i64::from(*range.end());
        let number = self.integer(name, wide)?;
        Ok(number.map(|n| u32::try_from(n).expect("the range is within 32 bits")))
    }

    /// A number within `range`, or `default` when absent.
    ///
    /// # Errors
    /// It is something else or outside.
    pub fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
        default: f32,
    ) -> Result<f32, ApiError> {
        match self.take(name) {
            None => Ok(default),
            Some(value) => number_of(name, &value, range),
        }
    }

    /// A list of token ids.
    ///
    /// # Errors
    /// It is something else, or longer than `len_max`.
    pub fn ids(&mut self, name: &str, len_max: usize) -> Result<Option<Vec<u32>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => ids_of(name, &list, len_max).map(Some),
            Some(other) => Err(wrong_type(name, "a list of token ids", &other)),
        }
    }

    /// Refuses each named field that is present, unless `is_idle` says that its value asks for nothing.
    ///
    /// # Errors
    /// One is present.
    pub fn refuse(
        &mut self,
        names: &[&str],
        is_idle: fn(&str, &Value) -> bool,
    ) -> Result<(), ApiError> {
        for name in names {
            match self.take(name) {
                Some(value) if !is_idle(name, &value) => return Err(ApiError::unsupported(name)),
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// Names of the fields that nobody read, as one header can carry them.
    #[must_use]
    pub fn ignored(self) -> Vec<String> {
        let plain = |name: &String| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        let names = self
            .0
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, _)| name);
        names
            .filter(plain)
            .filter(|name| name.len() <= 64)
            .take(IGNORED_MAX)
            .collect()
    }
}

/// A whole number within a range.
///
/// # Errors
/// It is something else or outside.
pub(super) fn integer_of(
    name: &str,
    value: &Value,
    range: RangeInclusive<i64>,
) -> Result<i64, ApiError> {
    let whole = value.as_i64().or_else(|| as_whole(value.as_f64()?));
    match whole {
        Some(number) if range.contains(&number) => Ok(number),
        _ if value.is_number() => {
            let (from, to) = (range.start(), range.end());
            let message = format!("{name} must be a whole number from {from} to {to}");
            Err(ApiError::field(name, message))
        }
        _ => Err(wrong_type(name, "a whole number", value)),
    }
}

/// `1.0` is a whole number too: some clients write every number so.
fn as_whole(number: f64) -> Option<i64> {
    // beyond 2^53 a float no longer names one whole number
    let exact = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    exact.then_some(number as i64)
}

/// A number within a range.
///
/// # Errors
/// It is something else or outside.
pub(super) fn number_of(
    name: &str,
    value: &Value,
    range: RangeInclusive<f64>,
) -> Result<f32, ApiError> {
    match value.as_f64() {
        Some(number) if range.contains(&number) => Ok(number as f32),
        Some(_) => {
            let (from, to) = (range.start(), range.end());
            Err(ApiError::field(
                name,
                format!("{name} must be a number from {from} to {to}"),
            ))
        }
        None => Err(wrong_type(name, "a number", value)),
    }
}

/// Token ids.
///
/// # Errors
/// One is no id, or there are more than `len_max`.
pub(super) fn ids_of(name: &str, list: &[Value], len_max: usize) -> Result<Vec<u32>, ApiError> {
    if list.len() > len_max {
        let message = format!("{name} must have at most {len_max} ids");
        return Err(ApiError::field(name, message));
    }
    list.iter()
        .map(|value| value.as_u64().and_then(|id| u32::try_from(id).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            ApiError::field(
                name,
                format!("{name} must hold token ids, whole numbers from 0"),
            )
        })
}

/// A field of the wrong type.
#[must_use]
pub(super) fn wrong_type(name: &str, wanted: &str, value: &Value) -> ApiError {
    let given = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::String(text) => format!("the string {}", quote(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    ApiError::field(name, format!("{name} must be {wanted}, not {given}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        match value {
            Value::Object(object) => Fields::new(object),
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn null_is_absent() {
        let mut fields = fields(json!({"a": null, "b": null}));
        assert_eq!(fields.text("a", 1).expect("absent"), None);
        assert!(fields.ignored().is_empty());
    }

    #[test]
    fn whole_numbers_may_be_written_as_floats() {
        let mut fields = fields(json!({"a": 3.0, "b": 3.5, "c": "3", "d": 9}));
        assert_eq!(fields.count("a", 1..=8), Ok(Some(3)));
        for name in ["b", "c", "d"] {
            let error = fields.count(name, 1..=8).expect_err(name);
            assert_eq!(error.param.as_deref(), Some(name));
        }
    }

    #[test]
    fn ids_are_whole_and_from_zero() {
        let mut fields = fields(json!({"a": [0, 7], "b": [-1], "c": [1.5], "d": [1, 2, 3]}));
        assert_eq!(fields.ids("a", 2), Ok(Some(vec![0, 7])));
        for name in ["b", "c", "d"] {
            assert!(fields.ids(name, 2).is_err(), "{name}");
        }
    }

    #[test]
    fn ignored_names_fit_a_header() {
        let mut fields = fields(json!({"user": "x", "bad\r\nname": 1, "": 2, "store": true}));
        assert_eq!(fields.text("user", 9), Ok(Some("x".into())));
        assert_eq!(fields.ignored(), ["store"]);
    }
}
