//! Every corpus. To add one, write its row and name it in [`CORPORA`].

use super::corpus::{Corpus, Excerpt, Home, HubSplit, Part};

/// Every corpus, in the order of capabilities and messages.
pub(super) const CORPORA: &[&Corpus] = &[&C4, &WIKITEXT2, &DEMO];

/// The files that the Wanda paper's code takes (arXiv 2306.11695): 256 windows of 1100 documents, a space between them.
pub static C4: Corpus = Corpus {
    name: "c4",
    doc: "C4, English.",
    home: Home::DataDir,
    calibration: Part {
        files: &[
            "c4/en_train.jsonl",
            "c4/en_train.jsonl.gz",
            "c4/en_train_first1000.jsonl.gz",
        ],
        hub: Some(c4(&["en/c4-train.00000-of-01024.json.gz"])),
    },
    evaluation: Part {
        files: &["c4/en_validation.jsonl", "c4/en_validation.jsonl.gz"],
        hub: Some(c4(&["en/c4-validation.00000-of-00008.json.gz"])),
    },
    excerpt: Excerpt {
        separator: " ",
        documents: Some(1100),
        windows: Some(256),
    },
    max_tokens: None,
};

/// The test part of [`WIKITEXT2`] on the hub.
pub const WIKITEXT2_TEST: HubSplit = wikitext(&["wikitext-2-raw-v1/test-00000-of-00001.parquet"]);

/// As the Wanda paper's code takes it.
pub static WIKITEXT2: Corpus = Corpus {
    name: "wikitext2",
    doc: "WikiText-2 raw.",
    home: Home::DataDir,
    calibration: Part {
        files: &["wikitext2/wiki.train.raw", "wikitext2/wiki.valid.raw"],
        hub: Some(wikitext(&[
            "wikitext-2-raw-v1/train-00000-of-00001.parquet",
        ])),
    },
    evaluation: Part {
        files: &["wikitext2/wiki.test.raw"],
        hub: Some(WIKITEXT2_TEST),
    },
    excerpt: Excerpt::WHOLE,
    max_tokens: None,
};

/// The text that comes with the program.
pub static DEMO: Corpus = Corpus {
    name: "demo",
    doc: "The bundled demo text.",
    home: Home::Bundled,
    calibration: Part {
        files: &["text/calibration.txt"],
        hub: None,
    },
    evaluation: Part {
        files: &["text/test.txt"],
        hub: None,
    },
    excerpt: Excerpt::WHOLE,
    // Its bytes: no token is shorter.
    max_tokens: Some(100_468),
};

const fn c4(files: &'static [&'static str]) -> HubSplit {
    HubSplit {
        repo: "allenai/c4",
        revision: "1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
        files,
    }
}

const fn wikitext(files: &'static [&'static str]) -> HubSplit {
    HubSplit {
        repo: "Salesforce/wikitext",
        revision: "b08601e04326c79dfdd32d625aee71d232d685c3",
        files,
    }
}
