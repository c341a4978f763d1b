//! Asking a server for its catalog and its images.

use crate::Tokio;
pub use jtp_driver::{Error, ImageError};

/// Asks one server, one request after another. See [`jtp_driver::Client`].
pub type Client = jtp_driver::Client<Tokio>;

/// Collects what a [`Client`] is to do. See [`jtp_driver::ClientBuilder`].
pub type ClientBuilder = jtp_driver::ClientBuilder<Tokio>;

/// The images of a request, one after another. See [`jtp_driver::Images`].
pub type Images<'c> = jtp_driver::Images<'c, Tokio>;

/// An image that is coming in. See [`jtp_driver::Incoming`].
pub type Incoming<'a, 'c> = jtp_driver::Incoming<'a, 'c, Tokio>;

/// An image that is coming in, as it travels. See [`jtp_driver::Undecoded`].
pub type Undecoded<'a, 'c> = jtp_driver::Undecoded<'a, 'c, Tokio>;

/// News of new images. See [`jtp_driver::Watch`].
pub type Watch<'c> = jtp_driver::Watch<'c, Tokio>;
