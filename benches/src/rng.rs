//! Numbers that look random and are the same in each run.

/// A generator (SplitMix64): small, fast, and good enough to choose sizes and places.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[inline(always)]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number under `limit`.
    #[inline(always)]
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.draw()) * limit as u128) >> 64) as usize
    }

    /// A size from `smallest` to `smallest << doublings`: each doubling is as likely as any other, as small blocks
    /// are many and large ones few in programs.
    #[inline(always)]
    pub fn size(&mut self, smallest: usize, doublings: usize) -> usize {
        let base = smallest << self.below(doublings);
        base + self.below(base + 1)
    }

    /// Puts `items` in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stay_in_range_and_reach_both_ends() {
        let mut rng = Rng::new(1);
        let sizes: Vec<usize> = (0..100_000).map(|_| rng.size(8, 12)).collect();
        assert!(sizes.iter().all(|size| (8..=32 * 1024).contains(size)));
        assert!(sizes.contains(&8));
        assert!(sizes.iter().any(|&size| size > 32_000));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..1000).collect();
        Rng::new(2).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.into_iter().eq(0..1000));
    }
}
