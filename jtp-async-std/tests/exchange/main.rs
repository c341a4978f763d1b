//! The same tests on async-std and on smol, and both in one program.

#[cfg(feature = "smol")]
mod executor;
#[cfg(feature = "async-std")]
mod on_async_std;
#[cfg(feature = "smol")]
mod on_smol;
mod stream;

#[cfg(all(feature = "async-std", feature = "smol"))]
mod both;
