//! What the figures were measured on and with, without names of hosts or paths.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

/// What the measured programs were built from.
const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
/// Whose versions matter.
const PACKAGES: [&str; 8] = [
    "ringloop", "io-uring", "tokio", "monoio", "compio", "glommio", "smol", "httparse",
];

/// The load average of a minute when the measurement began.
static LOAD: OnceLock<String> = OnceLock::new();

/// To be called before anything is measured: notes what else the machine has to do.
pub fn note_load() {
    let average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    // Only the first call counts.
    let _ = LOAD.set(average.split(' ').next().unwrap_or_default().to_owned());
}

/// The version that the lock file names; the newest, where others bring an older one along.
fn version(package: &str) -> Option<&'static str> {
    let (_, rest) = LOCK.rsplit_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split('"').next()
}

/// Names and versions of what was measured, and of the compiler.
fn versions() -> String {
    let packages: Vec<String> = PACKAGES
        .iter()
        .filter_map(|name| Some(format!("{name} {}", version(name)?)))
        .collect();
    let compiler = Command::new("rustc").arg("--version").output();
    let compiler = compiler
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let compiler = compiler.split('(').next().unwrap_or_default().trim();
    format!("{}; {compiler}", packages.join(", "))
}

/// One line for each fact, as a Markdown list.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        cpuinfo
            .lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split(':').nth(1))
            .map_or("unknown", str::trim)
    };
    let cores = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let guest = field("flags").split(' ').any(|flag| flag == "hypervisor");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            let kib: u64 = line
                .strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()?;
            Some(kib as f64 / 1024.0 / 1024.0)
        })
        .unwrap_or(0.0);
    let cache = fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index2/size")
        .unwrap_or_else(|_| "unknown".to_owned());
    let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let governor = governor.map_or("not visible".to_owned(), |name| name.trim().to_owned());
    format!(
        "- CPU: {} (family {}, model {}, stepping {}), {cores} cores{}, {} of L2 each; \
         frequency governor: {governor}\n\
         - Memory: {memory:.0} GiB\n\
         - Linux {}\n\
         - {}\n\
         - Load average of the minute before: {}\n",
        field("model name"),
        field("cpu family"),
        field("model\t"),
        field("stepping"),
        if guest { " of a virtual machine" } else { "" },
        cache.trim(),
        kernel.trim().split('-').next().unwrap_or_default(),
        versions(),
        LOAD.get().map_or("not noted", String::as_str),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_names_the_version_of_what_is_compared() {
        assert_eq!(version("ringloop"), Some(env!("CARGO_PKG_VERSION")));
        assert!(version("io-uring").is_some_and(|version| version.starts_with("0.7.")));
        for name in PACKAGES {
            assert!(version(name).is_some(), "{name}");
        }
        assert_eq!(version("ringloo"), None);
    }
}
