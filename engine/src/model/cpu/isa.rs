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
    /// AVX-512 with products of bytes.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// All widths of this processor, widest last.
    pub(in crate::model) fn available() -> Vec<Self> {
        let mut found = vec![Self(Width::Plain)];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2 && is_x86_feature_detected!("avx512f");
            if avx2 {
                found.push(Self(Width::Avx2));
            }
            if avx512 && is_x86_feature_detected!("avx512bw") {
                found.push(Self(Width::Avx512));
                if is_x86_feature_detected!("avx512vnni") {
                    found.push(Self(Width::Vnni));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Self(Width::Neon));
        found
    }

    /// The widest.
    pub(in crate::model) fn widest() -> Self {
        Self::available()
            .pop()
            .expect("the plain width is always there")
    }

    /// The instruction set's name, as [`Backend`](super::super::Backend) has it.
    pub(in crate::model) const fn name(self) -> &'static str {
        match self.0 {
            Width::Plain => "plain",
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 | Width::Vnni => "avx512",
            #[cfg(target_arch = "aarch64")]
            Width::Neon => "neon",
        }
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
                Width::Avx512 | Width::Vnni => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                Width::Neon => plain($($arg),*),
            }
        }
    };
}
pub(super) use dispatched;
