//! Medians with intervals that assume nothing about how measurements are spread.

/// A median, and the interval that contains the true one with 95 % certainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The median.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The median of some measurements. Its interval follows from the sign test: the true median is as
/// likely above as below each of them. Six are the fewest that give an interval of 95 %; of less,
/// it is all of them.
pub fn median(values: &[f64]) -> Median {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    if count == 0 {
        return Median {
            value: f64::NAN,
            low: f64::NAN,
            high: f64::NAN,
        };
    }
    let value = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
    // How many of the lowest, and of the highest, lie outside: the largest number for which the
    // binomial distribution has at most 2.5 % there.
    let mut outside = 0;
    let mut term = 0.5f64.powi(count as i32);
    let mut below = term;
    loop {
        term *= (count - outside) as f64 / (outside + 1) as f64;
        below += term;
        if below > 0.025 || 2 * (outside + 1) >= count {
            break;
        }
        outside += 1;
    }
    Median {
        value,
        low: sorted[outside],
        high: sorted[count - 1 - outside],
    }
}

/// The geometric mean.
pub fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_fifteen_leaves_three_out_at_each_end() {
        let values: Vec<f64> = (1..=15).map(f64::from).collect();
        let median = median(&values);
        assert_eq!((median.value, median.low, median.high), (8.0, 4.0, 12.0));
    }

    #[test]
    fn the_interval_of_few_is_all_of_them() {
        for count in 1..=6 {
            let values: Vec<f64> = (1..=count).map(f64::from).collect();
            let median = median(&values);
            assert_eq!((median.low, median.high), (1.0, f64::from(count)));
        }
        assert_eq!(median(&[4.0, 1.0]).value, 2.5);
    }

    #[test]
    fn the_geometric_mean_of_two_and_eight_is_four() {
        assert!((geometric_mean(&[2.0, 8.0]) - 4.0).abs() < 1e-12);
    }
}
