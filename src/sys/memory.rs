//! Memory that is given back.

/// Has the allocator give to the system what it keeps free.
pub(crate) fn give_memory_back() {
    // SAFETY: the call takes a number, and touches nothing but what the allocator has free.
    unsafe { libc::malloc_trim(0) };
}

/// Takes this process's code and constants out of its memory: what is used again comes back, from the
/// file's pages, which all processes share.
pub(crate) fn forget_code() {
    let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, length) in unchanged(&mappings) {
        // SAFETY: nobody can write to this mapping of a file, and nobody has: what is read there next is
        // what was there before. The addresses are of this process, of a moment ago; it unmaps no code.
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), length, libc::MADV_DONTNEED)
        };
    }
}

/// Of mappings as in `/proc/self/smaps`, where those begin and how long they are that are private, of a
/// file, not to be written to, and have no page that is not the file's.
pub(super) fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
    let (mut found, mut last) = (Vec::new(), None);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if first == "Anonymous:" {
            found.extend(last.take().filter(|_| words.next() == Some("0")));
        } else if let Some((start, end)) = first.split_once('-') {
            let is_fixed = words.next().is_some_and(|may| !may.contains('w') && may.ends_with('p'));
            let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
            let number = |hex| usize::from_str_radix(hex, 16).ok();
            last = number(start).zip(number(end)).filter(|_| is_fixed && is_file);
            last = last.map(|(start, end)| (start, end.saturating_sub(start)));
        }
    }
    found
}
