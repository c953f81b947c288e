//! What a test does on a machine that lacks something it needs. To skip it is the choice of who runs
//! the tests (`ROUNDSMAN_MAY_SKIP=1`), never of the test.

/// Returns, for the caller to end its test, only if tests may be skipped.
///
/// # Panics
/// Otherwise; `missing` says what is not there, and how to get it.
#[track_caller]
pub(crate) fn may_skip(missing: &str) {
    let may = std::env::var_os("ROUNDSMAN_MAY_SKIP").is_some_and(|value| value == "1");
    assert!(may, "{missing}. To skip such tests: ROUNDSMAN_MAY_SKIP=1");
    eprintln!("SKIPPED: {missing}");
}
