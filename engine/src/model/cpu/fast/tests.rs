//! Packed layers against plain sums and against themselves: no bit depends on company, and bytes are exact.

use super::{
    super::{byte_products, kernels::Matrix, packed::fill, weights::Format},
    *,
};

/// Inputs, outputs and rows: odd ones, several blocks of k and of strips, and every size of a group.
const LAYERS: [(usize, usize, usize); 6] = [
    (64, 7, 5),
    (33, 70, 1),
    (10, 100, 30),
    (700, 40, 13),
    (1100, 300, 3),
    (20, 600, 2),
];

fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed;
    let next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

fn encode(values: &[f32], format: Format) -> Vec<u8> {
    let one = |v: &f32| match format {
        Format::F32 => v.to_le_bytes().to_vec(),
        Format::F16 => half::f16::from_f32(*v).to_le_bytes().to_vec(),
        Format::Bf16 => half::bf16::from_f32(*v).to_le_bytes().to_vec(),
    };
    values.iter().flat_map(one).collect()
}

fn pack(matrix: Matrix<'_>, kind: Kind, outputs: usize) -> Packed {
    let mut packed = Packed::new(kind, matrix.columns, outputs).expect("memory");
    let bytes = packed.strip_bytes();
    let column = |c| (c < outputs).then(|| (matrix.format, matrix.row(c)));
    assert!(fill(
        kind,
        packed.memory_mut(),
        bytes,
        0,
        column,
        &mut Vec::new()
    ));
    packed
}

fn linear(crew: Crew<'_>, packed: &Packed, x: &[f32], outputs: usize) -> Vec<f32> {
    let rows = x.len() / packed.inputs();
    let mut out = vec![0.0; rows * outputs];
    let mut locals: Vec<_> = (0..crew.pool.threads())
        .map(|_| Local::new(rows, 1, 16))
        .collect();
    let mut prepared = Prepared::new(rows, packed.inputs());
    let sink = (Sink::Put, &mut out[..], outputs);
    crew.linear((packed, None), x, sink, &mut prepared, &mut locals);
    out
}

/// Calls `check` for every layer, instruction set and number of threads.
fn everywhere(check: impl Fn(Crew<'_>, (usize, usize, usize))) {
    for threads in [1, 3] {
        let pool = &Pool::new(threads).expect("threads");
        for isa in Isa::available() {
            for layer in LAYERS {
                check(Crew { pool, isa }, layer);
            }
        }
    }
}

#[test]
fn packed_layers_equal_the_sums_and_rows_do_not_know_of_each_other() {
    everywhere(|crew, (inputs, outputs, rows)| {
        let (x, weights) = (noise(rows * inputs, 1), noise(outputs * inputs, 2));
        for format in [Format::F32, Format::F16, Format::Bf16] {
            let bytes = encode(&weights, format);
            let matrix = Matrix {
                format,
                bytes: &bytes,
                columns: inputs,
            };
            let kind = match format {
                Format::Bf16 if inputs.is_multiple_of(2) => Kind::Pairs,
                _ => Kind::Singles,
            };
            let packed = pack(matrix, kind, outputs);
            let found = linear(crew, &packed, &x, outputs);
            let mut wide = vec![0.0; inputs];
            for (r, x) in x.chunks_exact(inputs).enumerate() {
                let found = &found[r * outputs..(r + 1) * outputs];
                for (o, found) in found.iter().enumerate() {
                    format.widen(matrix.row(o), &mut wide);
                    let products = x
                        .iter()
                        .zip(&wide)
                        .map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let exact: f64 = products.sum();
                    assert!((f64::from(*found) - exact).abs() < 1e-4, "{:?}", crew.isa);
                }
                assert_eq!(linear(crew, &packed, x, outputs), found, "{:?}", crew.isa);
            }
        }
    });
}

#[test]
fn packed_bytes_give_the_bits_of_their_reference() {
    everywhere(|crew, (inputs, outputs, rows)| {
        let (x, weights) = (noise(rows * inputs, 3), noise(outputs * inputs, 4));
        let bytes = encode(&weights, Format::Bf16);
        let matrix = Matrix {
            format: Format::Bf16,
            bytes: &bytes,
            columns: inputs,
        };
        let packed = pack(matrix, Kind::Quads, outputs);
        let found = linear(crew, &packed, &x, outputs);
        let mut reference = vec![0.0; rows * outputs];
        byte_products(matrix, 0, &x, &mut reference, &mut vec![0.0; inputs]);
        for (r, row) in found.chunks_exact(outputs).enumerate() {
            for (o, found) in row.iter().enumerate() {
                let expected = reference[o * rows + r];
                assert_eq!(
                    found.to_bits(),
                    expected.to_bits(),
                    "{:?} {r} {o}",
                    crew.isa
                );
            }
        }
    });
}
