//! The table and the chart, from what criterion kept.

use crate::clock::sleep_costs;
use crate::subjects::Subjects;
use ringloop_benches::chart::Chart;
use ringloop_benches::machine;
use ringloop_benches::table::{Table, number};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

/// The median of criterion's estimates, in nanoseconds; NaN if it was not measured.
fn median(kept: &Path, subject: &str, runtime: &str) -> f64 {
    let file = ["new", "estimates.json"]
        .iter()
        .collect::<std::path::PathBuf>();
    // A function's id with a slash becomes one directory, a group's two.
    let flat = kept.join(format!("{subject}_{runtime}")).join(&file);
    let nested = kept.join(subject).join(runtime).join(&file);
    fs::read_to_string(flat)
        .or_else(|_| fs::read_to_string(nested))
        .ok()
        .and_then(|text| {
            let (_, rest) = text.split_once("\"median\":")?;
            let (_, rest) = rest.split_once("\"point_estimate\":")?;
            rest.split([',', '}']).next()?.trim().parse().ok()
        })
        .unwrap_or(f64::NAN)
}

/// Writes them to `out`; `part` says what was left out, if something was.
pub fn write(kept: &Path, subjects: &Subjects, out: &Path, part: Option<&str>) -> io::Result<()> {
    let mut table = Table::new(std::iter::once("ns").chain(subjects.runtimes.iter().copied()));
    let mut groups = Vec::new();
    for subject in subjects.all {
        let each: Vec<f64> = subjects
            .runtimes
            .iter()
            .map(|runtime| median(kept, subject.id, runtime) / subject.per_iteration as f64)
            .collect();
        table.row(std::iter::once(subject.name.to_owned()).chain(each.iter().copied().map(number)));
        if each.len() > 1 {
            let ratios = each[1..].iter().map(|other| other / each[0]).collect();
            groups.push((subject.name.to_owned(), ratios));
        }
    }
    table.row(
        std::iter::once("mean lateness of those timers, µs".to_owned())
            .chain(subjects.lateness.iter().copied().map(number)),
    );
    let table = table.markdown();
    println!("\n{table}");
    fs::create_dir_all(out)?;
    let part = part.map_or(String::new(), |part| format!("- {part}\n"));
    let sleep = format!(
        "- One sleep of a thread for 50 µs: {:.1} µs of its CPU time\n",
        sleep_costs(Duration::from_micros(50)).as_secs_f64() * 1e6
    );
    fs::write(
        out.join("micro-machine.md"),
        format!("{}{sleep}{part}", machine::describe()),
    )?;
    fs::write(out.join("micro.md"), table)?;
    if subjects.runtimes.len() > 1 {
        groups.retain(|(_, ratios): &(String, Vec<f64>)| {
            ratios.iter().any(|ratio| ratio.is_finite())
        });
        let chart = Chart {
            title: format!("Cost, {} = 1", subjects.runtimes[0]),
            series: subjects.runtimes[1..]
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            groups,
            range: (0.0, 10.0),
        };
        fs::write(out.join("micro.svg"), chart.svg())?;
    }
    println!("written to {}", out.display());
    Ok(())
}
