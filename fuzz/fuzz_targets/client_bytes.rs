#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jtp_fuzz::connections::client_bytes(data));
