//! Where keys and values lie in a block: `[layer][keys, values][kv head][token][dim]`, one piece per block.
//!
//! The default format is f32. bf16 halves memory and traffic, but rounds every key and value: exact ids
//! against f32 references then hold only where margins are wide, so it must be asked for. Elements are little-endian. All
//! access goes through the region's checked copies; whether a slot may be read or written is the block pool's promise.

use gpu::Region;

use super::Spec;

const _: () = assert!(
    cfg!(target_endian = "little"),
    "blocks are exchanged between nodes as they lie in memory"
);

/// Number format of stored keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvDtype {
    /// As computed.
    #[default]
    F32,
    /// Rounded to nearest even.
    Bf16,
}

impl KvDtype {
    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Keys,
    Values,
}

/// The layout of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Layers.
    pub layers: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Tokens in a block.
    pub block_tokens: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Number format.
    pub dtype: KvDtype,
}

impl KvLayout {
    /// The layout of a model's blocks.
    #[must_use]
    pub fn new(spec: &Spec, block_tokens: usize, dtype: KvDtype) -> Self {
        Self {
            layers: spec.layers.len(),
            kv_heads: spec.kv_heads,
            block_tokens,
            head_dim: spec.head_dim,
            dtype,
        }
    }

    /// Bytes of one block.
    #[must_use]
    pub const fn block_bytes(&self) -> usize {
        self.layers * 2 * self.kv_heads * self.head_bytes()
    }

    /// Bytes of one head's keys (or values) in one layer of a block.
    const fn head_bytes(&self) -> usize {
        self.block_tokens * self.head_dim * self.dtype.size()
    }

    /// Where one token's keys or values of one head begin in a block.
    pub(super) fn offset(&self, layer: usize, part: Part, head: usize, token: usize) -> usize {
        let part = (layer * 2 + part as usize) * self.kv_heads + head;
        part * self.head_bytes() + token * self.head_dim * self.dtype.size()
    }

    /// Copies elements out, from `offset` on, widened to f32. `raw` is scratch of at least as many elements.
    pub(super) fn read(
        &self,
        kv: &Region,
        slot: u32,
        offset: usize,
        into: &mut [f32],
        raw: &mut [u16],
    ) {
        match self.dtype {
            KvDtype::F32 => kv.read(slot, offset, bytemuck::cast_slice_mut(into)),
            KvDtype::Bf16 => {
                let raw = &mut raw[..into.len()];
                kv.read(slot, offset, bytemuck::cast_slice_mut(raw));
                for (to, from) in into.iter_mut().zip(raw) {
                    *to = f32::from_bits(u32::from(*from) << 16);
                }
            }
        }
    }

    /// Copies elements in, from `offset` on. `raw` is scratch of at least as many elements.
    pub(super) fn write(
        &self,
        kv: &Region,
        slot: u32,
        offset: usize,
        from: &[f32],
        raw: &mut [u16],
    ) {
        match self.dtype {
            KvDtype::F32 => kv.write(slot, offset, bytemuck::cast_slice(from)),
            KvDtype::Bf16 => {
                let raw = &mut raw[..from.len()];
                for (to, from) in raw.iter_mut().zip(from) {
                    *to = half::bf16::from_f32(*from).to_bits();
                }
                kv.write(slot, offset, bytemuck::cast_slice(raw));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dtype: KvDtype) -> KvLayout {
        KvLayout {
            layers: 3,
            kv_heads: 2,
            block_tokens: 4,
            head_dim: 8,
            dtype,
        }
    }

    #[test]
    fn every_element_has_its_own_place_in_the_order_of_the_header() {
        let layout = layout(KvDtype::F32);
        let mut expected = 0;
        for layer in 0..3 {
            for part in [Part::Keys, Part::Values] {
                for head in 0..2 {
                    for token in 0..4 {
                        assert_eq!(layout.offset(layer, part, head, token), expected);
                        expected += 8 * 4;
                    }
                }
            }
        }
        assert_eq!(layout.block_bytes(), expected);
    }

    #[test]
    fn what_was_written_is_read_back_in_the_format_asked_for() {
        let values = [1.0, -2.5, 3.3, 0.0, 1e-20, 5e9, -0.1, 7.0];
        for (dtype, tolerance) in [(KvDtype::F32, 0.0), (KvDtype::Bf16, 1.0 / 256.0)] {
            let layout = layout(dtype);
            let kv = Region::new(2, layout.block_bytes()).expect("a small region");
            let (mut raw, mut back) = ([0; 8], [0.0; 8]);
            let offset = layout.offset(2, Part::Values, 1, 3);
            layout.write(&kv, 1, offset, &values, &mut raw);
            layout.read(&kv, 1, offset, &mut back, &mut raw);
            for (a, b) in values.iter().zip(back) {
                assert!((a - b).abs() <= a.abs() * tolerance, "{a} became {b}");
            }
        }
    }
}
