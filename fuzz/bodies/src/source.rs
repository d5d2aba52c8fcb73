//! Reads an input as a sequence of choices.

/// The bytes of an input, taken one by one. At their end every choice is the first.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    /// All of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn choice(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.choice().unwrap_or(0)
    }

    /// One of two.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Up to this many bytes.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(most.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A number near this one, a small one, one at an end, or any.
    pub fn number(&mut self, near: u64) -> u64 {
        let choice = self.byte();
        let small = u64::from(choice >> 3);
        match choice & 7 {
            0 => near,
            1 => near.wrapping_add(1),
            2 => near.wrapping_add(small),
            3 => near.wrapping_sub(small),
            4 => small,
            5 => u64::MAX - small,
            6 => 1 << (choice >> 2),
            _ => {
                let mut bytes = [0; 8];
                let taken = self.take(8);
                bytes[..taken.len()].copy_from_slice(taken);
                u64::from_le_bytes(bytes)
            }
        }
    }
}
