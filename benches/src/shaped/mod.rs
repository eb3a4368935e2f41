//! Memory that a program shapes itself: homing's bump arenas and pools beside those of other crates, and beside a box for
//! each object from every allocator.

mod arena;
mod keeper;

use std::time::{Duration, Instant};

use crate::summary::measure::{Plan, Row, Timed, in_turns};
use crate::summary::statistics::geometric_mean;
use crate::summary::{self, Options};
use crate::table;

/// One piece of work for several contenders; the first is homing's.
pub struct Contest {
    /// What is compared: `bump` or `pool`.
    pub group: &'static str,
    /// Its name within the group.
    pub name: String,
    /// How many objects a pass makes.
    pub objects: u64,
    /// Who can do it.
    pub contenders: Vec<Contender>,
}

/// One that does it.
pub struct Contender {
    /// Its name, the same in all contests of a group.
    pub name: String,
    /// Makes it ready.
    pub prepare: Box<dyn Fn() -> Box<dyn Timed>>,
}

impl Contender {
    fn new<T: Timed + 'static>(name: impl Into<String>, prepare: impl Fn() -> T + 'static) -> Self {
        Contender { name: name.into(), prepare: Box::new(move || Box::new(prepare())) }
    }
}

/// A pass as a closure.
struct Passes<F>(F);

impl<F: FnMut()> Timed for Passes<F> {
    fn time(&mut self, passes: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..passes {
            self.0();
        }
        start.elapsed()
    }
}

/// All of them. Boxes are those of the allocators asked for, of all if none is.
pub fn contests(options: &Options) -> Vec<Contest> {
    let mut contests = arena::contests();
    contests.extend(keeper::contests(&summary::chosen(&options.peers)));
    contests.retain(|contest| options.only.is_empty() || options.only.iter().any(|group| group == contest.group));
    contests
}

/// Measures, and prints a table for each group to standard output; progress goes to standard error.
pub fn run(options: &Options) {
    let plan = Plan::new(options.quick);
    let contests = contests(options);
    for group in contests.chunk_by(|one, other| one.group == other.group) {
        let mut names: Vec<&str> = Vec::new();
        for name in group.iter().flat_map(|contest| &contest.contenders).map(|contender| contender.name.as_str()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let measured = group.iter().map(|contest| {
            eprintln!("{} {}", contest.group, contest.name);
            let of_name = |name: &&str| contest.contenders.iter().find(|contender| contender.name == *name);
            let timed = names.iter().map(|name| of_name(name).map(|contender| (contender.prepare)()));
            in_turns(format!("{} {}", contest.group, contest.name), contest.objects, timed, &plan)
        });
        let rows: Vec<Row> = measured.collect();
        println!("{}\n", render(&rows, &names, options.markdown));
    }
}

/// The table: ratios to the first contender, whose own time an object stands in the second column.
fn render(rows: &[Row], names: &[&str], markdown: bool) -> comfy_table::Table {
    let mut header = vec!["benchmark".to_owned(), format!("{}, ns", names[0])];
    header.extend(names[1..].iter().map(|name| (*name).to_owned()));
    let mut table = table::new(markdown, header);
    for row in rows {
        let time = row.times[0].as_ref().map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time.nanoseconds));
        let mut cells = vec![row.name.clone(), time];
        cells.extend((1..names.len()).map(|at| table::ratio(row.ratio(at))));
        table.add_row(cells);
    }
    let mut means = vec!["geometric mean".to_owned(), String::new()];
    means.extend((1..names.len()).map(|at| table::ratio(geometric_mean(rows.iter().filter_map(|row| row.ratio(at))))));
    table.add_row(means);
    table
}
