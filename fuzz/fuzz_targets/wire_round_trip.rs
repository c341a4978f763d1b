#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jtp_fuzz::wire_round_trip::run(data));
