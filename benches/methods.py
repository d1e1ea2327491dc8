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
]
SETTINGS = {
    "50 %": ["--sparsity", "0.5"],
    "60 %": ["--sparsity", "0.6"],
    "70 %": ["--sparsity", "0.7"],
    "2:4": ["--pattern", "2:4"],
}


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
    mean = manifest["results"].get("mean") or {}
    return {
        "recipe": " ".join(word.removeprefix("--") for word in recipe if word != "--refine"),
        "setting": setting,
        "sparsity": manifest["sparsity"]["achieved"],
        "layer_error": sum(errors) / len(errors) if None not in errors else None,
        "before": manifest["results"]["perplexity"][0]["before"],
        "after": manifest["results"]["perplexity"][0]["after"],
        "mean": mean,
        "pruning_s": manifest["timings_s"]["pruning"],
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": manifest["peak_rss_bytes"] / 2**20,
    }


def known(path):
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    return {(row["recipe"], row["setting"]): row for row in rows}


def table(setting, rows):
    rows = sorted((row for row in rows if row["setting"] == setting), key=lambda row: row["after"])
    if not rows:
        return
    print(f"\n### {setting} (dense {rows[0]['before']:.2f})\n")
    print("| recipe | perplexity | mean layer error | pruning, s | peak, MiB |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        error = f"{row['layer_error']:.4f}" if row["layer_error"] is not None else ""
        name = row["recipe"].replace(" ", " + ")
        print(f"| {name} | {row['after']:.2f} | {error} | {row['pruning_s']:.0f} | {row['peak_mib']:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/secateur")
    parser.add_argument("--model", required=True)
    parser.add_argument("--results", default="target/methods.jsonl")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="of these only, such as '50 %%,2:4'")
    own, arguments = parser.parse_known_args()
    results = known(own.results)
    for setting in own.settings.split(","):
        for recipe in RECIPES:
            name = " ".join(word.removeprefix("--") for word in recipe if word != "--refine")
            if (name, setting) not in results:
                row = measure(own.binary, own.model, recipe, setting, arguments)
                results[name, setting] = row
                print(json.dumps(row), file=sys.stderr)
                with open(own.results, "a") as file:
                    file.write(json.dumps(row) + "\n")
    for setting in SETTINGS:
        table(setting, list(results.values()))


if __name__ == "__main__":
    main()
