//! Latencies, counted in classes about 1.6 % wide.

const BITS: u32 = 6;
const CLASSES: usize = (64 - BITS as usize + 1) << BITS;

/// Counts of nanoseconds, exact below 128 and within 1.6 % above.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64; CLASSES]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: Box::new([0; CLASSES]),
            total: 0,
        }
    }
}

fn class(value: u64) -> usize {
    let shift = (63 - (value | 1).leading_zeros()).saturating_sub(BITS);
    ((shift as usize) << BITS) + (value >> shift) as usize
}

fn value(class: usize) -> u64 {
    let shift = (class >> BITS).saturating_sub(1);
    ((class - (shift << BITS)) as u64) << shift
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, nanoseconds: u64) {
        self.counts[class(nanoseconds)] += 1;
        self.total += 1;
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// Values counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The value that this share of all values (0 to 1) does not exceed; 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return value(index);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_within_its_class() {
        for exponent in 0..63 {
            for offset in [0u64, 1, 3] {
                let original = (1u64 << exponent) + offset;
                let returned = value(class(original));
                assert!(returned <= original, "{original} became {returned}");
                assert!(
                    (original - returned) as f64 <= original as f64 / 63.0,
                    "{original} became {returned}"
                );
            }
        }
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let mut histogram = Histogram::default();
        for value in 1..=1000 {
            histogram.record(value);
        }
        assert_eq!(histogram.total(), 1000);
        assert!((492..=500).contains(&histogram.quantile(0.5)));
        assert!((980..=999).contains(&histogram.quantile(0.999)));
    }
}
