//! What memory there is to be had now, by the kernel's files: so that nobody obtains more than that in advance.

use core::ffi::CStr;

use super::NodeId;
use super::sysfs::{Kernel, Source, memory_of, number_after};
use crate::arith;
use crate::os::{self, fault};

/// Bytes that can be had now without anybody being killed for it: on that node, if one is named, of what the machine has
/// left, and of what the control groups have left that the process is in. `None` where nothing of it is known.
pub(crate) fn available(node: Option<NodeId>) -> Option<usize> {
    let pretended = fault::pretended_memory().map(|bytes| bytes.saturating_sub(os::resident_bytes().unwrap_or(0)));
    let machine = pretended.or_else(|| of_machine(&Kernel));
    let node = node.and_then(memory_of).map(|memory| memory.free);
    [machine, node, of_groups(&Kernel)].into_iter().flatten().min()
}

/// What the kernel guesses new programs can have without swapping (proc_meminfo(5)).
fn of_machine(source: &impl Source) -> Option<usize> {
    let mut buffer = [0_u8; 256];
    let read = source.read(c"/proc/meminfo", &mut buffer)?;
    let text = buffer.get(..read)?;
    let kib = number_after(text, b"MemAvailable:").or_else(|| number_after(text, b"MemFree:"))?;
    arith::times(kib, 1024)
}

/// The files of one kind of control groups.
struct Groups {
    /// Where their folders are.
    root: &'static [u8],
    /// The file of the bytes that a group may have, and of those that it has.
    limit: &'static [u8],
    used: &'static [u8],
    /// What stands before the bytes, in `/memory.stat`, that it has of files not read lately, which it gives up first.
    reclaimable: &'static [u8],
}

/// Version 2 (Linux, Documentation/admin-guide/cgroup-v2.rst).
const UNIFIED: Groups = Groups {
    root: b"/sys/fs/cgroup",
    limit: b"/memory.max",
    used: b"/memory.current",
    reclaimable: b"\ninactive_file ",
};

/// Version 1 (Documentation/admin-guide/cgroup-v1/memory.rst).
const LEGACY: Groups = Groups {
    root: b"/sys/fs/cgroup/memory",
    limit: b"/memory.limit_in_bytes",
    used: b"/memory.usage_in_bytes",
    reclaimable: b"\ntotal_inactive_file ",
};

/// The least that any of the process's control groups has left.
fn of_groups(source: &impl Source) -> Option<usize> {
    let mut buffer = [0_u8; 1024];
    let read = source.read(c"/proc/self/cgroup", &mut buffer)?;
    let lines = buffer.get(..read)?.split(|byte| *byte == b'\n');
    // A line is a number, controllers and a path (cgroups(7)).
    lines
        .filter_map(|line| {
            let mut fields = line.splitn(3, |byte| *byte == b':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            if number == b"0" && controllers.is_empty() {
                return of_path(source, &UNIFIED, path);
            }
            let is_memory = controllers.split(|byte| *byte == b',').any(|controller| controller == b"memory");
            is_memory.then(|| of_path(source, &LEGACY, path)).flatten()
        })
        .min()
}

/// The least that the group of that path and those it is in have left. In a container, where not all of the path can be
/// seen, the root is the container's own group.
fn of_path(source: &impl Source, groups: &Groups, path: &[u8]) -> Option<usize> {
    let parents = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').filter_map(|(at, _)| path.get(..at));
    let own = Some(path).filter(|path| *path != b"/");
    parents.chain(own).filter_map(|path| of_group(source, groups, path)).min()
}

fn of_group(source: &impl Source, groups: &Groups, path: &[u8]) -> Option<usize> {
    let mut buffer = [0_u8; 1024];
    let mut number_in = |file: &[u8], after: &[u8]| {
        let read = read_of_group(source, &[groups.root, path, file], &mut buffer)?;
        number_after(buffer.get(..read)?, after)
    };
    // A group without a limit says `max`.
    let limit = number_in(groups.limit, b"")?;
    let used = number_in(groups.used, b"")?;
    let reclaimable = number_in(b"/memory.stat", groups.reclaimable).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
}

/// Reads the file whose path the parts make up, if that is not too long.
fn read_of_group(source: &impl Source, parts: &[&[u8]], buffer: &mut [u8]) -> Option<usize> {
    const LONGEST: usize = 512;
    let mut path = [0_u8; LONGEST];
    let length = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    if length >= LONGEST {
        return None;
    }
    // All but the last byte, which stays zero.
    path.iter_mut().take(LONGEST - 1).zip(parts.iter().copied().flatten()).for_each(|(place, byte)| *place = *byte);
    // SAFETY: a zero byte ends the path, the array's last at the latest.
    source.read(unsafe { CStr::from_ptr(path.as_ptr().cast()) }, buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files(&'static [(&'static str, &'static str)]);

    impl Source for Files {
        fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
            let (_, text) = self.0.iter().find(|(name, _)| path.to_str() == Ok(name))?;
            let length = text.len().min(buffer.len());
            buffer[..length].copy_from_slice(&text.as_bytes()[..length]);
            Some(length)
        }
    }

    #[test]
    fn what_the_machine_has_left_is_read_in_bytes() {
        let read = |text| of_machine(&Files(vec![("/proc/meminfo", text)].leak()));
        let text = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    3000 kB\n";
        assert_eq!(read(text), Some(3000 << 10));
        assert_eq!(
            read("MemTotal: 16000 kB\nMemFree: 1000 kB\nBuffers: 5 kB\n"),
            Some(1000 << 10),
            "before Linux 3.14"
        );
        assert_eq!(read("MemAvailable: lots\n"), None);
        assert_eq!(read("MemAvailable: 99999999999999999999999 kB\n"), None);
        assert_eq!(of_machine(&Files(&[])), None);
    }

    #[test]
    fn the_tightest_of_nested_control_groups_counts_and_its_old_files_are_no_hindrance() {
        let files = Files(&[
            ("/proc/self/cgroup", "0::/outer/inner/leaf\n"),
            ("/sys/fs/cgroup/outer/memory.max", "1000000\n"),
            ("/sys/fs/cgroup/outer/memory.current", "900000\n"),
            ("/sys/fs/cgroup/outer/memory.stat", "anon 5\nfile 70000\nactive_file 9\ninactive_file 60000\n"),
            ("/sys/fs/cgroup/outer/inner/memory.max", "max\n"),
            ("/sys/fs/cgroup/outer/inner/memory.current", "900000\n"),
            ("/sys/fs/cgroup/outer/inner/leaf/memory.max", "500000\n"),
            ("/sys/fs/cgroup/outer/inner/leaf/memory.current", "100000\n"),
        ]);
        assert_eq!(of_groups(&files), Some(160_000));
    }

    #[test]
    fn in_a_container_that_sees_its_group_as_the_root_the_roots_limit_counts() {
        let files = Files(&[
            ("/proc/self/cgroup", "1:name=systemd:/\n0::/docker/0123abcd\n"),
            ("/sys/fs/cgroup/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory.current", "1001\n"),
        ]);
        assert_eq!(of_groups(&files), Some(0));
        let files = Files(&[
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory.current", "300\n"),
        ]);
        assert_eq!(of_groups(&files), Some(700));
    }

    #[test]
    fn control_groups_of_the_first_version_are_known_by_their_controller() {
        let files = Files(&[
            ("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:hugetlb,memory:/a/b\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n"),
            ("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "4000\n"),
            ("/sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "3500\n"),
            ("/sys/fs/cgroup/memory/a/b/memory.stat", "cache 7\ninactive_file 1\ntotal_inactive_file 100\n"),
        ]);
        assert_eq!(of_groups(&files), Some(600));
    }

    #[test]
    fn no_nonsense_in_the_files_is_taken_for_a_limit() {
        for text in ["", "\n", ":::\n", "0:\n", "0::\n", "4:memory\n", "0::no slash\n", "0::/x\0y\n"] {
            let files = Files(vec![("/proc/self/cgroup", text)].leak());
            assert_eq!(of_groups(&files), None, "{text:?}");
        }
        let path = format!("0::/{}\n", "x".repeat(600));
        let files = [
            ("/proc/self/cgroup", &*path.leak()),
            ("/sys/fs/cgroup/memory.max", "7\n"),
            ("/sys/fs/cgroup/memory.current", "2\n"),
        ];
        assert_eq!(of_groups(&Files(files.to_vec().leak())), Some(5), "a path too long to follow leaves the root");
    }
}
