//! What a person would look at first after a failure: the pods, the last events, and the logs of pods that are not ready.

use super::control_plane::Cluster;

const EVENTS_SHOWN_MAX: usize = 30;
/// The lines that are shown of each log.
const LINES: &str = "--tail=20";
/// A line for each pod: the namespace, the name, the phase, and whether it is ready.
const PODS: &str = "-o=jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name} {.status.phase} \
                    {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";

/// Tells the state of a cluster. What can't be asked is told too.
pub(super) fn tell(cluster: &Cluster) -> String {
    let kubectl = |args: &[&str]| {
        let told = cluster.kubectl(args);
        told.unwrap_or_else(|error| format!("{error:#}"))
    };
    let pods = kubectl(&["get", "pods", "--all-namespaces", "--output=wide"]);
    // `get events` can't sort them: the scheduler's have another field for their time
    let events = kubectl(&["events", "--all-namespaces"]);
    let events: Vec<&str> = events.lines().collect();
    let last = events.len().saturating_sub(EVENTS_SHOWN_MAX);
    let mut told = format!("{pods}\n{}\n", events[last..].join("\n"));
    let pods = kubectl(&["get", "pods", "--all-namespaces", PODS]);
    for (namespace, pod) in pods.lines().filter_map(not_ready) {
        let logs = ["logs", pod, "--namespace", namespace, "--all-containers"];
        let logs = [&logs[..], &[LINES]].concat();
        // of the container before it was started again, if it was
        if let Ok(former) = cluster.kubectl(&[&logs[..], &["--previous"]].concat()) {
            told.push_str(&format!("-- the former log of {pod}:\n{former}\n"));
        }
        told.push_str(&format!("-- the log of {pod}:\n{}\n", kubectl(&logs)));
    }
    told
}

/// The namespace and the name of a pod that should be ready and is not.
fn not_ready(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    let (namespace, name) = (words.next()?, words.next()?);
    let is_well = words.next() == Some("Succeeded") || words.next() == Some("True");
    (!is_well).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pod_that_should_be_ready_and_is_not_has_its_log_shown() {
        let asked = |line| not_ready(line).map(|(_, name)| name);
        assert_eq!(asked("store minio Running True"), None);
        assert_eq!(asked("highwater check Succeeded False"), None);
        assert_eq!(asked("highwater broker-0 Running False"), Some("broker-0"));
        assert_eq!(asked("highwater broker-1 Pending "), Some("broker-1"));
    }
}
