//! What somebody has probably meant who has mistyped a word.

/// The candidate that is nearest to the word, if one is near.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase().replace('_', "-");
    candidates
        .into_iter()
        .map(|candidate| {
            let plain = candidate.to_lowercase().replace('_', "-");
            (strsim::damerau_levenshtein(&word, &plain), candidate)
        })
        .filter(|(distance, candidate)| *distance <= candidate.chars().count() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A question after it, for the end of a message; empty where nothing is near.
pub(crate) fn question<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!(": did you mean {near}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_meant() {
        let words = ["workers", "watch", "Max_Memory", "server.js"];
        for (word, meant) in [
            ("wrokers", Some("workers")),
            ("Workers", Some("workers")),
            ("max-memry", Some("Max_Memory")),
            ("servr.js", Some("server.js")),
            ("index.js", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), meant, "{word}");
        }
        assert_eq!(question("wach", words), ": did you mean watch?");
        assert_eq!(question("x", words), "");
    }
}
