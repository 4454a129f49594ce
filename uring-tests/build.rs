//! Lets tests know whether a sanitizer looks (`cfg!(sanitizer)`): the compiler tells only itself.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(sanitizer)");
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if flags.contains("sanitizer=") {
        println!("cargo::rustc-cfg=sanitizer");
    }
}
