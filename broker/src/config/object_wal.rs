//! The settings of the object WAL: its budget of puts (W4), and how its requests are repeated (W3).

use highwater_wal::object::{Batching, Repeats};

use super::Config;

pub(super) const PREFIX: &str = "highwater.wal.object.";
const HEDGE_MIN: &str = "highwater.wal.object.hedge.min.ms";
const HEDGE_MAX: &str = "highwater.wal.object.hedge.max.ms";
const TIMEOUT: &str = "highwater.wal.object.request.timeout.ms";

impl Config {
    /// The budget of the object WAL's puts.
    #[must_use]
    pub fn wal_batching(&self) -> Batching {
        let tokens_max = self.int("highwater.wal.object.tokens.max");
        Batching {
            token_interval: self.millis("highwater.wal.object.token.interval.ms"),
            token_bytes: self.size("highwater.wal.object.token.bytes"),
            tokens_max: u32::try_from(tokens_max).unwrap_or(u32::MAX),
            ..Batching::default()
        }
    }

    /// How the requests of the object WAL are repeated.
    #[must_use]
    pub fn wal_repeats(&self) -> Repeats {
        Repeats {
            deadline: self.millis(TIMEOUT),
            hedge: (self.millis(HEDGE_MIN), self.millis(HEDGE_MAX)),
            ..Repeats::default()
        }
    }
}

/// The values that don't fit each other.
pub(super) fn check(config: &Config) -> Option<String> {
    let [min, max, timeout] = [HEDGE_MIN, HEDGE_MAX, TIMEOUT].map(|name| config.long(name));
    let fits = min <= max && max < timeout;
    (!fits).then(|| {
        format!(
            "{HEDGE_MIN} is {min}, {HEDGE_MAX} is {max} and {TIMEOUT} is {timeout}: the first must be at most the second, \
             and the second below the third"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(settings: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let settings = settings.iter();
        let flags = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(None, [], &flags.collect::<Vec<_>>()).map_err(|errors| errors.0)
    }

    #[test]
    fn the_defaults_are_those_of_the_log_and_each_setting_has_an_effect() {
        let config = load(&[]).expect("is sound");
        let told =
            |config: &Config| format!("{:?} {:?}", config.wal_batching(), config.wal_repeats());
        let defaults = format!("{:?} {:?}", Batching::default(), Repeats::default());
        assert_eq!(told(&config), defaults);
        let config = load(&[
            ("highwater.wal", "object"),
            ("highwater.wal.object.token.interval.ms", "0"),
            ("highwater.wal.object.token.bytes", "1MiB"),
            ("highwater.wal.object.tokens.max", "7"),
            (HEDGE_MIN, "10"),
            (HEDGE_MAX, "20"),
            (TIMEOUT, "3000"),
        ]);
        let config = config.expect("is sound");
        let (batching, repeats) = (config.wal_batching(), config.wal_repeats());
        let ms = Duration::from_millis;
        assert_eq!(batching.token_interval, ms(0));
        assert_eq!((batching.token_bytes, batching.tokens_max), (1 << 20, 7));
        assert_eq!(
            (repeats.hedge, repeats.deadline),
            ((ms(10), ms(20)), ms(3000))
        );
        assert!(config.out_of_reach().is_empty(), "they have an effect");
    }

    #[test]
    fn values_that_do_not_fit_each_other_are_refused() {
        for wrong in [
            [(HEDGE_MIN, "2000")],
            [(HEDGE_MAX, "10000")],
            [(TIMEOUT, "900")],
        ] {
            let told = load(&wrong).expect_err("is refused");
            assert!(told.len() == 1 && told[0].contains(wrong[0].1), "{told:?}");
        }
    }

    #[test]
    fn settings_of_the_object_wal_have_no_effect_on_a_disk() {
        let config = load(&[(TIMEOUT, "5000")]).expect("is sound");
        let told = config.out_of_reach().join(" ");
        assert!(told.contains(TIMEOUT) && told.contains("disk"), "{told}");
    }
}
