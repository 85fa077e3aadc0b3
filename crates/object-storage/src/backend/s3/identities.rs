//! The identity that a process uses towards a store, by its environment. Each test starts another process of this
//! binary with an environment of its own. The tests that are such processes do nothing when a run of all tests calls
//! them.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use highwater_io::RealDevice;
use highwater_runtime::{SeededRng, Tasks, WallClock};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::cached::Issuer;
use super::connections::Connections;
use super::credentials::Chain;
use super::faults::{Script, Server, refusal, response, serve};
use super::{Bucket, client_options};
use crate::{CredentialSource, IoClass, ObjectKey, ObjectStorage, Ports, PutMode, S3Config};

const REFUSED: &str = "refused: ";
const PUTS_MAX: u32 = 2000;

/// An issuer's answer. Its time of expiry is past, so that credentials are fetched again whenever that is due.
fn keys(id: &str) -> String {
    let body = format!(
        "{{\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"2020-01-01T00:00:00Z\"}}"
    );
    json(&body)
}

fn json(body: &str) -> String {
    response("200 OK", "content-type: application/json\r\n", body)
}

/// The text between two others in a request's head.
fn between<'a>(head: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = head.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

/// A store that takes puts until it has seen a number of keys, and a home directory for the process that sends them.
struct World {
    home: TempDir,
    store: Server,
    /// The ids of the keys, each once, in the order of their first requests.
    seen: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn of(keys_max: usize) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ids = Arc::clone(&seen);
        let script: Script = Arc::new(move |head: &str| {
            let id = between(head, "Credential=", "/").unwrap_or("nobody");
            let mut ids = ids.lock().expect("no panic");
            if !ids.iter().any(|seen| seen == id) {
                ids.push(id.to_owned());
            }
            Some(match ids.len() < keys_max {
                true => response("200 OK", "etag: \"t\"\r\n", ""),
                // this refusal ends the process
                false => refusal("412 Precondition Failed", "PreconditionFailed"),
            })
        });
        Self {
            home: tempfile::tempdir().expect("a directory"),
            store: serve(script).await,
            seen,
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.home.path().join(".aws").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes it");
        std::fs::write(path, text).expect("writes");
    }

    /// Runs one of the processes below; returns the reason if it was refused.
    async fn run(&self, process: &str, environment: &[(&str, &str)]) -> Option<String> {
        let binary = std::env::current_exe().expect("this binary");
        let mut command = Command::new(binary);
        command.args(["--exact", &format!("backend::s3::identities::{process}")]);
        command.args(["--nocapture"]);
        command.env_clear().env("HOME", self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TEST_ENDPOINT", &self.store.endpoint);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command.envs(environment.iter().copied());
        let output = spawn_blocking(move || command.output()).await;
        let output = output.expect("no panic").expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        let refused = text.lines().find_map(|line| line.strip_prefix(REFUSED));
        refused.map(str::to_owned)
    }

    async fn succeeds(&self, environment: &[(&str, &str)]) -> Vec<String> {
        let refused = self.run("process_that_writes", environment).await;
        assert_eq!(refused, None);
        self.seen.lock().expect("no panic").clone()
    }

    async fn refuses(&self, environment: &[(&str, &str)]) -> String {
        let refused = self.run("process_that_writes", environment).await;
        assert!(self.seen.lock().expect("no panic").is_empty());
        refused.expect("is refused")
    }
}

fn is_process() -> bool {
    std::env::var_os("TEST_ENDPOINT").is_some()
}

fn config() -> S3Config {
    let of = |name: &str| std::env::var(name).ok();
    let source = of("TEST_SOURCE").and_then(|name| CredentialSource::find(&name));
    S3Config {
        endpoint: of("TEST_ENDPOINT"),
        credentials: source.unwrap_or_default(),
        profile: of("TEST_PROFILE"),
        ..S3Config::default()
    }
}

#[tokio::test]
async fn process_that_writes() {
    if !is_process() {
        return;
    }
    let ports = Ports {
        device: Arc::new(RealDevice),
        memory: None,
        clock: WallClock::system(),
        tasks: Tasks::default(),
        rng: SeededRng::from_seed(1),
    };
    let bucket = match Bucket::open(("bucket", "prefix"), &config(), &ports).await {
        Ok(bucket) => bucket,
        Err(why) => return println!("\n{REFUSED}{why}"),
    };
    let (store, key) = (bucket.storage("highwater-x"), ObjectKey::new("data/1"));
    for _ in 0..PUTS_MAX {
        let put = store.put(&key, Vec::new(), PutMode::IfAbsent, IoClass::Upload);
        if put.await.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn process_whose_keys_are_rotated() {
    if !is_process() {
        return;
    }
    let options = client_options(&config(), &RealDevice)
        .await
        .expect("no file");
    let connections = Connections::new(options).expect("connects");
    let chain = Chain::new(&config(), "us-east-1", connections);
    let home = std::env::var("HOME").expect("a home");
    let file = Path::new(&home).join(".aws/credentials");
    for id in ["first", "second"] {
        std::fs::write(&file, static_keys(id)).expect("writes");
        let (credential, _) = chain.issue().await.expect("there are keys");
        assert_eq!(credential.key_id, id);
    }
    // nor does the process change its identity while a file is missing
    std::fs::remove_file(&file).expect("removes");
    let why = chain.issue().await.expect_err("there are none");
    println!("\n{REFUSED}{}", why.why);
}

fn static_keys(id: &str) -> String {
    format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = s\n")
}

#[tokio::test]
async fn the_environment_goes_before_a_profile() {
    let world = World::of(1).await;
    world.write("credentials", &static_keys("of-the-profile"));
    let keys = [
        ("AWS_ACCESS_KEY_ID", "of-the-environment"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
    ];
    assert_eq!(world.succeeds(&keys).await, ["of-the-environment"]);
    let other = World::of(1).await;
    other.write("credentials", &static_keys("of-the-profile"));
    let chosen = [&keys[..], &[("TEST_SOURCE", "profile")]].concat();
    assert_eq!(other.succeeds(&chosen).await, ["of-the-profile"]);
}

#[tokio::test]
async fn keys_of_a_profile_are_read_anew() {
    let world = World::of(1).await;
    world.write("credentials", "");
    let why = world.run("process_whose_keys_are_rotated", &[]).await;
    let why = why.expect("the file is gone");
    assert!(!why.contains("environment"), "{why}");
}

#[tokio::test]
async fn a_profile_may_name_a_process() {
    let world = World::of(1).await;
    let script = world.home.path().join("keys.sh");
    let keys = "{\"Version\":1,\"AccessKeyId\":\"of-a-process\",\"SecretAccessKey\":\"s\"}";
    std::fs::write(&script, format!("echo '{keys}'\n")).expect("writes");
    let script = script.display();
    world.write(
        "config",
        &format!("[profile other]\ncredential_process = sh {script}\n"),
    );
    let named = [("TEST_PROFILE", "other")];
    assert_eq!(world.succeeds(&named).await, ["of-a-process"]);
}

/// A token service that gives the role's keys to requests that may assume the role.
async fn token_service(by: &'static str) -> Server {
    serve(Arc::new(move |head: &str| {
        let id = between(head, "Credential=", "/").unwrap_or("nobody");
        let credentials = "<AccessKeyId>of-the-role</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                           <SessionToken>t</SessionToken><Expiration>2020-01-01T00:00:00Z</Expiration>";
        let user = "<AssumedRoleId>r:n</AssumedRoleId><Arn>arn:aws:sts::0:assumed-role/r/n</Arn>";
        Some(match id == by {
            true => response(
                "200 OK",
                "content-type: text/xml\r\n",
                &format!(
                    "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
                     <AssumedRoleUser>{user}</AssumedRoleUser><Credentials>{credentials}</Credentials></AssumeRoleResult>\
                     </AssumeRoleResponse>"
                ),
            ),
            false => refusal("403 Forbidden", "AccessDenied"),
        })
    }))
    .await
}

#[tokio::test]
async fn a_role_is_assumed_with_the_keys_of_a_source_profile() {
    let world = World::of(1).await;
    let service = token_service("of-the-profile").await;
    world.write("credentials", &static_keys("of-the-profile"));
    let config = "[profile assumes]\nrole_arn = arn:aws:iam::0:role/r\nsource_profile = default\n";
    world.write("config", config);
    let environment = [
        ("AWS_PROFILE", "assumes"),
        ("AWS_ENDPOINT_URL_STS", service.endpoint.as_str()),
    ];
    assert_eq!(world.succeeds(&environment).await, ["of-the-role"]);
}

#[tokio::test]
async fn a_login_by_single_sign_on_gives_keys() {
    let world = World::of(1).await;
    let portal = serve(Arc::new(|head: &str| {
        let ours = head.contains("x-amz-sso_bearer_token: a-token\r\n") && head.contains("role_name=r");
        Some(match ours {
            true => json(
                "{\"roleCredentials\":{\"accessKeyId\":\"signed-on\",\"secretAccessKey\":\"s\",\"sessionToken\":\"t\",\
                 \"expiration\":32503680000000}}",
            ),
            false => refusal("401 Unauthorized", "UnauthorizedException"),
        })
    }))
    .await;
    world.write(
        "config",
        "[default]\nsso_session = session\nsso_account_id = 0\nsso_role_name = r\n\
         [sso-session session]\nsso_region = us-east-1\nsso_start_url = https://start\n",
    );
    // SHA-1 of the session's name
    let cache = "sso/cache/fcbdc4c271c889825d8338d2d8f10b6e5e95c171.json";
    let token = "{\"accessToken\":\"a-token\",\"expiresAt\":\"2999-01-01T00:00:00Z\",\"region\":\"us-east-1\",\
                 \"startUrl\":\"https://start\"}";
    world.write(cache, token);
    let environment = [("AWS_ENDPOINT_URL_SSO", portal.endpoint.as_str())];
    assert_eq!(world.succeeds(&environment).await, ["signed-on"]);
}

#[tokio::test]
async fn an_instances_role_is_asked_of_its_metadata_service() {
    let world = World::of(1).await;
    let metadata = serve(Arc::new(|head: &str| {
        let token = "x-aws-ec2-metadata-token: session\r\n";
        Some(if head.starts_with("PUT /latest/api/token") {
            let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
            response("200 OK", ttl, "session")
        } else if !head.contains(token) {
            refusal("401 Unauthorized", "")
        } else if head.starts_with("GET /latest/meta-data/iam/security-credentials/ ") {
            response("200 OK", "", "role")
        } else {
            keys("of-the-instance")
        })
    }))
    .await;
    let environment = [
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            metadata.endpoint.as_str(),
        ),
        ("AWS_EC2_METADATA_DISABLED", "false"),
    ];
    assert_eq!(world.succeeds(&environment).await, ["of-the-instance"]);
}

#[tokio::test]
async fn a_containers_keys_are_fetched_anew_before_they_expire() {
    let world = World::of(3).await;
    let count = Arc::new(Mutex::new(0));
    let issued = Arc::clone(&count);
    let container = serve(Arc::new(move |head: &str| {
        if !head.contains("authorization: of-the-container\r\n") {
            return Some(refusal("401 Unauthorized", ""));
        }
        let mut issued = issued.lock().expect("no panic");
        *issued += 1;
        Some(keys(&format!("of-the-container-{issued}")))
    }))
    .await;
    world.write("token", "of-the-container");
    let token = world.home.path().join(".aws/token").display().to_string();
    let uri = format!("{}/keys", container.endpoint);
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.as_str()),
    ];
    let ids = [1, 2, 3].map(|number| format!("of-the-container-{number}"));
    assert_eq!(world.succeeds(&environment).await, ids);
}

#[tokio::test]
async fn without_credentials_it_says_what_was_tried_and_the_way_out() {
    let world = World::of(1).await;
    let why = world.refuses(&[]).await;
    let way_out = "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or see \
                   highwater.object.storage.credentials (tried environment: ";
    assert!(why.starts_with(way_out), "{why}");
    for source in [
        "profile default of ",
        "web-identity: ",
        "container: ",
        "instance: ",
    ] {
        assert!(why.contains(&format!("; {source}")), "{source}: {why}");
    }
}

#[tokio::test]
async fn a_profile_that_is_wrong_says_which_and_where() {
    let world = World::of(1).await;
    world.write("credentials", &static_keys("of-the-profile"));
    let why = world.refuses(&[("AWS_PROFILE", "other")]).await;
    let home = world.home.path().display();
    let what = format!(
        "no credentials from profile other of {home}/.aws/credentials and {home}/.aws/config: "
    );
    assert_eq!(why, format!("{what}there is no such profile"));
    world.write("config", "[profile other]\nregion = us-east-1\n");
    let why = world.refuses(&[("AWS_PROFILE", "other")]).await;
    assert_eq!(why, format!("{what}it has no credentials"));
    world.write("config", "\n[default\n");
    let why = world.refuses(&[("TEST_SOURCE", "profile")]).await;
    assert!(why.contains("/.aws/config on line 2"), "{why}");
    let loops = "[profile a]\nrole_arn = arn:aws:iam::0:role/r\nsource_profile = b\n\
                 [profile b]\nrole_arn = arn:aws:iam::0:role/r\nsource_profile = a\n";
    world.write("config", loops);
    let why = world.refuses(&[("TEST_PROFILE", "a")]).await;
    assert!(why.contains("loop"), "{why}");
}
