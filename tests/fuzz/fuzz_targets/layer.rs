//! For cargo-fuzz; see `tests/fuzz/main.rs`.
#![no_main]

#[path = "../targets/layer.rs"]
mod layer;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| layer::check(data));

// A header with a wrong check sum is all that would be seen without this.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, _seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    layer::mend(&mut data[..size]);
    size
});
