//! Times in which the kernel refuses: by limits that the process sets itself, and by fault injection where it is built
//! in. Nothing here allocates while a storm is on.

use std::time::Duration;

use crate::common::Numbers;

#[derive(Clone, Copy)]
pub enum Storm {
    /// The process may have no more writable memory than so many bytes.
    Data(u64),
    /// The process may have no more address space than so many bytes.
    Addresses(u64),
    /// Calls fail at random.
    #[cfg(feature = "fault-injection")]
    Faults { seed: u64, per_mille: u64 },
}

/// How many there were of each, and how many calls were refused by injection.
#[derive(Default)]
pub struct Count {
    pub limits: u64,
    pub injected: u64,
    pub calls_refused: u64,
}

/// Bytes of address space and of writable memory that the process has (proc(5), statm: the first and the sixth field).
fn sizes() -> (u64, u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has a /proc/self/statm");
    let mut pages = statm.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0) * 4096);
    (pages.next().unwrap_or(0), pages.nth(4).unwrap_or(0))
}

fn limit(what: libc::__rlimit_resource_t, bytes: Option<u64>) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the buffer has the type the calls fill and read.
    unsafe {
        libc::getrlimit(what, &raw mut limit);
        limit.rlim_cur = bytes.map_or(limit.rlim_max, |bytes| bytes.min(limit.rlim_max));
        libc::setrlimit(what, &raw const limit);
    }
}

impl Storm {
    pub fn choose(numbers: &mut Numbers) -> Self {
        let (addresses, data) = sizes();
        let room = numbers.size(32 << 20) as u64;
        #[cfg(feature = "fault-injection")]
        if !crate::allocator::is_system() && numbers.below(3) > 0 {
            return Storm::Faults { seed: numbers.next(), per_mille: [2, 20, 200][numbers.below(3)] };
        }
        if numbers.below(3) == 0 { Storm::Addresses(addresses + room) } else { Storm::Data(data + room) }
    }

    /// Has the kernel refuse for so long.
    pub fn rage(self, time: Duration, count: &mut Count) {
        match self {
            Storm::Data(bytes) => Self::limited(libc::RLIMIT_DATA, bytes, time, count),
            Storm::Addresses(bytes) => Self::limited(libc::RLIMIT_AS, bytes, time, count),
            #[cfg(feature = "fault-injection")]
            Storm::Faults { seed, per_mille } => {
                use homing::fault::{self, Call, When};
                // A place that the kernel made room at, refused, and will not give back is lost: see the library's `os`.
                fault::inject(fault::ALL & !(Call::MoveAfterUnmap as u32), When::Random { seed, per_mille });
                std::thread::sleep(time);
                count.calls_refused += fault::stop().1;
                count.injected += 1;
            }
        }
    }

    fn limited(what: libc::__rlimit_resource_t, bytes: u64, time: Duration, count: &mut Count) {
        limit(what, Some(bytes));
        std::thread::sleep(time);
        limit(what, None);
        count.limits += 1;
    }
}
