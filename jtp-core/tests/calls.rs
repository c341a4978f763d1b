//! Any order of calls is valid, on either machine and whatever its peer sends: nothing panics, and what a
//! connection promises holds after every call.

#[path = "calls/mod.rs"]
mod machines;

use proptest::prelude::*;

/// Dice from numbers, 0 once they are used up.
fn dice(numbers: Vec<u32>) -> impl FnMut(u32) -> u32 {
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
        machines::server::play(steps, &mut dice(numbers));
    }

    #[test]
    fn r1_r2_any_order_of_calls_on_a_client_is_valid(numbers in numbers(), steps in 0u32..300) {
        machines::client::play(steps, &mut dice(numbers));
    }
}
