//! "did you mean": the known name that is nearest to an unknown one. It never changes what was given.

/// Names less alike than this are not worth suggesting.
const ALIKE_MIN: f64 = 0.6;
/// How alike two keys count that differ in their section alone.
const SAME_LEAF: f64 = 0.8;

/// The known name that is most like `unknown`, if any is.
pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (alike(unknown, name), name))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn alike(a: &str, b: &str) -> f64 {
    let whole = strsim::normalized_damerau_levenshtein(a, b);
    if leaf(a) == leaf(b) {
        whole.max(SAME_LEAF)
    } else {
        whole
    }
}

fn leaf(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
