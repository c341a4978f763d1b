#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jtp_fuzz::client_chunks::run(data));
