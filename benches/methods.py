#!/usr/bin/env python3
"""Prunes a model by every recipe and setting, and prints one Markdown table for each setting.

    cargo build --release
    benches/methods.py --model DIR --calibration-ids FILE --eval-file FILE --eval-seq-len 512 --eval-windows 60

What is measured goes to secateur as it is (--tasks seven --limit 100 as well). Results are kept in --results, one line
each, and not measured again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

RECIPES = [
    ["magnitude"], ["wanda"], ["ria"], ["sparsegpt"], ["alps"],
    ["wanda", "--refine", "swaps"],
    ["magnitude", "--refit"], ["wanda", "--refit"], ["ria", "--refit"], ["sparsegpt", "--refit"],
    ["wanda", "--refine", "swaps", "--refit"], ["ria", "--refine", "swaps", "--refit"],
    ["wanda", "--refit", "--propagation", "paired"], ["sparsegpt", "--refit", "--propagation", "paired"],
    ["wanda", "--refine", "swaps", "--refit", "--propagation", "paired"], ["alps", "--propagation", "paired"],
]
SETTINGS = {
    "50 %": ["--sparsity", "0.5"],
    "60 %": ["--sparsity", "0.6"],
    "70 %": ["--sparsity", "0.7"],
    "2:4": ["--pattern", "2:4"],
}


def name_of(recipe):
    return " + ".join(word.removeprefix("--") for word in recipe if word not in ("--refine", "--propagation"))


def measure(binary, model, recipe, setting, arguments):
    """One run of `secateur prune`: its manifest, and the CPU seconds of the whole process."""
    with tempfile.TemporaryDirectory() as directory:
        out = os.path.join(directory, "out")
        command = [binary, "prune", "--model", model, "--method", *recipe, *SETTINGS[setting], "--out", out, "--json"]
        child = subprocess.Popen(command + arguments, stdout=subprocess.PIPE)
        text = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} ended with {status}")
    manifest = json.loads(text)
    errors = [linear["layer_error"] for linear in manifest["linears"]]
    perplexity = manifest["results"]["perplexity"][0]
    return {
        "sparsity": manifest["sparsity"]["achieved"],
        "layer_error": sum(errors) / len(errors) if None not in errors else None,
        "before": perplexity["before"],
        "after": perplexity["after"],
        "mean": manifest["results"].get("mean"),
        "pruning_s": manifest["timings_s"]["pruning"],
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": manifest["peak_rss_bytes"] / 2**20,
    }


def known(path, run):
    """What was measured with the same program on the same model in the same way."""
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    return {(row["recipe"], row["setting"]): row for row in rows if row["run"] == run}


def accuracy(mean):
    """The mean of the tasks, with the interval of what was lost."""
    if not mean:
        return ""
    text = f"{100 * mean['after']['value']:.1f} %"
    lost = mean.get("difference")
    return text if lost is None else f"{text} ({100 * lost['low']:+.1f} to {100 * lost['high']:+.1f})"


def table(setting, rows):
    rows = sorted((row for row in rows if row["setting"] == setting), key=lambda row: row["after"])
    if not rows:
        return
    print(f"\n### {setting} (dense {rows[0]['before']:.2f})\n")
    print("| recipe | perplexity | mean of the tasks | mean layer error | pruning, s | CPU, s | peak, MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        error = f"{row['layer_error']:.4f}" if row["layer_error"] is not None else ""
        numbers = f"{row['pruning_s']:.0f} | {row['cpu_s']:.0f} | {row['peak_mib']:.0f}"
        print(f"| {row['recipe']} | {row['after']:.2f} | {accuracy(row['mean'])} | {error} | {numbers} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/secateur")
    parser.add_argument("--model", required=True)
    parser.add_argument("--results", default="target/methods.jsonl")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="of these only, such as '50 %%,2:4'")
    parser.add_argument("--recipes", help="of these only, such as 'wanda,wanda + refit'")
    own, arguments = parser.parse_known_args()
    version = subprocess.run([own.binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    run = [version, own.model, *arguments]
    recipes = {name_of(recipe): recipe for recipe in RECIPES}
    results = known(own.results, run)
    for setting in own.settings.split(","):
        for name in own.recipes.split(",") if own.recipes else recipes:
            if (name, setting) not in results:
                row = measure(own.binary, own.model, recipes[name], setting, arguments)
                row = {"run": run, "recipe": name, "setting": setting, **row}
                results[name, setting] = row
                with open(own.results, "a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), file=sys.stderr)
    for setting in SETTINGS:
        table(setting, list(results.values()))


if __name__ == "__main__":
    main()
