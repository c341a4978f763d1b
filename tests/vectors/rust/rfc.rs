//! RFC.md shows these vectors and no other bytes.
