//! endless
