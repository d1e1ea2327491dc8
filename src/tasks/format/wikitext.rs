//! WikiText as pages: cut at the titles of articles, and the traces of its tokenization removed.

use crate::tasks::error::FormatError;
use crate::tasks::item::Page;
use crate::tasks::python::{count_words, strip};
use crate::tasks::row::Row;

/// The pages of a split whose rows are its lines: `text`, one line each, empty where the line is blank.
pub(in crate::tasks) fn pages(rows: &[Row<'_>]) -> Result<Vec<Page>, FormatError> {
    let mut pages = Vec::new();
    let mut lines = Vec::new();
    for row in rows {
        let line = row.text("text")?;
        let line = line.strip_suffix('\n').unwrap_or(line);
        if is_title(line) {
            push_page(&mut pages, &lines);
            lines.clear();
        }
        // In the file a blank line is one space, which counts as a byte.
        lines.push(if strip(line).is_empty() { " " } else { line });
    }
    // The file ends in a newline.
    lines.push("");
    push_page(&mut pages, &lines);
    Ok(pages)
}

/// ` = Title = `, and not ` = = Section = = `.
fn is_title(line: &str) -> bool {
    let line = line.replace("= = =", "===").replace("= =", "==");
    let line = strip(&line);
    line.starts_with("= ") && line.ends_with(" =")
}

fn push_page(pages: &mut Vec<Page>, lines: &[&str]) {
    let page = lines.join("\n");
    if strip(&page).is_empty() {
        return;
    }
    pages.push(Page {
        doc_id: pages.len(),
        text: detokenize(&page),
        words: count_words(&page),
        bytes: page.len(),
    });
}

/// Plain text from text whose punctuation stands between spaces; replacements in the harness's order.
fn detokenize(page: &str) -> String {
    let mut text = page.replace("s '", "s'");
    // Kept as the harness has it: the pattern names slashes, and its replacement is no pattern.
    for digit in '0'..='9' {
        text = text.replace(&format!("/' {digit}/"), "/'[0-9]/");
    }
    text = replace_all(text, &[(" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")]);
    for mark in [':', ';', '.', '!', '?', ','] {
        text = text.replace(&format!(" {mark} "), &format!("{mark} "));
    }
    for (open, close) in [('(', ')'), ('[', ']'), ('{', '}'), ('"', '"'), ('\'', '\'')] {
        text = trim_within(&text, open, close);
    }
    replace_all(
        text,
        &[
            ("= = = =", "===="),
            ("= = =", "==="),
            ("= =", "=="),
            (" ° ", "°"),
            (" \n", "\n"),
            ("\n ", "\n"),
            (" N ", " 1 "),
            (" 's", "'s"),
        ],
    )
}

fn replace_all(text: String, pairs: &[(&str, &str)]) -> String {
    pairs
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to))
}

/// Removes the white space inside of brackets, from an opening one to the next closing one.
fn trim_within(text: &str, open: char, close: char) -> String {
    let mut trimmed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside, after)) = rest.split_once(open).and_then(|(before, rest)| {
        let (inside, after) = rest.split_once(close)?;
        Some((before, inside, after))
    }) {
        trimmed.push_str(before);
        trimmed.push(open);
        trimmed.push_str(strip(inside));
        trimmed.push(close);
        rest = after;
    }
    trimmed + rest
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pages_of(lines: &[&str]) -> Vec<Page> {
        let values: Vec<Value> = lines.iter().map(|line| json!({ "text": line })).collect();
        let rows: Vec<Row<'_>> = values
            .iter()
            .enumerate()
            .map(|(doc_id, value)| Row {
                task: "wikitext",
                split: "test",
                doc_id,
                value,
            })
            .collect();
        pages(&rows).unwrap()
    }

    #[test]
    fn pages_begin_at_titles_and_not_at_sections() {
        let pages = pages_of(&[
            "",
            " = First = \n",
            "",
            " = = Section = = \n",
            " One two . \n",
            " = Second = \n",
            " Three \n",
        ]);
        let texts: Vec<&str> = pages.iter().map(|page| page.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                " = First =\n\n== Section ==\nOne two. ",
                " = Second =\nThree\n"
            ]
        );
        // len(re.split(r"\s+", page)), len(page.encode())
        let sizes: Vec<(usize, usize)> = pages.iter().map(|p| (p.words, p.bytes)).collect();
        assert_eq!(sizes, [(13, 43), (6, 21)]);
    }

    #[test]
    fn punctuation_loses_the_spaces_that_tokenization_put_there() {
        // The right side is what the harness makes of the left, mistakes included.
        let pairs = [
            ("a @-@ b 1 @,@ 000 1 @.@ 5", "a-b 1,000 1.5"),
            (
                "one , two ; three : four ! five ? six . ",
                "one, two; three: four! five? six. ",
            ),
            ("( a ( b ) c )", "(a ( b) c )"),
            ("[ a ] { b } ( unclosed", "[a] {b} ( unclosed"),
            ("\" said \" and \" again", "\"said\" and \" again"),
            ("boys ' house , Ann 's", "boys'house, Ann's"),
            ("20 ° N now", "20°N now"),
            ("at N 5", "at 1 5"),
            ("= = = = x = = =", "==== x ==="),
            ("a /' 5/ b", "a /'[0-9]/ b"),
        ];
        for (page, expected) in pairs {
            assert_eq!(detokenize(page), expected, "{page:?}");
        }
    }
}
