//! The number that an answer to a word problem ends in.

/// What an answer counts as that gives no number.
const INVALID: &str = "[invalid]";

/// The first number in the form of the examples, `#### 18`: the match of `#### (-?[0-9.,]+)`.
pub(in crate::tasks) fn strict(answer: &str) -> &str {
    let is_part = |c: char| matches!(c, '0'..='9' | '.' | ',');
    let found = answer.match_indices("#### ").find_map(|(at, mark)| {
        let rest = &answer[at + mark.len()..];
        let sign = usize::from(rest.starts_with('-'));
        let len = run(&rest[sign..], is_part);
        (len > 0).then(|| &rest[..sign + len])
    });
    found.unwrap_or(INVALID)
}

/// The last number in any form: the last match of `-?[$0-9.,]{2,}`, or where that does not match of `-?[0-9]+`.
pub(in crate::tasks) fn flexible(answer: &str) -> &str {
    let is_part = |c: char| matches!(c, '$' | '0'..='9' | '.' | ',');
    let mut last = INVALID;
    let mut at = 0;
    while let Some(rest) = answer.get(at..).filter(|rest| !rest.is_empty()) {
        let sign = usize::from(rest.starts_with('-'));
        let len = run(&rest[sign..], is_part);
        let is_number = len >= 2 || rest[sign..].starts_with(|c: char| c.is_ascii_digit());
        if is_number {
            last = &rest[..sign + len];
            at += sign + len;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    last
}

/// Bytes of the characters at the start that are part of something. All are ASCII.
fn run(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}

/// Whether an answer is the right one: case, thousands separators, dollars, a full stop at the end and all up to the
/// last `#### ` do not count.
pub(in crate::tasks) fn equal(answer: &str, target: &str) -> bool {
    normal(answer) == normal(target)
}

fn normal(text: &str) -> String {
    let text = text.replace([',', '$'], "");
    let number = text
        .rsplit_once("#### ")
        .map_or(&*text, |(_, number)| number);
    // Of several full stops one goes; a newline may follow it.
    let number = match number.strip_suffix('\n') {
        Some(line) => format!("{}\n", line.strip_suffix('.').unwrap_or(line)),
        None => number.strip_suffix('.').unwrap_or(number).to_owned(),
    };
    number.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strict_number_is_the_first_behind_the_mark() {
        let pairs = [
            ("5 * 2 = 10\n#### 10\n#### 12", "10"),
            ("#### -1,234.50 dollars", "-1,234.50"),
            ("#### none\n#### 7", "7"),
            ("##### 5", "5"),
            ("#### #### 5", "5"),
            ("#### -", INVALID),
            ("####10", INVALID),
            ("10", INVALID),
        ];
        for (answer, expected) in pairs {
            assert_eq!(strict(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn the_flexible_number_is_the_last_in_any_form() {
        let pairs = [
            ("She has 5 apples, he 12.", "12."),
            ("It costs $1,200", "$1,200"),
            ("minus -7 of them", "-7"),
            ("a 5", "5"),
            ("-$ 5 é", "5"),
            ("well, ...", "..."),
            ("--3", "-3"),
            ("5-6", "-6"),
            ("9-", "9"),
            ("nothing, at all.", INVALID),
            ("", INVALID),
        ];
        for (answer, expected) in pairs {
            assert_eq!(flexible(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn answers_are_compared_as_numbers_are_written() {
        assert!(equal("1,200.", "so 1200\n#### 1200"));
        assert!(equal("$18", "#### 18"));
        assert!(!equal("18.0", "#### 18"));
        assert!(!equal("18..", "#### 18."));
        assert!(!equal("18", "#### 18.\n"));
        assert!(!equal(INVALID, "#### 18"));
    }
}
