//! For cargo-fuzz; see `tests/fuzz/main.rs`.
#![no_main]

#[path = "../targets/marks.rs"]
mod marks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| marks::check(data));
