//! URLs of object stores.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::bucket::Bucket;
use crate::clock::Clock;
use crate::error::Error;
#[cfg(feature = "aws")]
use crate::profile::{self, Profile};

/// Where images are: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `file:///FOLDER`.
///
/// ```
/// use jtp_object_store::{Location, Scheme};
///
/// let location: Location = "s3://photos/2024/Rome".parse()?;
/// assert_eq!(location.scheme(), Scheme::S3);
/// assert_eq!((location.bucket(), location.prefix().as_ref()), ("photos", "2024/Rome"));
/// assert_eq!(location.to_string(), "s3://photos/2024/Rome");
/// assert!(Location::is_url("gs://photos") && !Location::is_url("photos"));
/// # Ok::<(), jtp_object_store::LocationError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    scheme: Scheme,
    bucket: String,
    prefix: Path,
}

/// A backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `s3`: S3 and compatible stores.
    S3,
    /// `gs`: Google Cloud Storage.
    Gcs,
    /// `az`: Azure Blob Storage.
    Azure,
    /// `file`: a folder.
    File,
}

/// Why a text is not the URL of an object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// The scheme is another one.
    #[error(
        "expected s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER"
    )]
    Scheme,
    /// There is no bucket.
    #[error("the URL names no bucket")]
    NoBucket,
    /// `file://` is not followed by an absolute path.
    #[error("expected an absolute path: file:///FOLDER")]
    RelativePath,
    /// The prefix cannot be that of objects.
    #[error("the prefix has an empty component, `.`, `..` or a control character")]
    Prefix,
}

impl Scheme {
    const ALL: [Scheme; 4] = [Scheme::S3, Scheme::Gcs, Scheme::Azure, Scheme::File];

    const fn name(self) -> &'static str {
        match self {
            Scheme::S3 => "s3",
            Scheme::Gcs => "gs",
            Scheme::Azure => "az",
            Scheme::File => "file",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Location {
    /// Whether a text is meant as a URL: it begins with a scheme and `://`.
    #[must_use]
    pub fn is_url(text: &str) -> bool {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| {
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    }

    /// The backend.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket or container, or the folder.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The prefix in the bucket.
    #[must_use]
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Connects to the store, with credentials and settings from the environment variables of the backend, as `object_store`
    /// reads them: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`
    /// and so on. For S3 also from the profile that `AWS_PROFILE` names, if it has keys; variables have precedence. Nothing
    /// is sent yet. Needs tokio, except for its errors.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`]: a variable is missing or invalid, a folder does not exist, or this program was built without the
    /// backend.
    pub fn connect(&self, clock: Arc<dyn Clock>) -> Result<Bucket, Error> {
        let store = self.backend().map_err(|source| Error::Backend {
            action: "use",
            path: self.to_string(),
            source,
        })?;
        Ok(Bucket::new(store, self.prefix.clone(), clock))
    }

    fn backend(&self) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
        match self.scheme {
            #[cfg(feature = "aws")]
            Scheme::S3 => {
                let mut builder = object_store::aws::AmazonS3Builder::from_env();
                let profile = Profile::read(&profile::Process).map_err(|error| {
                    object_store::Error::Generic {
                        store: "S3",
                        source: Box::new(error),
                    }
                })?;
                if let Some(keys) = profile.keys {
                    builder = builder
                        .with_access_key_id(keys.id)
                        .with_secret_access_key(keys.secret);
                    if let Some(token) = keys.session_token {
                        builder = builder.with_token(token);
                    }
                }
                if let Some(region) = profile.region {
                    builder = builder.with_region(region);
                }
                if let Some(endpoint) = &profile.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                // An endpoint without TLS was chosen by its URL.
                let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
                let endpoint = endpoints.iter().find_map(|name| std::env::var(name).ok());
                let endpoint = endpoint.or(profile.endpoint);
                if endpoint.is_some_and(|url| url.starts_with("http://")) {
                    builder = builder.with_allow_http(true);
                }
                let store = builder
                    .with_bucket_name(&self.bucket)
                    .with_retry(retries())
                    .build()?;
                Ok(Arc::new(store))
            }
            #[cfg(feature = "gcp")]
            Scheme::Gcs => {
                let store = object_store::gcp::GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(&self.bucket)
                    .with_retry(retries())
                    .build()?;
                Ok(Arc::new(store))
            }
            #[cfg(feature = "azure")]
            Scheme::Azure => {
                let store = object_store::azure::MicrosoftAzureBuilder::from_env()
                    .with_container_name(&self.bucket)
                    .with_retry(retries())
                    .build()?;
                Ok(Arc::new(store))
            }
            #[cfg(feature = "fs")]
            Scheme::File => {
                if std::fs::metadata(&self.bucket).is_ok_and(|found| !found.is_dir()) {
                    return Err(object_store::Error::NotFound {
                        path: self.bucket.clone(),
                        source: Box::new(std::io::Error::from(std::io::ErrorKind::NotADirectory)),
                    });
                }
                let store = object_store::local::LocalFileSystem::new_with_prefix(&self.bucket)?;
                Ok(Arc::new(store))
            }
            #[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure", feature = "fs")))]
            scheme => Err(object_store::Error::NotSupported {
                source: format!("this program was built without the backend of {scheme}://").into(),
            }),
        }
    }
}

/// Few retries in a short time: the deadlines of [`Bucket`] are for all of them.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn retries() -> object_store::RetryConfig {
    object_store::RetryConfig {
        max_retries: 3,
        retry_timeout: Bucket::DEADLINE,
        ..object_store::RetryConfig::default()
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Location, LocationError> {
        let (scheme, rest) = text.split_once("://").ok_or(LocationError::Scheme)?;
        let scheme = Scheme::ALL
            .into_iter()
            .find(|known| known.name() == scheme)
            .ok_or(LocationError::Scheme)?;
        if scheme == Scheme::File {
            return match rest.starts_with('/') {
                true => Ok(Location {
                    scheme,
                    bucket: rest.to_owned(),
                    prefix: Path::default(),
                }),
                false => Err(LocationError::RelativePath),
            };
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(LocationError::NoBucket);
        }
        Ok(Location {
            scheme,
            bucket: bucket.to_owned(),
            prefix: Path::parse(prefix).map_err(|_| LocationError::Prefix)?,
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.bucket)?;
        match self.prefix.as_ref() {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_bucket_and_a_prefix() {
        for (url, bucket, prefix) in [
            ("s3://b", "b", ""),
            ("s3://b/", "b", ""),
            ("gs://b/a/c/", "b", "a/c"),
            ("az://b/é", "b", "é"),
            ("file:///srv/images", "/srv/images", ""),
        ] {
            let location: Location = url.parse().unwrap();
            assert_eq!(
                (location.bucket(), location.prefix().as_ref()),
                (bucket, prefix)
            );
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for (url, error) in [
            ("http://b/a", LocationError::Scheme),
            ("S3://b", LocationError::Scheme),
            ("images", LocationError::Scheme),
            ("s3://", LocationError::NoBucket),
            ("s3:///a", LocationError::NoBucket),
            ("file://images", LocationError::RelativePath),
            ("s3://b/a//c", LocationError::Prefix),
            ("s3://b/../c", LocationError::Prefix),
        ] {
            assert_eq!(url.parse::<Location>(), Err(error), "{url}");
        }
    }
}
