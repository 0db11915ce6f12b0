//! The known word that a misspelt one most likely means.

/// The candidate most like `word`.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|c| (strsim::jaro_winkler(word, c), c));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}
