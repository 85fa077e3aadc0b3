//! Profiles of the shared AWS files: <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>.

use std::collections::BTreeMap;

/// The settings of one profile; those of the credentials file go before those of the config file.
pub(super) fn find(
    credentials: &str,
    config: &str,
    profile: &str,
) -> Option<BTreeMap<String, String>> {
    let in_config = if profile == "default" {
        section(config, &[profile, "profile default"])
    } else {
        section(config, &[&format!("profile {profile}")])
    };
    let in_credentials = section(credentials, &[profile]);
    if in_config.is_none() && in_credentials.is_none() {
        return None;
    }
    let mut found = in_config.unwrap_or_default();
    found.extend(in_credentials.unwrap_or_default());
    Some(found)
}

fn section(text: &str, names: &[&str]) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines() {
        // an indented line belongs to a nested setting, which none of ours is
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(name) = line.trim().strip_prefix('[') {
            let name: Vec<&str> = name.trim_end_matches(']').split_whitespace().collect();
            inside = names.contains(&name.join(" ").as_str());
            if inside {
                found.get_or_insert_default();
            }
        } else if inside
            && let Some((key, value)) = line.split_once('=')
            && let Some(found) = &mut found
        {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_file_goes_before_the_config_file() {
        let credentials = "[default]\naws_access_key_id = A\n\n[other]\naws_access_key_id=B\n";
        let config = "# ours\n[default]\nregion = eu-west-1\naws_access_key_id = C\ns3 =\n  max = 3\n\
                      [profile  other]\nregion=us-west-2\n[profile third]\nregion=us-east-2\n";
        let default = find(credentials, config, "default").expect("is there");
        assert_eq!(default["aws_access_key_id"], "A");
        assert_eq!(default["region"], "eu-west-1");
        assert!(!default.contains_key("max"));
        let other = find(credentials, config, "other").expect("is there");
        assert_eq!(
            (
                other["aws_access_key_id"].as_str(),
                other["region"].as_str()
            ),
            ("B", "us-west-2")
        );
        assert!(find(credentials, config, "third").is_some());
        assert!(find(credentials, config, "absent").is_none());
    }
}
