//! What the figures were measured on, without names of hosts or paths.

use std::fs;

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
    format!(
        "- CPU: {} (family {}, model {}, stepping {}), {cores} cores{}, {} of L2 each\n\
         - Memory: {memory:.0} GiB\n\
         - Linux {}\n",
        field("model name"),
        field("cpu family"),
        field("model\t"),
        field("stepping"),
        if guest { " of a virtual machine" } else { "" },
        cache.trim(),
        kernel.trim().split('-').next().unwrap_or_default(),
    )
}
