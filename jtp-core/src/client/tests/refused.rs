//! Connections that the server refuses.

use super::*;

#[test]
fn a_connection_is_refused_if_it_ends_before_any_answer() {
    let rate_limited = error_frame(ErrorCode::RateLimited, "");
    let list = head(Header::List, 0);
    let refused = |requests: &[Request], input: &[u8]| {
        let mut connection = asked(ClientConfig::new(), requests);
        let _ = receive(&mut connection, input);
        let before = connection.is_refused();
        let _ = connection.receive_eof(NOW);
        (before, connection.is_refused())
    };
    let one = [Request::List];
    let two = [Request::List, Request::List];
    assert_eq!(refused(&one, b""), (true, true));
    assert_eq!(refused(&one, &rate_limited), (true, true));
    // A part of an answer shows that the server serves the connection.
    assert_eq!(refused(&one, b"J"), (false, false));
    assert_eq!(refused(&two, &list), (false, false));
    let limited_later = [&list[..], &rate_limited].concat();
    assert_eq!(refused(&two, &limited_later), (false, false));
    let other_error = error_frame(ErrorCode::ServerError, "");
    assert_eq!(refused(&one, &other_error), (false, false));
    // Silence is normal in WATCH, and nothing was due without a request.
    assert_eq!(refused(&[Request::Watch], b""), (false, false));
    assert_eq!(refused(&[Request::Watch], &rate_limited), (true, true));
    assert_eq!(refused(&[], b""), (false, false));
}
