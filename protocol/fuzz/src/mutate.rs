//! Makes inputs: valid encodings that are damaged where readers often go wrong, in lengths and counts.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The size of the longest input.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// The number of inputs that are kept; a new one then replaces a random one.
const KEPT_MAX: usize = 2048;
const MUTATIONS_MAX: usize = 6;

/// The inputs to start from, and the randomness for the damage.
pub(crate) struct Corpus {
    seeds: Vec<Vec<u8>>,
    kept: Vec<Vec<u8>>,
    random: ChaCha8Rng,
}

impl Corpus {
    pub(crate) fn new(seeds: Vec<Vec<u8>>, random: ChaCha8Rng) -> Self {
        assert!(!seeds.is_empty(), "the corpus has no seeds");
        Self {
            seeds,
            kept: Vec::new(),
            random,
        }
    }

    /// Keeps an input that was accepted, so that further damage adds to it.
    pub(crate) fn keep(&mut self, input: &[u8]) {
        if self.kept.len() < KEPT_MAX {
            self.kept.push(input.to_vec());
        } else {
            let at = self.below(KEPT_MAX);
            self.kept[at] = input.to_vec();
        }
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.pick();
        for _ in 0..self.below(MUTATIONS_MAX + 1) {
            self.mutate(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn pick(&mut self) -> Vec<u8> {
        let from_kept = !self.kept.is_empty() && self.below(4) == 0;
        let at = self.random.next_u64();
        let list = if from_kept { &self.kept } else { &self.seeds };
        list[index(at, list.len())].clone()
    }

    fn below(&mut self, bound: usize) -> usize {
        index(self.random.next_u64(), bound)
    }

    /// A random range of `input` of at most `bytes_max` bytes.
    fn range(&mut self, input: &[u8], bytes_max: usize) -> std::ops::Range<usize> {
        let from = self.below(input.len() + 1);
        let length = self.below((input.len() - from).min(bytes_max) + 1);
        from..from + length
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        match self.below(10) {
            0 | 1 => self.flip_bit(input),
            2 | 3 => self.lie(input),
            4 => {
                let length = self.below(input.len() + 1);
                input.truncate(length);
            }
            5 => {
                let range = self.range(input, 64);
                input.drain(range);
            }
            6 => self.repeat(input),
            7 => self.splice(input),
            8 => self.varint(input),
            _ => {
                let at = self.below(input.len() + 1);
                let random = self.random.next_u64().to_be_bytes();
                let length = self.below(random.len()) + 1;
                input.splice(at..at, random[..length].iter().copied());
            }
        }
    }

    fn flip_bit(&mut self, input: &mut [u8]) {
        if !input.is_empty() {
            let at = self.below(input.len());
            input[at] ^= 1 << self.below(8);
        }
    }

    /// Overwrites 1, 2, 4 or 8 bytes with a number that is often wrong as a length or count.
    fn lie(&mut self, input: &mut [u8]) {
        let width = 1 << self.below(4);
        let number = match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (8 * width - 1),
            3 => (1 << (8 * width - 1)) - 1,
            4 => u64::MAX - 1,
            5 => u64::try_from(input.len()).unwrap_or(0),
            6 => 1 << self.below(8 * width),
            _ => u64::from(self.random.next_u32() % 300),
        };
        if let Some(places) = input.len().checked_sub(width) {
            let at = self.below(places + 1);
            input[at..at + width].copy_from_slice(&number.to_be_bytes()[8 - width..]);
        }
    }

    fn repeat(&mut self, input: &mut Vec<u8>) {
        let range = self.range(input, 64);
        let times = 1 << self.below(11);
        let piece = input[range.clone()].repeat(times);
        input.splice(range.end..range.end, piece);
    }

    fn splice(&mut self, input: &mut Vec<u8>) {
        let other = self.pick();
        let from = self.range(&other, INPUT_BYTES_MAX);
        let to = self.range(input, INPUT_BYTES_MAX);
        input.splice(to, other[from].iter().copied());
    }

    /// Inserts a variable-length number that is huge or doesn't end.
    fn varint(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let mut number = vec![0xff; self.below(11)];
        number.push([0, 1, 0x0f, 0x7f, 0x80, 0xff][self.below(6)]);
        let over = self.below(number.len() + 1).min(input.len() - at);
        input.splice(at..at + over, number);
    }
}

fn index(random: u64, bound: usize) -> usize {
    let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
    usize::try_from(random % bound).unwrap_or(0)
}
