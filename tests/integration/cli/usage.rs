//! What the program says of wrong usage, and of its own.

use crate::support::command_line::secateur;

/// What is said of wrong usage.
fn told(args: &[&str]) -> String {
    let output = secateur(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_command_that_lacks_something_says_all_of_it_and_how_it_is_used() {
    let missing = told(&["prune"]);
    for words in ["--model <MODEL>", "--out <DIR>", "Usage: secateur prune"] {
        assert!(missing.contains(words), "{words}: {missing}");
    }
    let commands = told(&[]);
    for words in ["Usage: secateur <COMMAND>", "serve", "prune", "Examples:"] {
        assert!(commands.contains(words), "{words}: {commands}");
    }
}

#[test]
fn a_misspelt_word_is_answered_with_the_one_that_was_meant() {
    for (args, meant) in [
        (&["prnue"][..], "prune"),
        (&["prune", "--modle", "demo"], "--model"),
        (&["serve", "--model-dir", "/"], "--models-dir"),
    ] {
        let unknown = told(args);
        assert!(unknown.contains(&format!("'{meant}'")), "{unknown}");
    }
}

#[test]
fn a_wrong_value_is_answered_with_those_that_are_possible() {
    for (flag, value, words) in [
        ("--method", "wanda2", &["wanda", "magnitude", "ria"][..]),
        ("--pattern", "4:4", &["N:M"]),
        ("--device", "gpu", &["cpu or cuda:N"]),
        ("--threads", "100000", &["1..=1024"]),
        ("--calibration", "pile", &["c4", "wikitext2"]),
        ("--perplexity", "pile", &["c4", "wikitext2"]),
    ] {
        let wrong = told(&["prune", "--model", "demo", "--out", "x", flag, value]);
        assert!(wrong.contains(value) && wrong.contains("--help"), "{wrong}");
        for word in words {
            assert!(wrong.contains(word), "{word}: {wrong}");
        }
    }
    for (flag, value) in [("--memory-bytes", "8GB"), ("--listen", "example.org:80")] {
        let wrong = told(&["serve", flag, value]);
        assert!(wrong.contains("expected"), "{wrong}");
    }
}

#[test]
fn windows_that_are_given_are_not_drawn_as_well() {
    for flag in ["--n-samples", "--seq-len", "--seed"] {
        let given = ["--calibration-ids", "ids.safetensors", flag, "16"];
        let refused = told(&[&["prune", "--model", "demo", "--out", "x"][..], &given].concat());
        assert!(refused.contains(flag), "{refused}");
    }
}

/// The example lines of a command's help.
fn examples(command: &str) -> Vec<String> {
    let help = String::from_utf8(secateur(&[command, "--help"]).stdout).unwrap();
    let lines = help.lines().map(str::trim);
    let examples = lines.filter(|line| line.starts_with("secateur "));
    examples.map(str::to_owned).collect()
}

#[test]
fn the_help_has_groups_and_examples_that_run() {
    let help = String::from_utf8(secateur(&["prune", "--help"]).stdout).unwrap();
    for group in [
        "Pruning:",
        "Calibration:",
        "Measuring:",
        "Running:",
        "Examples:",
    ] {
        assert!(help.contains(&format!("\n{group}\n")), "{group}: {help}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut run = 0;
    // Each needs what those before it made; those with the hub's models are parsed alone.
    for command in ["prune", "evaluate", "compare"] {
        for line in examples(command) {
            let line = if line.contains("--model org/") {
                format!("{line} --help")
            } else {
                line.replace(
                    "text.txt",
                    concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/test.txt"),
                )
            };
            let path = std::path::Path::new(env!("CARGO_BIN_EXE_secateur"))
                .parent()
                .unwrap();
            let output = std::process::Command::new("bash")
                .args(["-c", &format!("PATH={}:$PATH {line}", path.display())])
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
            run += 1;
        }
    }
    assert_eq!(run, 8);
}
