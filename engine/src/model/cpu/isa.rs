//! Which vector instructions a kernel is compiled for, chosen once at run time.
//!
//! A kernel is written once in plain Rust; `dispatched!` compiles it for each width and picks one by an [`Isa`],
//! which exists only for widths that this processor has. It never changes what is computed.

/// A width that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) struct Isa(Width);

/// Private, so that nobody makes an [`Isa`] for a width that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// All widths of this processor, widest last.
    pub(in crate::model) fn available() -> Vec<Self> {
        let mut found = vec![Self(Width::Plain)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                found.push(Self(Width::Avx2));
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx2") {
                found.push(Self(Width::Avx512));
            }
        }
        found
    }

    /// The widest.
    pub(in crate::model) fn widest() -> Self {
        Self::available()
            .pop()
            .expect("the plain width is always there")
    }

    pub(super) const fn width(self) -> Width {
        self.0
    }
}

/// Writes `fn name(isa, arguments)` that runs the body compiled for the width of `isa`.
macro_rules! dispatched {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(unsafe_code)]
        pub(in crate::model) fn $name(isa: $crate::model::cpu::isa::Isa, $($arg: $type),*) {
            use $crate::model::cpu::isa::Width;

            #[inline(always)]
            fn plain($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) {
                plain($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2")]
            fn avx512($($arg: $type),*) {
                plain($($arg),*);
            }
            match isa.width() {
                Width::Plain => plain($($arg),*),
                // SAFETY: an `Isa` of this width exists only where `available` found the feature.
                #[cfg(target_arch = "x86_64")]
                Width::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Width::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(super) use dispatched;
