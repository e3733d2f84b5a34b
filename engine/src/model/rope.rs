//! Rotary position embedding: the angle of each pair of dimensions, and what stretches it for longer contexts.
//!
//! Frequencies are computed once in f64 and rounded to f32; angles are f32 products, as the references have them.
//! It reads both forms of `config.json` (`rope_theta` + `rope_scaling`, or `rope_parameters`) and never
//! keeps a table that grows with the context.

use std::{f64::consts::TAU, fmt};

use crate::checkpoint::{CheckpointError, Config};

/// Base of the angles where the file has none.
const THETA_DEFAULT: f64 = 10_000.0;

/// How frequencies are stretched.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All alike.
    Linear {
        /// Divides every frequency.
        factor: f64,
    },
    /// Long waves by the factor, short ones not, in between smoothly.
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Waves longer than `original / low` are stretched fully.
        low: f64,
        /// Waves shorter than `original / high` are left alone.
        high: f64,
        /// Context before stretching.
        original: f64,
    },
    /// The same along a ramp over the dimensions, and all rotations scaled by a magnitude.
    Yarn {
        /// Divides the low frequencies.
        factor: f64,
        /// Rotations within `original` above which a dimension is left alone.
        fast: f64,
        /// Rotations below which it is stretched fully.
        slow: f64,
        /// Context before stretching.
        original: f64,
        /// Whether the ends of the ramp are rounded outwards.
        truncate: bool,
        /// Multiplies rotated queries and keys.
        magnitude: f64,
    },
}

/// One kind of rotation.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the angles.
    pub theta: f64,
    /// Width of a head, all of which is turned; dimension `i` pairs with `i + dims / 2`.
    pub dims: usize,
    /// Stretching.
    pub scaling: Scaling,
}

impl Rope {
    /// Reads the rotation for heads of `dims`.
    pub(super) fn from_config(
        config: &Config,
        dims: usize,
        context: usize,
    ) -> Result<Self, CheckpointError> {
        let new = config.section("rope_parameters")?;
        let old = config.section("rope_scaling")?;
        let section = new.or(old);
        for place in std::iter::once(config).chain(&section) {
            if place
                .number_opt("partial_rotary_factor")?
                .is_some_and(|f| f != 1.0)
            {
                return Err(place.wrong("partial_rotary_factor", "1"));
            }
        }
        let nested = section
            .as_ref()
            .map_or(Ok(None), |s| s.number_opt("rope_theta"))?;
        let theta = match nested {
            Some(theta) => theta,
            None => config.number_opt("rope_theta")?.unwrap_or(THETA_DEFAULT),
        };
        if theta <= 1.0 {
            return Err(config.wrong("rope_theta", format!("more than 1 (it comes to {theta})")));
        }
        let scaling = match section {
            Some(section) => Scaling::from_config(&section, context)?,
            None => Scaling::None,
        };
        Ok(Self {
            theta,
            dims,
            scaling,
        })
    }

    /// Radians that each pair turns from one position to the next.
    #[must_use]
    pub fn frequencies(&self) -> Vec<f32> {
        let half = self.dims / 2;
        (0..half)
            .map(|i| {
                let plain = self.theta.powf(-((2 * i) as f64) / self.dims as f64);
                self.stretch(i, plain) as f32
            })
            .collect()
    }

    /// What multiplies rotated queries and keys.
    #[must_use]
    pub fn magnitude(&self) -> f32 {
        match self.scaling {
            Scaling::Yarn { magnitude, .. } => magnitude as f32,
            Scaling::None | Scaling::Linear { .. } | Scaling::Llama3 { .. } => 1.0,
        }
    }

    fn stretch(&self, pair: usize, plain: f64) -> f64 {
        match self.scaling {
            Scaling::None => plain,
            Scaling::Linear { factor } => plain / factor,
            Scaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let turns = original * plain / TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                plain * (kept + (1.0 - kept) / factor)
            }
            Scaling::Yarn {
                factor,
                fast,
                slow,
                original,
                truncate,
                ..
            } => {
                let (mut from, mut to) = (
                    self.pair_with_turns(fast, original),
                    self.pair_with_turns(slow, original),
                );
                if truncate {
                    (from, to) = (from.floor(), to.ceil());
                }
                let (from, to) = (from.max(0.0), to.min(self.dims as f64 - 1.0));
                let width = if to == from { 0.001 } else { to - from };
                let stretched = ((pair as f64 - from) / width).clamp(0.0, 1.0);
                plain * (1.0 - stretched + stretched / factor)
            }
        }
    }

    /// The (fractional) pair of dimensions that turns `turns` times within `original` positions.
    fn pair_with_turns(&self, turns: f64, original: f64) -> f64 {
        self.dims as f64 * (original / (turns * TAU)).ln() / (2.0 * self.theta.ln())
    }
}

impl Scaling {
    fn from_config(section: &Config, context: usize) -> Result<Self, CheckpointError> {
        let key = if section.has("rope_type") {
            "rope_type"
        } else {
            "type"
        };
        match section.text_or(key, "default")?.as_str() {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear {
                factor: section.number("factor")?,
            }),
            "llama3" => Self::llama3(section),
            "yarn" => Self::yarn(section, context),
            _ => Err(section.wrong(key, "default, linear, llama3 or yarn")),
        }
    }

    fn llama3(section: &Config) -> Result<Self, CheckpointError> {
        let (low, high) = (
            section.number("low_freq_factor")?,
            section.number("high_freq_factor")?,
        );
        if low >= high {
            return Err(section.wrong(
                "low_freq_factor",
                format!("less than high_freq_factor ({high})"),
            ));
        }
        Ok(Self::Llama3 {
            factor: section.number("factor")?,
            low,
            high,
            original: section.number("original_max_position_embeddings")?,
        })
    }

    fn yarn(section: &Config, context: usize) -> Result<Self, CheckpointError> {
        let factor = section.number("factor")?;
        let magnitude = match section.number_opt("attention_factor")? {
            Some(magnitude) => magnitude,
            None => yarn_magnitude(section, factor)?,
        };
        Ok(Self::Yarn {
            factor,
            fast: section.number_opt("beta_fast")?.unwrap_or(32.0),
            slow: section.number_opt("beta_slow")?.unwrap_or(1.0),
            original: section
                .number_opt("original_max_position_embeddings")?
                .unwrap_or(context as f64),
            truncate: section.flag_or("truncate", true)?,
            magnitude,
        })
    }
}

fn yarn_magnitude(section: &Config, factor: f64) -> Result<f64, CheckpointError> {
    let grown = |by: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * by * factor.ln() + 1.0
        }
    };
    let all = section.number_opt("mscale_all_dim")?;
    Ok(match (section.number_opt("mscale")?, all) {
        (Some(one), Some(all)) => grown(one) / grown(all),
        _ => grown(1.0),
    })
}

impl fmt::Display for Rope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "theta {}", self.theta)?;
        match self.scaling {
            Scaling::None => Ok(()),
            Scaling::Linear { factor } => write!(f, ", linear by {factor}"),
            Scaling::Llama3 {
                factor, original, ..
            } => write!(f, ", llama3 by {factor} from {original}"),
            Scaling::Yarn {
                factor, original, ..
            } => write!(f, ", yarn by {factor} from {original}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rope(json: &str) -> Rope {
        let config = Config::parse(Path::new("config.json"), json).expect("JSON");
        Rope::from_config(&config, 16, 1024).expect("a good rotation")
    }

    /// The expected numbers come from an independent transcription of the published formulas.
    fn check(json: &str, expected: [f64; 8]) {
        for (found, expected) in rope(json).frequencies().into_iter().zip(expected) {
            assert!(
                (f64::from(found) / expected - 1.0).abs() < 1e-6,
                "{found} {expected}"
            );
        }
    }

    #[test]
    fn both_forms_of_the_file_read_alike() {
        let old = r#"{"rope_theta":5e5,"rope_scaling":{"type":"linear","factor":2.0}}"#;
        let new = r#"{"rope_parameters":{"rope_type":"linear","rope_theta":5e5,"factor":2.0}}"#;
        assert_eq!(rope(old), rope(new));
        assert_eq!(rope(old).theta, 5e5);
        assert_eq!(rope("{}").theta, THETA_DEFAULT);
        assert_eq!(rope(old).frequencies()[0], 0.5);
    }

    #[test]
    fn llama3_stretches_long_waves_only() {
        check(
            r#"{"rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,
                "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64}}"#,
            [
                1.0,
                0.0794030091792082,
                0.004700753866357992,
                0.0009115830921521386,
                0.00017677669529663688,
                3.428102195952591e-05,
                6.647869871181236e-06,
                1.2891731721515574e-06,
            ],
        );
    }

    #[test]
    fn yarn_ramps_over_the_dimensions_and_scales() {
        let json = r#"{"rope_theta":10000.0,"rope_scaling":{"type":"yarn","factor":4.0,
            "original_max_position_embeddings":256}}"#;
        check(
            json,
            [
                1.0,
                0.2569350598886808,
                0.0625,
                0.01383496476323666,
                0.0025,
                0.0007905694150420947,
                0.00025,
                7.905694150420948e-05,
            ],
        );
        assert!((rope(json).magnitude() - 1.138_629_4).abs() < 1e-6);
    }
}
