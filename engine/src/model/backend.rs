//! Which kernels run a model: the plain reference, or fast ones for an instruction set. Chosen at run time; and into what
//! number format they bring the weights.
//!
//! All that a machine can run are there at once, so that one machine tests them all. A backend never changes what a
//! model is, only the order in which sums are rounded.

use std::{fmt, str::FromStr};

use super::cpu::{Isa, multiply_add_rate};

/// The kernels that run a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend(Kernels);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernels {
    /// Weights as they lie in the file, sums in a fixed tree: slow and plain.
    Reference,
    /// Packed weights.
    Fast(Isa),
}

/// Number format of weights in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightFormat {
    /// As in the file.
    #[default]
    Kept,
    /// Bytes with one scale for each output; activations likewise, with one for each row.
    Int8,
}

impl WeightFormat {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "none",
            Self::Int8 => "int8",
        }
    }
}

impl FromStr for WeightFormat {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Self, BackendError> {
        [Self::Kept, Self::Int8]
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| BackendError::Quantisation(name.into()))
    }
}

/// Names of all backends, on whatever machine.
pub const BACKENDS: [&str; 5] = ["reference", "plain", "avx2", "avx512", "neon"];

/// Why a backend cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No such thing.
    #[error("there is no backend {0:?}; there are {all}", all = BACKENDS.join(", "))]
    Unknown(String),
    /// No such format.
    #[error("weights cannot be quantised to {0:?}; there are none and int8")]
    Quantisation(String),
    /// Not on this processor.
    #[error("this processor cannot run backend {name}; it runs {can}")]
    Unavailable {
        /// What was asked for.
        name: String,
        /// What there is.
        can: String,
    },
}

impl Backend {
    /// The plainest kernels.
    pub const REFERENCE: Self = Self(Kernels::Reference);

    /// All that this processor can run, the fastest last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let fast = Isa::available().into_iter().map(Kernels::Fast);
        std::iter::once(Kernels::Reference)
            .chain(fast)
            .map(Self)
            .collect()
    }

    /// The fastest of this processor.
    #[must_use]
    pub fn fastest() -> Self {
        Self(Kernels::Fast(Isa::widest()))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kernels::Reference => BACKENDS[0],
            Kernels::Fast(isa) => isa.name(),
        }
    }

    /// Floating-point operations that one thread does in a second with this backend's instructions, at most: measured now, within
    /// some tens of milliseconds.
    #[must_use]
    pub fn peak(self) -> f64 {
        multiply_add_rate(self.isa().0)
    }

    /// The instruction set, and whether it runs packed weights.
    pub(super) fn isa(self) -> (Isa, bool) {
        match self.0 {
            Kernels::Reference => (Isa::widest(), false),
            Kernels::Fast(isa) => (isa, true),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = BackendError;

    /// The best of that name on this processor.
    fn from_str(name: &str) -> Result<Self, BackendError> {
        let available = Self::available();
        let found = available
            .iter()
            .rev()
            .find(|backend| backend.name() == name);
        found.copied().ok_or_else(|| {
            if !BACKENDS.contains(&name) {
                return BackendError::Unknown(name.into());
            }
            let mut can: Vec<_> = available.iter().map(|b| b.name()).collect();
            can.dedup();
            BackendError::Unavailable {
                name: name.into(),
                can: can.join(", "),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_backend_is_found_by_its_name() {
        for backend in Backend::available() {
            let found: Backend = backend.name().parse().expect("available");
            assert_eq!(found.name(), backend.name());
        }
        assert_eq!("reference".parse(), Ok(Backend::REFERENCE));
        let fastest = Backend::fastest();
        assert_eq!(fastest.name().parse(), Ok(fastest));
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_what_cannot_be() {
        let unknown = "gpu".parse::<Backend>().expect_err("no such backend");
        assert!(unknown.to_string().contains("avx512"), "{unknown}");
        let missing = BACKENDS
            .iter()
            .find_map(|name| name.parse::<Backend>().err());
        let missing = missing.expect("no processor has both AVX and NEON");
        assert!(
            missing.to_string().contains("it runs reference"),
            "{missing}"
        );
    }
}
