//! Water marks of a write queue.

/// High and low-water mark in bytes. asyncio: the limits of `_FlowControlMixin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLimits {
    /// Strictly above it, `pause_writing` is called.
    pub high: usize,
    /// At or below it, `resume_writing` is called.
    pub low: usize,
}

impl Default for WriteLimits {
    /// 64 KiB and 16 KiB.
    fn default() -> Self {
        Self {
            high: 64 * 1024,
            low: 16 * 1024,
        }
    }
}

/// The low-water mark was above the high one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLimits(WriteLimits);

impl std::fmt::Display for InvalidLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "high ({}) must be at least low ({})",
            self.0.high, self.0.low
        )
    }
}

impl std::error::Error for InvalidLimits {}

impl From<InvalidLimits> for std::io::Error {
    fn from(error: InvalidLimits) -> Self {
        Self::new(std::io::ErrorKind::InvalidInput, error)
    }
}

impl WriteLimits {
    /// The marks that the arguments mean: neither given: the defaults; only `low`: high is four
    /// times that; only `high`: low is a quarter of it.
    ///
    /// # Errors
    /// When `low` is above `high`.
    pub fn new(high: Option<usize>, low: Option<usize>) -> Result<Self, InvalidLimits> {
        let high = high.unwrap_or(low.map_or(Self::default().high, |low| low.saturating_mul(4)));
        let limits = Self {
            high,
            low: low.unwrap_or(high / 4),
        };
        if limits.low > limits.high {
            Err(InvalidLimits(limits))
        } else {
            Ok(limits)
        }
    }
}
