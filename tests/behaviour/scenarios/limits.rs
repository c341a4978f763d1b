//! Limits and refusals.

use jtp_core::wire::request::RequestKind;
use jtp_core::wire::response::ErrorCode;

use crate::suite::script::{Script, png};

crate::suite::each_pair! {
    more_ids_than_allowed, more_requests_than_allowed, refused_by_the_application, refused_request_is_retried,
    a_catalog_of_as_many_entries_as_allowed, a_catalog_of_too_many_entries, a_catalog_of_too_many_bytes,
}

fn album() -> Script {
    Script::of([png("a.png", 20), png("b.png", 10), png("c.png", 0)])
}

/// S8
fn more_ids_than_allowed() -> Script {
    album()
        .setup(|setup| setup.server = setup.server.with_max_have(2))
        .list()
        .batch(["a.png", "b.png", "unknown"])
        .expect_log("the server reports InvalidRequest")
        .expect_log("1: end: BATCH names 3 images, the limit is 2")
}

/// S15: a refused request does not count.
fn more_requests_than_allowed() -> Script {
    album()
        .setup(|setup| {
            setup.rate = Some(2);
            setup.connects = true;
        })
        .list()
        .get(["b.png"])
        .list()
        .list()
        .expect_log("the server reports RateLimited")
        .expect_log("2: end: refused with RateLimited")
}

/// S11
fn refused_by_the_application() -> Script {
    album()
        .setup(|setup| {
            setup.refuse = |head| match head.kind {
                RequestKind::GetById { .. } => Some((ErrorCode::NotFound, "not for you")),
                _ => None,
            };
        })
        .list()
        .get(["a.png"])
        .expect_log("the server reports NotFound: not for you")
}

/// R6 S15
fn refused_request_is_retried() -> Script {
    album()
        .setup(|setup| {
            setup.retries = 1;
            setup.connects = true;
            setup.refuse = |head| match head.kind {
                RequestKind::Batch { .. } => Some((ErrorCode::ServerError, "not now")),
                _ => None,
            };
        })
        .batch(["a.png"])
        .expect_log("2: request BATCH (1) keep-alive")
        .expect_log("the server reports ServerError: not now")
}

/// R3
fn a_catalog_of_as_many_entries_as_allowed() -> Script {
    album()
        .setup(|setup| {
            setup.catalog_limits = Some((3, 1 << 20));
            setup.connects = true;
        })
        .list()
        .get(["a.png"])
        .expect_log("1: request GET_BY_ID (1) keep-alive")
}

/// R3
fn a_catalog_of_too_many_entries() -> Script {
    album()
        .setup(|setup| {
            setup.catalog_limits = Some((2, 1 << 20));
            setup.connects = true;
        })
        .list()
        .get(["a.png"])
        .expect_log("error: catalog too large")
        .expect_log("2: request GET_BY_ID (1) keep-alive")
}

/// R3
fn a_catalog_of_too_many_bytes() -> Script {
    album()
        .setup(|setup| {
            setup.catalog_limits = Some((100, 100));
            setup.connects = true;
        })
        .list()
        .expect_log("error: catalog too large")
}
