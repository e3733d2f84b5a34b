//! A table of passes, and the time of any pass between and beyond its entries.
//!
//! Between entries time is linear, beyond them it goes on at the last slope. A pass that both prefills and decodes costs
//! both, less one smallest pass that they share. The table never extrapolates below its smallest entry.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::Pass;

/// Points of a function, ascending, at least one.
type Curve = Vec<(f64, f64)>;

/// Passes of one model on one kind of node. Entries without a time are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// New tokens and milliseconds, ascending.
    prefill: Curve,
    /// Milliseconds for each pair of a new token and a cached one before it.
    pair_ms: f64,
    /// For each batch size, ascending: context and milliseconds, ascending.
    decode: Vec<(f64, Curve)>,
}

/// Times by batch size and context, as the file has them.
#[derive(Deserialize)]
struct Grid {
    batch: Vec<f64>,
    context: Vec<f64>,
    ms: Vec<Vec<Option<f64>>>,
}

impl Table {
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let points: Vec<[Option<f64>; 2]> = field(value, "prefill_ms")?;
        let known = points
            .iter()
            .filter_map(|[tokens, ms]| Some(((*tokens)?, (*ms)?)));
        let prefill = curve("prefill_ms", known)?;
        let cached: Option<Vec<_>> = field(value, "prefill_prefix_ms")?;
        let pair_ms = pair_ms(&prefill, &cached.unwrap_or_default());
        let grid: Grid = field(value, "decode_ms")?;
        Ok(Self {
            prefill,
            pair_ms,
            decode: grid.curves()?,
        })
    }

    pub(super) fn pass_ms(&self, pass: &Pass) -> f64 {
        let (decodes, context) = (f64::from(pass.decodes), pass.decode_context as f64);
        let decode = if pass.decodes > 0 {
            self.decode_ms(decodes, context / decodes)
        } else {
            0.0
        };
        let prefill = self.prefill_ms(&pass.prefills);
        let shared = if decode > 0.0 && prefill > 0.0 {
            self.smallest_ms()
        } else {
            0.0
        };
        decode + prefill - shared
    }

    fn smallest_ms(&self) -> f64 {
        self.prefill[0].1.min(self.decode[0].1[0].1)
    }

    fn decode_ms(&self, batch: f64, context: f64) -> f64 {
        let at = |(size, curve): &(f64, Curve)| (*size, interpolate(curve, context));
        let by_batch: Curve = self.decode.iter().map(at).collect();
        interpolate(&by_batch, batch)
    }

    /// All new tokens as one prompt, or each chunk at the pace of the longest: whichever is less, since the
    /// chunks of a pass share its weights but do not attend to each other.
    fn prefill_ms(&self, chunks: &[(u32, u32)]) -> f64 {
        let longest = f64::from(chunks.iter().map(|(n, _)| *n).max().unwrap_or(0));
        if longest == 0.0 {
            return 0.0;
        }
        let tokens: f64 = chunks.iter().map(|(n, _)| f64::from(*n)).sum();
        let pairs: f64 = chunks
            .iter()
            .map(|(n, prefix)| f64::from(*n) * f64::from(*prefix))
            .sum();
        let apart = interpolate(&self.prefill, longest) / longest * tokens;
        interpolate(&self.prefill, tokens).min(apart) + self.pair_ms * pairs
    }
}

impl Grid {
    fn curves(self) -> Result<Vec<(f64, Curve)>, String> {
        let whole = self.ms.len() == self.batch.len()
            && self.ms.iter().all(|row| row.len() == self.context.len());
        if !whole {
            let (rows, columns) = (self.batch.len(), self.context.len());
            return Err(format!(
                "its decode_ms.ms is not a table of {rows} rows of {columns}"
            ));
        }
        let row = |(batch, times): (&f64, &Vec<Option<f64>>)| {
            let known = self
                .context
                .iter()
                .zip(times)
                .filter_map(|(c, ms)| Some((*c, (*ms)?)));
            Ok((*batch, curve("decode_ms", known)?))
        };
        let rows: Vec<_> = self
            .batch
            .iter()
            .zip(&self.ms)
            .map(row)
            .collect::<Result<_, String>>()?;
        ascending("decode_ms.batch", rows.iter().map(|(batch, _)| *batch))?;
        Ok(rows)
    }
}

/// A key of the file. Further ones describe the measurement and are not needed.
fn field<T: DeserializeOwned>(value: &Value, key: &str) -> Result<T, String> {
    T::deserialize(&value[key]).map_err(|e| format!("its {key} is not as it should be: {e}"))
}

/// Points of a curve, at least one, ascending, none negative.
fn curve(key: &str, points: impl Iterator<Item = (f64, f64)>) -> Result<Curve, String> {
    let points: Curve = points.collect();
    ascending(key, points.iter().map(|(at, _)| *at))?;
    match points.iter().find(|(_, ms)| *ms < 0.0) {
        None => Ok(points),
        Some((at, ms)) => Err(format!("its {key} is negative at {at}: {ms}")),
    }
}

fn ascending(key: &str, values: impl Iterator<Item = f64> + Clone) -> Result<(), String> {
    match values.clone().next() {
        None => return Err(format!("its {key} is empty")),
        Some(first) if first <= 0.0 => return Err(format!("its {key} begins at {first}")),
        Some(_) => {}
    }
    if values.clone().zip(values.skip(1)).any(|(a, b)| a >= b) {
        return Err(format!("its {key} is not in ascending order"));
    }
    Ok(())
}

/// What a cached token costs each new one, by least squares over prompts with a cached part.
fn pair_ms(prefill: &[(f64, f64)], cached: &[[Option<f64>; 3]]) -> f64 {
    let (mut xy, mut xx) = (0.0, 0.0);
    for [tokens, prefix, ms] in cached {
        let (Some(tokens), Some(prefix), Some(ms)) = (tokens, prefix, ms) else {
            continue;
        };
        let new = tokens - prefix;
        let pairs = new * prefix;
        xy += pairs * (ms - interpolate(prefill, new));
        xx += pairs * pairs;
    }
    if xx > 0.0 { (xy / xx).max(0.0) } else { 0.0 }
}

/// The value at `x` of a curve that is not empty.
fn interpolate(curve: &[(f64, f64)], x: f64) -> f64 {
    let after = curve
        .partition_point(|(at, _)| *at < x)
        .min(curve.len() - 1);
    let Some(before) = after.checked_sub(1) else {
        return curve[0].1;
    };
    let ((x0, y0), (x1, y1)) = (curve[before], curve[after]);
    (y0 + (x - x0) * (y1 - y0) / (x1 - x0)).max(0.0)
}
