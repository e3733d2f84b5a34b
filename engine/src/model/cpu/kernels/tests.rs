//! Kernels against plain sums, and against themselves: grouping and vector width change no bit.

use super::{super::isa::Isa, *};

fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed;
    let next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn exp_is_close_everywhere_and_keeps_nan() {
    for i in -870_000..880_000 {
        let x = i as f32 * 1e-4;
        let expected = f64::from(x).exp();
        let error = (f64::from(exp(x)) - expected).abs() / expected;
        assert!(error < 2e-7, "e^{x}: {error}");
    }
    assert_eq!(exp(0.0), 1.0);
    assert!(exp(f32::NAN).is_nan());
    assert!(exp(f32::NEG_INFINITY) < 1e-37);
}

#[test]
fn products_equal_the_sums_and_do_not_depend_on_rows_or_grouping() {
    for (columns, outputs, rows) in [(64, 7, 5), (33, 9, 1), (100, 4, 4), (5, 3, 9)] {
        let x = noise(rows * columns, 1);
        let weights = noise(outputs * columns, 2);
        for format in [Format::F32, Format::F16, Format::Bf16] {
            let bytes = encode(&weights, format);
            let matrix = Matrix {
                format,
                bytes: &bytes,
                columns,
            };
            let mut scratch = vec![0.0; COLUMNS * columns];
            let mut whole = vec![0.0; outputs * rows];
            products(Isa::widest(), matrix, 0, &x, &mut whole, &mut scratch);
            let mut wide = vec![0.0; columns];
            for o in 0..outputs {
                format.widen(matrix.row(o), &mut wide);
                for r in 0..rows {
                    let x = &x[r * columns..(r + 1) * columns];
                    let exact: f64 = x
                        .iter()
                        .zip(&wide)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum();
                    let found = whole[o * rows + r];
                    assert!((f64::from(found) - exact).abs() < 1e-4);
                    let mut alone = [0.0];
                    products(Isa::widest(), matrix, o, x, &mut alone, &mut scratch);
                    assert_eq!(alone[0].to_bits(), found.to_bits());
                }
            }
        }
    }
}

fn encode(values: &[f32], format: Format) -> Vec<u8> {
    let one = |v: &f32| match format {
        Format::F32 => v.to_le_bytes().to_vec(),
        Format::F16 => half::f16::from_f32(*v).to_le_bytes().to_vec(),
        Format::Bf16 => half::bf16::from_f32(*v).to_le_bytes().to_vec(),
    };
    values.iter().flat_map(one).collect()
}

#[test]
fn every_width_gives_the_same_bits() {
    let run = |isa| {
        let mut x = noise(3 * 50, 3);
        normalise(isa, &mut x, &noise(50, 4), 1e-6);
        gate(isa, &mut x, &noise(150, 5));
        let mut out = vec![0.0; 3 * 11];
        let bytes = encode(&noise(11 * 50, 7), Format::Bf16);
        let matrix = Matrix {
            format: Format::Bf16,
            bytes: &bytes,
            columns: 50,
        };
        products(isa, matrix, 0, &x, &mut out, &mut vec![0.0; COLUMNS * 50]);
        let queries = Queries {
            rows: &x[..40],
            dim: 20,
            from: 1,
            to: 7,
            scale: 0.3,
        };
        let mut state = [Softmax::START; 2];
        let mut sums = vec![0.0; 40];
        let (keys, values) = (noise(160, 8), noise(160, 9));
        attend(
            isa,
            queries,
            &keys,
            &values,
            &mut state,
            &mut sums,
            &mut [0.0; 8],
        );
        [bits(&x), bits(&out), bits(&sums)]
    };
    let all = Isa::available();
    for isa in &all {
        assert_eq!(run(*isa), run(all[0]), "{isa:?}");
    }
}
