//! Seeded randomness for jitter and ids: the same seed gives the same numbers.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A random number generator; its clones share the state.
#[derive(Debug, Clone)]
pub struct SeededRng(Arc<Mutex<ChaCha8Rng>>);

impl SeededRng {
    /// Makes the generator of a simulation.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))))
    }

    /// 64 random bits.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }

    /// A number below `bound`; 0 when `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// 16 random bytes.
    #[must_use]
    pub fn next_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(&mut id);
        id
    }
}
