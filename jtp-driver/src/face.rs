//! The public names of an adapter, the same for each of them.

/// Declares the public names of an adapter for a runtime type: modules `client`, `server` and `store`, and what stands
/// at the crate's root. The adapter has features `client`, `server` and `tls` as this crate does.
#[macro_export]
#[doc(hidden)]
macro_rules! adapter {
    ($runtime:ty) => {
        /// Requesting a server's catalog and images.
        #[cfg(feature = "client")]
        pub mod client {
            #[allow(unused_imports)]
            use super::*;
            $crate::adapter_client_types!();

            /// Makes requests to one server, one after another. See [`jtp_driver::Client`]($crate::Client).
            pub type Client = $crate::client::Client<$runtime>;

            /// Configures a [`Client`]. See [`jtp_driver::ClientBuilder`]($crate::ClientBuilder).
            pub type ClientBuilder = $crate::client::ClientBuilder<$runtime>;

            /// The entries of a catalog, one at a time. See [`jtp_driver::Entries`]($crate::Entries).
            pub type Entries<'c> = $crate::client::Entries<'c, $runtime>;

            /// The images of a request. See [`jtp_driver::Images`]($crate::Images).
            pub type Images<'c> = $crate::client::Images<'c, $runtime>;

            /// An image that is arriving. See [`jtp_driver::Incoming`]($crate::Incoming).
            pub type Incoming<'a, 'c> = $crate::client::Incoming<'a, 'c, $runtime>;

            /// An image that is arriving, as it travels. See [`jtp_driver::Undecoded`]($crate::Undecoded).
            pub type Undecoded<'a, 'c> = $crate::client::Undecoded<'a, 'c, $runtime>;

            /// The stream of new images. See [`jtp_driver::Watch`]($crate::Watch).
            pub type Watch<'c> = $crate::client::Watch<'c, $runtime>;
        }

        /// Serving a store.
        #[cfg(feature = "server")]
        pub mod server {
            #[allow(unused_imports)]
            use super::*;
            $crate::adapter_server_types!();

            /// Serves a store over TCP, TLS, or any stream. See [`jtp_driver::Server`]($crate::Server).
            pub type Server = $crate::server::Server<$runtime>;

            /// Configures a [`Server`]. See [`jtp_driver::ServerBuilder`]($crate::ServerBuilder).
            pub type ServerBuilder = $crate::server::ServerBuilder<$runtime>;
        }

        #[cfg(feature = "client")]
        pub use client::{
            Client, ClientBuilder, Entries, Error, ImageError, Images, Incoming, Undecoded, Watch,
        };
        #[cfg(feature = "server")]
        pub use server::{Decision, Peer, Request, Server, ServerBuilder};
        $crate::adapter_exports!();
    };
}

/// The types of module `client` that are the same on every runtime.
#[macro_export]
#[doc(hidden)]
macro_rules! adapter_client_types {
    () => {
        pub use $crate::client::{Error, ImageError, ReplicaError};
        pub use $crate::jtp_core::client::{
            CatalogEntry, ClientConfig, ClientError, HaveSet, HaveSetTooLarge, PeerError,
            ServerError,
        };
        pub use $crate::jtp_core::{ImageFault, Verified};
    };
}

/// The types of module `server` that are the same on every runtime.
#[macro_export]
#[doc(hidden)]
macro_rules! adapter_server_types {
    () => {
        #[cfg(feature = "tls")]
        pub use $crate::TlsPeer;
        pub use $crate::jtp_core::server::{
            CloseReason, CompletedRequest, RequestOutcome, ServerConfig,
        };
        pub use $crate::jtp_core::wire::request::{RequestHead, RequestKind};
        pub use $crate::jtp_core::wire::response::ErrorCode;
        pub use $crate::server::{
            ConnectionEnd, Counters, Decision, Observer, Peer, PlainPolicy, Request,
            RequestSummary, limits, proxy,
        };
    };
}

/// What every adapter passes on, whatever its own types are.
#[macro_export]
#[doc(hidden)]
macro_rules! adapter_exports {
    () => {
        #[cfg(feature = "server")]
        pub use $crate::store;
        pub use $crate::{ALPN, ShutdownSignal, bytes, jtp_core};
        #[cfg(feature = "tls")]
        pub use $crate::{rustls, tls};
    };
}
