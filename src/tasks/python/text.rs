//! What Python's strings do where Rust's do something else.

/// `str.isspace` of one character: Unicode's white space and the four separators U+001C to U+001F.
pub(in crate::tasks) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub(in crate::tasks) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.capitalize()`, but for the four letters such as `ǆ` that have a form of their own for titles.
pub(in crate::tasks) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else {
        return String::new();
    };
    // The small form of a later letter can depend on those before it, so the whole text is lowered.
    let lowered = text.to_lowercase();
    let rest = &lowered[first.to_lowercase().map(char::len_utf8).sum()..];
    let mut capital = first.to_uppercase();
    let head = capital.next().into_iter();
    let tail = capital.flat_map(char::to_lowercase);
    head.chain(tail).chain(rest.chars()).collect()
}

/// `len(re.split(r"\s+", text))`: one more than the runs of white space.
pub(in crate::tasks) fn count_words(text: &str) -> usize {
    let mut within_space = false;
    let runs = text.chars().filter(|&c| {
        let starts = is_space(c) && !within_space;
        within_space = is_space(c);
        starts
    });
    runs.count() + 1
}

/// Moves the white space that ends a context to the front of its continuation.
///
/// A tokenizer that joins a space to the word after it would otherwise see a context that no text has. White space is
/// what Python's `str.rstrip` removes.
pub fn move_trailing_space<'a>(context: &'a str, continuation: &str) -> (&'a str, String) {
    let kept = context.trim_end_matches(is_space);
    (kept, format!("{}{continuation}", &context[kept.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_space_of_a_context_moves_to_its_continuation() {
        let moved = |context| move_trailing_space(context, "word");
        assert_eq!(moved("a b"), ("a b", "word".to_owned()));
        assert_eq!(moved("a b \n"), ("a b", " \nword".to_owned()));
        assert_eq!(moved(" \t"), ("", " \tword".to_owned()));
        assert_eq!(moved(""), ("", "word".to_owned()));
    }

    #[test]
    fn white_space_is_what_python_takes_for_it() {
        // [c for c in map(chr, range(0x110000)) if c.isspace()]
        let spaces: String = ('\0'..=char::MAX).filter(|&c| is_space(c)).collect();
        assert_eq!(
            spaces,
            "\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\
             \u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}"
        );
    }

    #[test]
    fn capitals_are_those_of_python() {
        let pairs = [
            ("", ""),
            ("he Runs. NOW", "He runs. now"),
            ("\"quoted", "\"quoted"),
            ("ßa", "Ssa"),
            ("aΣ", "Aς"),
            ("İX", "İx"),
        ];
        for (text, expected) in pairs {
            assert_eq!(capitalize(text), expected, "{text:?}");
        }
    }

    #[test]
    fn words_are_counted_between_runs_of_white_space() {
        // len(re.split(r"\s+", text))
        let counts = ["", "a", "a  b\n c", " a ", " "].map(count_words);
        assert_eq!(counts, [1, 1, 3, 3, 2]);
    }
}
