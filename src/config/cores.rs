//! The number of cores that `workers = "auto"` stands for.

use std::fs;
use std::path::Path;

/// One per core that services of this machine (or container) may use.
///
/// Read from what every process of the machine reads alike: the generator, the front and the
/// workers each resolve `"auto"` on their own and must come to the same number, whatever
/// `CPUQuota=` or `CPUAffinity=` their own units have.
pub(crate) fn usable(root: &Path) -> usize {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let listed = read("sys/fs/cgroup/cpuset.cpus.effective")
        .and_then(|list| count(&list))
        .or_else(|| read("sys/devices/system/cpu/online").and_then(|list| count(&list)));
    let quota = read("sys/fs/cgroup/cpu.max").and_then(|quota| whole_cores(&quota));
    match (listed, quota) {
        (Some(listed), Some(quota)) => listed.min(quota),
        (Some(cores), None) | (None, Some(cores)) => cores,
        (None, None) => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Length of a list in the kernel's form, `0-3,8`.
fn count(list: &str) -> Option<usize> {
    let length = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    let total = list
        .trim()
        .split(',')
        .map(length)
        .try_fold(0_usize, |sum, length| sum.checked_add(length?))?;
    (total > 0).then_some(total)
}

/// `cpu.max`: quota and period in microseconds, or `max` for no quota.
fn whole_cores(quota: &str) -> Option<usize> {
    let (quota, period) = quota.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<usize>().ok()?, period.parse::<usize>().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_counted() {
        assert_eq!(count("0-3,8\n"), Some(5));
        assert_eq!(count("2"), Some(1));
        for bad in ["", "3-1", "a", "0-", "0-18446744073709551615", "1,,2"] {
            assert_eq!(count(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_quota_counts_as_the_cores_it_fills_at_least_partly() {
        assert_eq!(whole_cores("150000 100000\n"), Some(2));
        assert_eq!(whole_cores("50000 100000"), Some(1));
        assert_eq!(whole_cores("max 100000"), None);
        assert_eq!(whole_cores("1 0"), None);
    }
}
