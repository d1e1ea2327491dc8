//! HellaSwag's texts without the marks of the site that half of them come from.

use crate::tasks::python::strip;

/// A context or an ending as it is shown to a model. Never trimmed at the end: an ending can start with a space.
pub(in crate::tasks) fn clean(text: &str) -> String {
    let text = strip(text).replace(" [title]", ". ");
    without_brackets(&text).replace("  ", " ")
}

/// Removes each `[…]` on one line, from an opening bracket to the next closing one.
fn without_brackets(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once('[') {
        kept.push_str(before);
        match inside.find([']', '\n']) {
            Some(end) if inside[end..].starts_with(']') => rest = &inside[end + 1..],
            Some(_) | None => {
                kept.push('[');
                rest = inside;
            }
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_brackets_are_removed() {
        let pairs = [
            ("  [header] How to [title] Run . ", " How to. Run ."),
            ("[substeps] Check it", " Check it"),
            ("a [b [c] d] e", "a d] e"),
            ("a   b", "a  b"),
            ("open [ only", "open [ only"),
            (
                "two [lines\nhere] and [one] more",
                "two [lines\nhere] and more",
            ),
        ];
        for (text, expected) in pairs {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }
}
