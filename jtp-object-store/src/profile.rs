//! Profiles of AWS: the files `~/.aws/credentials` and `~/.aws/config`, as far as they have keys, a region and an endpoint.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Variables by which a container, Kubernetes or a web identity gives credentials: no profile is needed then.
const OTHER_SOURCES: [&str; 3] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// Settings by which a profile gets credentials from elsewhere, and what that is called.
const UNSUPPORTED: [(&str, &str); 7] = [
    ("sso_session", "single sign-on"),
    ("sso_start_url", "single sign-on"),
    ("role_arn", "an assumed role"),
    ("credential_process", "another program"),
    ("credential_source", "an assumed role"),
    ("web_identity_token_file", "a web identity"),
    ("login_session", "a login"),
];

/// What a profile says, and the environment does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Profile {
    pub(crate) keys: Option<Keys>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) session_token: Option<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Why a profile gives no credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("the AWS profile {name} (AWS_PROFILE) is neither in {} nor in {}", credentials.display(), config.display())]
    Missing {
        name: String,
        credentials: PathBuf,
        config: PathBuf,
    },
    #[error(
        "the AWS profile {name} gets its credentials by {source_name} ({setting}), which is not supported: export them, with \
         \"aws configure export-credentials --profile {name} --format env\" for example"
    )]
    Unsupported {
        name: String,
        setting: &'static str,
        source_name: &'static str,
    },
    #[error("the AWS profile {0} has only one of aws_access_key_id and aws_secret_access_key")]
    HalfOfKeys(String),
    #[error("cannot read the AWS profiles in {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

type Section = BTreeMap<String, String>;

/// The environment: variables, and files.
pub(crate) trait Environment {
    fn variable(&self, name: &str) -> Option<OsString>;
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// That of this process.
#[cfg(feature = "aws")]
pub(crate) struct Process;

#[cfg(feature = "aws")]
impl Environment for Process {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let bytes = std::fs::read(path)?;
        // Comments may have any encoding.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Profile {
    /// Reads the profile that `AWS_PROFILE` names, or the default one. Variables have precedence over it.
    pub(crate) fn read(environment: &impl Environment) -> Result<Profile, ProfileError> {
        let text = |name: &str| environment.variable(name)?.into_string().ok();
        let named = text("AWS_PROFILE").or_else(|| text("AWS_DEFAULT_PROFILE"));
        let name = named.as_deref().unwrap_or("default");
        let file = |variable: &str, default: &str| -> Result<_, ProfileError> {
            let path = environment.variable(variable).map(PathBuf::from);
            let Some(path) = path.or_else(|| Some(home(environment)?.join(".aws").join(default)))
            else {
                return Ok((PathBuf::from(default), BTreeMap::new()));
            };
            match environment.read(&path) {
                Ok(text) => Ok((path, parse(&text))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Ok((path, BTreeMap::new()))
                }
                Err(source) => Err(ProfileError::Unreadable { path, source }),
            }
        };
        let (credentials_path, mut credentials) =
            file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let (config_path, mut config) = file("AWS_CONFIG_FILE", "config")?;
        let from_credentials = credentials.remove(name);
        let from_config = config.remove(&format!("profile {name}"));
        let from_config = from_config.or_else(|| match name {
            "default" => config.remove("default"),
            _ => None,
        });
        if named.is_some() && from_credentials.is_none() && from_config.is_none() {
            return Err(ProfileError::Missing {
                name: name.to_owned(),
                credentials: credentials_path,
                config: config_path,
            });
        }
        // Keys come from one of the files; the one for credentials has precedence.
        let sections = [from_credentials, from_config].map(Option::unwrap_or_default);
        let setting = |key: &str| {
            sections
                .iter()
                .find_map(|section| section.get(key))
                .cloned()
        };
        let has = |name: &str| environment.variable(name).is_some();
        let is_elsewhere =
            has("AWS_ACCESS_KEY_ID") || (named.is_none() && OTHER_SOURCES.into_iter().any(has));
        let keys = match is_elsewhere {
            true => None,
            false => keys(name, &sections)?,
        };
        let has_region = has("AWS_REGION") || has("AWS_DEFAULT_REGION");
        let has_endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        let has_endpoint = has_endpoint.into_iter().any(has);
        let of_services = setting("services").and_then(|services| {
            let section = config.get(&format!("services {services}"))?;
            section.get("s3.endpoint_url").cloned()
        });
        let endpoint = of_services
            .or_else(|| setting("s3.endpoint_url"))
            .or_else(|| setting("endpoint_url"));
        Ok(Profile {
            keys,
            region: setting("region").filter(|_| !has_region),
            endpoint: endpoint.filter(|_| !has_endpoint),
        })
    }
}

fn home(environment: &impl Environment) -> Option<PathBuf> {
    let name = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    environment.variable(name).map(PathBuf::from)
}

fn keys(name: &str, sections: &[Section]) -> Result<Option<Keys>, ProfileError> {
    // A role is assumed with the keys that stand beside it.
    for section in sections {
        let unsupported = UNSUPPORTED
            .iter()
            .find(|(key, _)| section.contains_key(*key));
        if let Some((setting, source_name)) = unsupported {
            return Err(ProfileError::Unsupported {
                name: name.to_owned(),
                setting,
                source_name,
            });
        }
        let get = |key: &str| section.get(key).cloned();
        match (get("aws_access_key_id"), get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                let session_token = get("aws_session_token");
                return Ok(Some(Keys {
                    id,
                    secret,
                    session_token,
                }));
            }
            (None, None) => {}
            _ => return Err(ProfileError::HalfOfKeys(name.to_owned())),
        }
    }
    Ok(None)
}

/// The sections of a file. A setting that is indented below another one, `s3 =` for example, is `s3.NAME`.
fn parse(text: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut section = None;
    let mut parent = String::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split(']').next().unwrap_or_default();
            let words: Vec<&str> = name.split_whitespace().collect();
            let name = words.join(" ").replace(['"', '\''], "");
            sections.entry(name.clone()).or_default();
            (section, parent) = (Some(name), String::new());
            continue;
        }
        let (Some((key, value)), Some(section)) = (trimmed.split_once('='), &section) else {
            continue;
        };
        let key = key.trim().to_lowercase();
        let comment = value.find(" #").or_else(|| value.find(" ;"));
        let value = value.get(..comment.unwrap_or(value.len()));
        let value = value.unwrap_or_default().trim();
        let is_nested = line.starts_with([' ', '\t']) && !parent.is_empty();
        let key = match is_nested {
            true => format!("{parent}.{key}"),
            false => key,
        };
        if !is_nested {
            parent = if value.is_empty() {
                key.clone()
            } else {
                String::new()
            };
        }
        if !value.is_empty() {
            if let Some(section) = sections.get_mut(section) {
                section.insert(key, value.to_owned());
            }
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Simulated {
        variables: BTreeMap<&'static str, &'static str>,
        files: BTreeMap<&'static str, &'static str>,
    }

    impl Environment for Simulated {
        fn variable(&self, name: &str) -> Option<OsString> {
            self.variables.get(name).map(OsString::from)
        }

        fn read(&self, path: &Path) -> io::Result<String> {
            match self.files.get(path.to_str().unwrap()) {
                Some(&"denied") => Err(io::ErrorKind::PermissionDenied.into()),
                Some(text) => Ok((*text).to_owned()),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    const HOME: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };

    fn read(
        variables: &[(&'static str, &'static str)],
        credentials: &'static str,
        config: &'static str,
    ) -> Result<Profile, String> {
        let mut environment = Simulated::default();
        environment
            .variables
            .insert("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        environment.variables.insert("AWS_CONFIG_FILE", "config");
        environment.variables.extend(variables.iter().copied());
        environment.files.insert("credentials", credentials);
        environment.files.insert("config", config);
        Profile::read(&environment).map_err(|error| error.to_string())
    }

    fn keys_of(profile: &Profile) -> Option<(&str, &str, Option<&str>)> {
        let keys = profile.keys.as_ref()?;
        Some((&keys.id, &keys.secret, keys.session_token.as_deref()))
    }

    const CREDENTIALS: &str = "\u{feff}# comment = x\r\n[default]\r\naws_access_key_id = A\r\naws_secret_access_key=a/b+c==\r\n\
        [ work ] ; two\naws_access_key_id=B\nAWS_SECRET_ACCESS_KEY = b # not this\naws_session_token = t\n[half]\naws_access_key_id = C\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\n[profile \"work\"]\nregion=eu-central-1\nservices = local\ns3 =\n  \
        max_concurrent_requests = 4\noutput = json\n[services local]\ns3 =\n  endpoint_url = http://localhost:9000\nec2 =\n  \
        endpoint_url = http://other\n[profile sso]\nsso_session = x\nregion = us-east-2\n[profile role]\nrole_arn = arn\nsource_profile = work\n\
        aws_access_key_id = D\naws_secret_access_key = d\n[profile minio]\nendpoint_url = http://minio\n\
        aws_access_key_id = E\naws_secret_access_key = e\n[profile process]\ncredential_process = x\n[profile region]\nregion = r\n";

    #[test]
    fn a_profile_gives_keys_region_and_endpoint() {
        let default = read(&[], CREDENTIALS, CONFIG).unwrap();
        assert_eq!(keys_of(&default), Some(("A", "a/b+c==", None)));
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        assert_eq!(default.endpoint, None);
        for variable in ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"] {
            let work = read(&[(variable, "work")], CREDENTIALS, CONFIG).unwrap();
            assert_eq!(keys_of(&work), Some(("B", "b", Some("t"))));
            assert_eq!(work.region.as_deref(), Some("eu-central-1"));
            assert_eq!(work.endpoint.as_deref(), Some("http://localhost:9000"));
        }
        let minio = read(&[("AWS_PROFILE", "minio")], "", CONFIG).unwrap();
        assert_eq!(keys_of(&minio), Some(("E", "e", None)));
        assert_eq!(minio.endpoint.as_deref(), Some("http://minio"));
        let region = read(&[("AWS_PROFILE", "region")], "", CONFIG).unwrap();
        assert_eq!((region.keys, region.region.as_deref()), (None, Some("r")));
        assert_eq!(read(&[], "", "").unwrap(), Profile::default());
        assert!(!format!("{minio:?}").contains("secret"));
    }

    #[test]
    fn variables_have_precedence_over_a_profile() {
        let variables = [
            ("AWS_PROFILE", "work"),
            ("AWS_ACCESS_KEY_ID", "X"),
            ("AWS_REGION", "x"),
            ("AWS_ENDPOINT_URL", "http://x"),
        ];
        let profile = read(&variables, CREDENTIALS, CONFIG).unwrap();
        assert_eq!(profile, Profile::default());
        let sso = [("AWS_PROFILE", "sso"), ("AWS_ACCESS_KEY_ID", "X")];
        let sso = read(&sso, CREDENTIALS, CONFIG).unwrap();
        assert_eq!((sso.keys, sso.region.as_deref()), (None, Some("us-east-2")));
        for variable in OTHER_SOURCES {
            let profile = read(&[(variable, "x")], CREDENTIALS, CONFIG).unwrap();
            assert_eq!(profile.keys, None, "{variable}");
            let named = [(variable, "x"), ("AWS_PROFILE", "work")];
            let profile = read(&named, CREDENTIALS, CONFIG).unwrap();
            assert!(profile.keys.is_some(), "{variable}");
        }
    }

    #[test]
    fn profiles_without_keys_say_what_they_need() {
        for (name, words) in [
            (
                "sso",
                [
                    "single sign-on (sso_session)",
                    "export-credentials --profile sso",
                ],
            ),
            ("role", ["an assumed role (role_arn)", "not supported"]),
            (
                "process",
                ["another program (credential_process)", "not supported"],
            ),
            ("half", ["half has only one of", "aws_secret_access_key"]),
            (
                "missing",
                [
                    "missing (AWS_PROFILE) is neither",
                    "in credentials nor in config",
                ],
            ),
        ] {
            let error = read(&[("AWS_PROFILE", name)], CREDENTIALS, CONFIG).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{name}: {error}");
            }
        }
        let error = read(&[], "denied", CONFIG).unwrap_err();
        assert!(error.contains("cannot read the AWS profiles in credentials"));
    }

    #[test]
    fn files_are_those_of_the_home_folder_by_default() {
        let home = if cfg!(windows) { "C:\\u" } else { "/home/u" };
        let path = Path::new(home).join(".aws").join("credentials");
        let mut environment = Simulated::default();
        environment.variables.insert(HOME, home);
        let path = path.to_str().unwrap().to_owned();
        environment.files.insert(path.leak(), CREDENTIALS);
        let profile = Profile::read(&environment).unwrap();
        assert_eq!(keys_of(&profile), Some(("A", "a/b+c==", None)));
        environment.variables.clear();
        assert_eq!(Profile::read(&environment).unwrap(), Profile::default());
    }
}
