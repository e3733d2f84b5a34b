//! The micro-kernels: a few rows of activations times a few panels of sixteen columns, summed in registers.
//!
//! Every sum runs over k in ascending order, one product after the other, from what the output holds. So neither the shape of
//! a micro-kernel nor how k is cut into calls changes a bit. They never look at more rows, panels or steps than told.
//! Products of matrices, scores of queries and sums of values are all made of them.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::{array::from_fn, ops::Range};

use super::vector::{LANES, Vector, vectorised};

/// How far ahead of a stream of weights memory is asked for, in bytes.
const AHEAD: usize = 4096;

/// What a panel holds at one step of k.
trait Grain<V: Vector> {
    /// Elements of memory.
    type Weight: Copy;
    /// Activations: one, or as many as one step takes.
    type X: Copy;
    /// Running sums.
    type Sum: Copy;
    /// Memory of sums.
    type Out: Copy;

    /// Sums from memory.
    unsafe fn load(from: *const Self::Out) -> Self::Sum;
    /// Sums to memory.
    unsafe fn store(sum: Self::Sum, to: *mut Self::Out);
    /// One step of `C` panels for `R` rows.
    unsafe fn step<const R: usize, const C: usize>(
        sums: &mut [[Self::Sum; C]; R],
        x: [*const Self::X; R],
        weights: [*const Self::Weight; C],
    );
}

/// Pairs of bf16: two steps of k in one.
struct Pairs;

impl<V: Vector> Grain<V> for Pairs {
    type Weight = u16;
    type X = [f32; 2];
    type Sum = V;
    type Out = f32;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        V::load(from)
    }
    #[inline(always)]
    unsafe fn store(sum: V, to: *mut f32) {
        sum.store(to);
    }
    #[inline(always)]
    unsafe fn step<const R: usize, const C: usize>(
        sums: &mut [[V; C]; R],
        x: [*const [f32; 2]; R],
        weights: [*const u16; C],
    ) {
        let wide: [(V, V); C] = from_fn(|c| V::widen_pairs(weights[c]));
        for r in 0..R {
            let [first, second] = [V::splat((*x[r])[0]), V::splat((*x[r])[1])];
            for c in 0..C {
                sums[r][c] = sums[r][c].add_product(first, wide[c].0);
            }
            for c in 0..C {
                sums[r][c] = sums[r][c].add_product(second, wide[c].1);
            }
        }
    }
}

/// Floats.
struct Singles;

impl<V: Vector> Grain<V> for Singles {
    type Weight = f32;
    type X = f32;
    type Sum = V;
    type Out = f32;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        V::load(from)
    }
    #[inline(always)]
    unsafe fn store(sum: V, to: *mut f32) {
        sum.store(to);
    }
    #[inline(always)]
    unsafe fn step<const R: usize, const C: usize>(
        sums: &mut [[V; C]; R],
        x: [*const f32; R],
        weights: [*const f32; C],
    ) {
        let wide: [V; C] = from_fn(|c| V::load(weights[c]));
        for r in 0..R {
            let x = V::splat(*x[r]);
            for c in 0..C {
                sums[r][c] = sums[r][c].add_product(x, wide[c]);
            }
        }
    }
}

/// Quads of bytes: four steps of k in one, summed exactly.
struct Quads;

impl<V: Vector> Grain<V> for Quads {
    type Weight = i8;
    type X = i32;
    type Sum = V::Sums;
    type Out = i32;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> V::Sums {
        V::load_sums(from)
    }
    #[inline(always)]
    unsafe fn store(sum: V::Sums, to: *mut i32) {
        V::store_sums(sum, to);
    }
    #[inline(always)]
    unsafe fn step<const R: usize, const C: usize>(
        sums: &mut [[V::Sums; C]; R],
        x: [*const i32; R],
        weights: [*const i8; C],
    ) {
        for r in 0..R {
            let x = *x[r];
            for c in 0..C {
                sums[r][c] = V::add_quads(sums[r][c], x, weights[c]);
            }
        }
    }
}

/// How the activations of several rows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Row after row.
    Flat,
    /// Group after group, see [`groups`]; in a group step after step, in a step row after row: one stream for a micro-kernel.
    Packed,
}

/// `out += x W` for whole panels; strides count elements of their own kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product<X, W, O> {
    pub(super) order: Rows,
    /// The first step of the first row.
    pub(super) x: *const X,
    /// Steps of a whole row.
    pub(super) x_stride: usize,
    pub(super) rows: usize,
    /// The first step of the first panel.
    pub(super) weights: *const W,
    /// From one step of k to the next.
    pub(super) step: usize,
    /// From an even panel to the odd one after it.
    pub(super) panel: usize,
    /// From one pair of panels to the next.
    pub(super) strip: usize,
    pub(super) panels: usize,
    /// First step to take.
    pub(super) from: usize,
    /// How many steps.
    pub(super) steps: usize,
    pub(super) out: *mut O,
    pub(super) out_stride: usize,
}

/// The product of one grain.
type Of<V, G> = Product<<G as Grain<V>>::X, <G as Grain<V>>::Weight, <G as Grain<V>>::Out>;

/// Packed rows come in groups of these sizes, largest first; the last group may be of fewer, and is filled up.
const GROUPS: [usize; 3] = [12, 8, 4];

/// Rows that go together when `rows` are packed for kernels of at most `most`, filled up to whole groups.
pub(super) fn groups(rows: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let left = rows.saturating_sub(from).next_multiple_of(GROUPS[2]);
        let size = GROUPS.into_iter().find(|g| *g <= left.min(most))?;
        from += size;
        Some(from - size..from)
    })
}

/// Rows after filling up.
pub(super) const fn filled(rows: usize) -> usize {
    rows.next_multiple_of(GROUPS[2])
}

vectorised! {
    /// Runs a product of pairs of bf16.
    fn pairs(product: Product<[f32; 2], u16, f32>) = multiply_pairs, floats
}
vectorised! {
    /// Runs a product of floats, whose rows are flat.
    fn singles(product: Product<f32, f32, f32>) = multiply_singles, floats
}
vectorised! {
    /// Runs a product of quads of bytes.
    fn quads(product: Product<i32, i8, i32>) = multiply_quads, bytes
}

/// # Safety
/// The processor has `V`, and every address that the product names is good.
#[inline(always)]
unsafe fn multiply_pairs<V: Vector>(product: Product<[f32; 2], u16, f32>) {
    multiply::<V, Pairs>(product);
}

/// # Safety
/// As [`multiply_pairs`].
#[inline(always)]
unsafe fn multiply_quads<V: Vector>(product: Product<i32, i8, i32>) {
    multiply::<V, Quads>(product);
}

/// # Safety
/// As [`multiply_pairs`].
#[inline(always)]
unsafe fn multiply_singles<V: Vector>(product: Product<f32, f32, f32>) {
    debug_assert_eq!(product.order, Rows::Flat);
    let mut from = 0;
    while from < product.rows {
        let left = product.rows - from;
        let rows = match left {
            _ if const { V::TALL } && left >= 6 => 6,
            2.. => 2,
            _ => 1,
        };
        let part = product.begin(from, rows, 1);
        let mut panel = 0;
        while panel < part.panels {
            let part = part.at_panel(panel);
            panel += match (rows, part.panels) {
                (6, 4..) if const { V::WIDE } => micro::<V, Singles, 6, 4, false>(part),
                (6, _) => micro::<V, Singles, 6, 1, false>(part),
                (2, 4..) if const { V::WIDE } => micro::<V, Singles, 2, 4, false>(part),
                (2, _) => micro::<V, Singles, 2, 1, false>(part),
                (_, 4..) => micro::<V, Singles, 1, 4, false>(part),
                (_, _) => micro::<V, Singles, 1, 1, false>(part),
            };
        }
        from += rows;
    }
}

/// Products of strips: an even number of panels.
#[inline(always)]
unsafe fn multiply<V: Vector, G: Grain<V>>(product: Of<V, G>) {
    debug_assert!(product.panels.is_multiple_of(2));
    match product.order {
        Rows::Flat => {
            let part = product.begin(0, product.rows, 1);
            let mut panel = 0;
            while panel < part.panels {
                let part = part.at_panel(panel);
                panel += match (part.rows, part.panels) {
                    (1, 4..) => micro::<V, G, 1, 4, false>(part),
                    (1, _) => micro::<V, G, 1, 2, false>(part),
                    (2, 4..) if const { V::WIDE } => micro::<V, G, 2, 4, false>(part),
                    (2, _) => micro::<V, G, 2, 2, false>(part),
                    (3, 4..) if const { V::WIDE } => micro::<V, G, 3, 4, false>(part),
                    (3, _) => micro::<V, G, 3, 2, false>(part),
                    (rows, _) => unreachable!("{rows} flat rows"),
                };
            }
        }
        Rows::Packed => {
            for group in groups(product.rows, V::PACKED_ROWS) {
                let part = product.begin(group.start, group.len(), group.len());
                let mut panel = 0;
                while panel < part.panels {
                    let part = part.at_panel(panel);
                    panel += match part.rows {
                        12 if const { V::WIDE } => micro::<V, G, 12, 2, true>(part),
                        8 if const { V::WIDE } => micro::<V, G, 8, 2, true>(part),
                        4 if const { V::WIDE } => micro::<V, G, 4, 2, true>(part),
                        _ => micro::<V, G, 4, 1, true>(part),
                    };
                }
            }
        }
    }
}

impl<X: Copy, W: Copy, O: Copy> Product<X, W, O> {
    /// The group of `rows` rows from `from` on, whose steps are `step` apart.
    #[inline(always)]
    unsafe fn begin(self, from: usize, rows: usize, step: usize) -> Self {
        Self {
            x: self.x.add(from * self.x_stride + self.from * step),
            weights: self.weights.add(self.from * self.step),
            out: self.out.add(from * self.out_stride),
            rows,
            ..self
        }
    }

    /// The panels from `panel` on.
    #[inline(always)]
    unsafe fn at_panel(self, panel: usize) -> Self {
        Self {
            weights: self
                .weights
                .add(panel / 2 * self.strip + panel % 2 * self.panel),
            out: self.out.add(panel * LANES),
            panels: self.panels - panel,
            ..self
        }
    }
}

/// Exactly `R` rows and the first `C` panels, from an even one on if `C` is more than one. Returns `C`.
#[inline(always)]
unsafe fn micro<V: Vector, G: Grain<V>, const R: usize, const C: usize, const PACKED: bool>(
    product: Of<V, G>,
) -> usize {
    let (row, step) = if PACKED {
        (1, R)
    } else {
        (product.x_stride, 1)
    };
    let mut weights: [*const G::Weight; C] = from_fn(|c| {
        product
            .weights
            .add(c / 2 * product.strip + c % 2 * product.panel)
    });
    let out = |r: usize, c: usize| product.out.add(r * product.out_stride + c * LANES);
    let mut sums: [[G::Sum; C]; R] = from_fn(|r| from_fn(|c| G::load(out(r, c))));
    let mut x = product.x;
    for _ in 0..product.steps {
        if !PACKED {
            for weights in weights {
                V::prefetch(weights.cast::<u8>().wrapping_add(AHEAD));
            }
        }
        G::step(&mut sums, from_fn(|r| x.wrapping_add(r * row)), weights);
        x = x.wrapping_add(step);
        for weights in &mut weights {
            *weights = weights.wrapping_add(product.step);
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (c, sum) in sums.into_iter().enumerate() {
            G::store(sum, out(r, c));
        }
    }
    C
}
