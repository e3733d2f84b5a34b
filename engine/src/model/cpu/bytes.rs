//! The reference of quantised layers: weights and activations become bytes where they are, one plain sum after the other.
//!
//! Sums of bytes are exact, so the fast kernels must give these bits. It never looks at a packed layer.

use super::{
    kernels::Matrix,
    packed::{scale_of, to_byte},
};

/// For each matrix row from `first` on, its quantised products with all rows of `x`, next to each other in `out`. `scratch` has
/// room for a row.
pub(in crate::model) fn byte_products(
    matrix: Matrix<'_>,
    first: usize,
    x: &[f32],
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let wide = &mut scratch[..matrix.columns];
    let rows = x.len() / matrix.columns;
    for (row, out) in (first..).zip(out.chunks_exact_mut(rows)) {
        matrix.format.widen(matrix.row(row), wide);
        let (scale, inverse) = scale_of(wide);
        for (out, x) in out.iter_mut().zip(x.chunks_exact(matrix.columns)) {
            let (x_scale, x_inverse) = scale_of(x);
            let byte = |x: f32| i32::from(to_byte(x));
            let products = x.iter().zip(&*wide);
            let sum: i32 = products
                .map(|(x, w)| byte(x * x_inverse) * byte(w * inverse))
                .sum();
            *out = sum as f32 * (x_scale * scale);
        }
    }
}
