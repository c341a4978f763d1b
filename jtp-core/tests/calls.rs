//! Any order of calls is valid, on either state machine and for any input: nothing panics, and the invariants of
//! a connection hold after every call.

#[path = "calls/mod.rs"]
mod machines;

use proptest::prelude::*;

/// A random function that reads `numbers` and returns 0 after the last.
fn rng(numbers: Vec<u32>) -> impl FnMut(u32) -> u32 {
    let mut numbers = numbers.into_iter();
    move |limit| numbers.next().unwrap_or(0) % limit.max(1)
}

fn numbers() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(any::<u32>(), 0..900)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn s11_c1_any_order_of_calls_on_a_server_is_valid(numbers in numbers(), steps in 0u32..300) {
        machines::server::run(steps, &mut rng(numbers));
    }

    #[test]
    fn r1_r2_any_order_of_calls_on_a_client_is_valid(numbers in numbers(), steps in 0u32..300) {
        machines::client::run(steps, &mut rng(numbers));
    }
}
