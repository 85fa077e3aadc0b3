//! The metrics of TLS. Their label `listener` is a name of `listener.security.protocol.map`.

use highwater_tls::Cause;
use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Handshakes of clients by outcome: done, or why they failed.
pub(crate) const TLS_HANDSHAKES: &str = "highwater_broker_tls_handshakes_total";
/// Seconds until the own certificate expires, negative once it has.
pub(crate) const TLS_EXPIRY: &str = "highwater_broker_tls_certificate_expiry_seconds";
/// Changes of the files of certificates, by whether they are used.
pub(crate) const TLS_REFRESHES: &str = "highwater_broker_tls_certificate_changes_total";

/// The label of a handshake that is done.
const DONE: &str = "done";

pub(super) fn describe() {
    describe_counter!(
        TLS_HANDSHAKES,
        "TLS handshakes of clients, by outcome: done, or why they failed."
    );
    describe_gauge!(
        TLS_EXPIRY,
        "Seconds until the node's own certificate expires, by listener; negative once it has."
    );
    describe_counter!(
        TLS_REFRESHES,
        "Changes of the files of certificates, by listener and outcome: used, or refused, so that the former ones stay in \
         use."
    );
}

pub(crate) fn start_at_zero(listener: &str) {
    counter!(TLS_HANDSHAKES, "outcome" => DONE).increment(0);
    for cause in Cause::ALL {
        counter!(TLS_HANDSHAKES, "outcome" => cause.label()).increment(0);
    }
    for is_used in [true, false] {
        changes(listener, is_used).increment(0);
    }
}

fn changes(listener: &str, is_used: bool) -> metrics::Counter {
    let outcome = if is_used { "used" } else { "refused" };
    counter!(TLS_REFRESHES, "listener" => listener.to_owned(), "outcome" => outcome)
}

/// Counts a handshake; `None` is one that is done.
pub(crate) fn count_handshake(failed: Option<Cause>) {
    let outcome = failed.map_or(DONE, Cause::label);
    counter!(TLS_HANDSHAKES, "outcome" => outcome).increment(1);
}

/// Counts a change of the files of certificates.
pub(crate) fn count_refresh(listener: &str, is_used: bool) {
    changes(listener, is_used).increment(1);
}

/// Sets the time until the own certificate expires.
pub(crate) fn set_expiry(listener: &str, seconds: i64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge, and far below 2^52")]
    let seconds = seconds as f64;
    gauge!(TLS_EXPIRY, "listener" => listener.to_owned()).set(seconds);
}
