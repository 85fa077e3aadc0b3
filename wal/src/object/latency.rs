//! How long puts have taken lately, from which the wait before a hedge follows.

use std::time::Duration;

/// A mean and a deviation that follow the recent puts, as TCP estimates its round trips (RFC 6298).
#[derive(Debug)]
pub(super) struct Latency {
    bounds: (Duration, Duration),
    estimate: Option<(Duration, Duration)>,
}

impl Latency {
    pub(super) fn new(bounds: (Duration, Duration)) -> Self {
        let (min, max) = bounds;
        Self {
            bounds: (min, max.max(min)),
            estimate: None,
        }
    }

    pub(super) fn took(&mut self, latest: Duration) {
        self.estimate = Some(match self.estimate {
            None => (latest, latest / 2),
            Some((mean, deviation)) => {
                let apart = mean.abs_diff(latest);
                (mean * 7 / 8 + latest / 8, deviation * 3 / 4 + apart / 4)
            }
        });
    }

    /// The time after which a put is late.
    pub(super) fn late_after(&self) -> Duration {
        let (min, max) = self.bounds;
        let (mean, deviation) = self.estimate.unwrap_or((max, Duration::ZERO));
        mean.saturating_add(deviation * 4).clamp(min, max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_late_when_it_takes_far_longer_than_those_before_it() {
        let ms = Duration::from_millis;
        let mut latency = Latency::new((ms(50), ms(1000)));
        assert_eq!(latency.late_after(), ms(1000), "nothing is known yet");
        for _ in 0..100 {
            latency.took(ms(25));
            latency.took(ms(35));
        }
        let late = latency.late_after();
        assert!(late >= ms(50) && late < ms(60), "{late:?}");
        for _ in 0..100 {
            latency.took(ms(5000));
        }
        assert_eq!(latency.late_after(), ms(1000), "it is bounded");
    }
}
