//! The micro-kernels: a few rows of activations times a few panels of sixteen columns, summed in registers.
//!
//! Every sum runs over k in ascending order, one product after the other, from what the output holds. So neither the shape of
//! a micro-kernel nor how k is cut into calls changes a bit. They never look at more rows, panels or steps than told.
//! Products of matrices, scores of queries and sums of values are all made of them.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::{array::from_fn, ops::Range};

use super::vector::{LANES, Vector};

/// How far ahead of a stream of weights memory is asked for, in bytes.
const AHEAD: usize = 4096;
/// Up to so many rows, weights come from memory as fast as they are used.
const FEW_ROWS: usize = 3;

/// What a panel holds at one step of k.
pub(super) trait Grain<V: Vector> {
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
pub(super) struct Pairs;

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
pub(super) struct Singles;

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
pub(super) struct Quads;

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
pub(super) type Of<V, G> =
    Product<<G as Grain<V>>::X, <G as Grain<V>>::Weight, <G as Grain<V>>::Out>;

/// Rows that go together when `rows` are packed for micro-kernels of at most `most`: as equal as can be.
pub(super) fn groups(rows: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(most);
    (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
}

/// Runs a product.
///
/// # Safety
/// The processor has `V`, and every address that the product names is good.
#[inline(always)]
pub(super) unsafe fn multiply<V: Vector, G: Grain<V>>(product: Of<V, G>) {
    let most = match product.order {
        Rows::Flat => V::FLAT_ROWS,
        Rows::Packed => V::PACKED_ROWS,
    };
    for group in groups(product.rows, most) {
        let step = match product.order {
            Rows::Flat => 1,
            Rows::Packed => group.len(),
        };
        across::<V, G>(Product {
            x: product
                .x
                .add(group.start * product.x_stride + product.from * step),
            weights: product.weights.add(product.from * product.step),
            out: product.out.add(group.start * product.out_stride),
            rows: group.len(),
            ..product
        });
    }
}

/// One group, over all panels.
#[inline(always)]
unsafe fn across<V: Vector, G: Grain<V>>(product: Of<V, G>) {
    let mut panel = 0;
    while panel < product.panels {
        let part = Product {
            weights: product
                .weights
                .add(panel / 2 * product.strip + panel % 2 * product.panel),
            out: product.out.add(panel * LANES),
            ..product
        };
        // Only an even panel begins a strip, so only from there may pairs be taken.
        let most = match panel % 2 {
            0 => product.panels - panel,
            _ => 1,
        };
        panel += match product.order {
            Rows::Flat => flat::<V, G>(part, most),
            Rows::Packed => packed::<V, G>(part, most),
        };
    }
}

macro_rules! by_rows {
    ($product:ident, $packed:literal, $panels:literal: $($rows:literal)*) => {{
        match $product.rows {
            $($rows => micro::<V, G, $rows, $panels, $packed>($product),)*
            rows => unreachable!("{rows} rows in a group"),
        }
        $panels
    }};
}

/// One group of flat rows, over at most `most` panels: how many were done.
#[inline(always)]
unsafe fn flat<V: Vector, G: Grain<V>>(product: Of<V, G>, most: usize) -> usize {
    if product.rows <= V::FOUR_PANELS && most >= 4 {
        by_rows!(product, false, 4: 1 2 3 4 5 6)
    } else if product.rows <= V::TWO_PANELS && most >= 2 {
        by_rows!(product, false, 2: 1 2 3 4 5 6)
    } else {
        by_rows!(product, false, 1: 1 2 3 4 5 6)
    }
}

/// The same of packed rows.
#[inline(always)]
unsafe fn packed<V: Vector, G: Grain<V>>(product: Of<V, G>, most: usize) -> usize {
    if product.rows <= V::TWO_PANELS && most >= 2 {
        by_rows!(product, true, 2: 1 2 3 4 5 6 7 8 9 10 11 12)
    } else {
        by_rows!(product, true, 1: 1 2 3 4 5 6 7 8 9 10 11 12)
    }
}

/// Exactly `R` rows and `C` panels, from an even one on if `C` is more than one.
#[inline(always)]
unsafe fn micro<V: Vector, G: Grain<V>, const R: usize, const C: usize, const PACKED: bool>(
    product: Of<V, G>,
) {
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
        if !PACKED && R <= FEW_ROWS {
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
}
