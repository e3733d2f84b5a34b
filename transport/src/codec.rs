//! Fixed-width little-endian fields of the fabric's own messages, each read with its bound.
//!
//! Reading never panics and never allocates more than the input holds: bytes from a peer may be anything.

use bus_schemas::{Epoch, NodeId, NodeRef, Ticket, messages::SlotRef};

/// Appends fields.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A length of one or two bytes' worth, then the bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u16::try_from(bytes.len()).expect("callers bound their strings far below 64 KiB");
        self.raw(&len.to_le_bytes()).raw(bytes)
    }

    pub(crate) fn node(&mut self, node: NodeRef) -> &mut Self {
        self.bytes(node.node.to_string().as_bytes());
        self.u64(node.epoch.0)
    }

    pub(crate) fn ticket(&mut self, ticket: Ticket) -> &mut Self {
        self.raw(&ticket.0)
    }

    /// Sums of the first so many blocks of a take: each perhaps none.
    pub(crate) fn sums(&mut self, sums: &[Option<u32>]) -> &mut Self {
        let count = u32::try_from(sums.len()).expect("a take has at most PIECES_MAX blocks");
        self.u32(count);
        for sum in sums {
            self.sum(*sum);
        }
        self
    }

    /// A sum, or zero for none.
    pub(crate) fn sum(&mut self, sum: Option<u32>) -> &mut Self {
        self.u64(sum.map_or(0, |sum| HAS_SUM | u64::from(sum)))
    }

    pub(crate) fn slots(&mut self, slots: impl ExactSizeIterator<Item = SlotRef>) -> &mut Self {
        let count = u32::try_from(slots.len()).expect("a take has at most PIECES_MAX blocks");
        self.u32(count);
        for slot in slots {
            self.u32(slot.slot).u32(slot.generation);
        }
        self
    }
}

/// Says that a sum is there, above its 32 bits.
const HAS_SUM: u64 = 1 << 32;

/// Takes fields off the front; `None` as soon as one does not fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn raw(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.raw(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.array().map(u16::from_le_bytes)?;
        self.raw(usize::from(len))
    }

    pub(crate) fn node(&mut self) -> Option<NodeRef> {
        let name = std::str::from_utf8(self.bytes()?).ok()?;
        let node = NodeId::new(name).ok()?;
        let epoch = Epoch(self.u64()?);
        Some(NodeRef { node, epoch })
    }

    pub(crate) fn ticket(&mut self) -> Option<Ticket> {
        self.array().map(Ticket)
    }

    pub(crate) fn slots(&mut self) -> Option<Vec<SlotRef>> {
        let count = self.u32()? as usize;
        let mut body = Reader(self.raw(count.checked_mul(8)?)?);
        (0..count)
            .map(|_| {
                let slot = body.u32()?;
                let generation = body.u32()?;
                Some(SlotRef { slot, generation })
            })
            .collect()
    }

    pub(crate) fn sums(&mut self) -> Option<Vec<Option<u32>>> {
        let count = self.u32()? as usize;
        let mut body = Reader(self.raw(count.checked_mul(8)?)?);
        (0..count).map(|_| body.sum()).collect()
    }

    pub(crate) fn sum(&mut self) -> Option<Option<u32>> {
        let value = self.u64()?;
        let sum = u32::try_from(value & !HAS_SUM).ok()?;
        match value & HAS_SUM {
            0 if sum == 0 => Some(None),
            0 => None,
            _ => Some(Some(sum)),
        }
    }

    /// The value, if nothing is left over.
    pub(crate) fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}
