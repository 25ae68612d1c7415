//! Has the linker put side by side what a worker runs (`worker/hot.ld`).

fn main() {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../worker/hot.ld");
    println!("cargo::rerun-if-changed={FILE}");
    // Cargo tells a build script everything by its environment.
    #[allow(clippy::disallowed_methods)]
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    // A linker script is a matter of ELF linkers, and of programs that are optimised.
    if of("CARGO_CFG_TARGET_OS") == "linux" && of("PROFILE") == "release" {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{FILE}");
    }
}
