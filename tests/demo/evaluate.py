"""Recomputes the perplexities of a fine-tuning result, on the host, by another path than finetune.py: it merges
W + scale * A @ B into plain weights, reads and cuts the data by its own code, and compares with metrics.json.

    python evaluate.py --model base-model --adapter output_model --data dataset.jsonl

Prints one JSON object; exit 1 if a number differs from metrics.json by more than one percent.
"""

import argparse
import json
import os
import sys

import numpy as np

from model import Transformer, load_arrays, load_model

TOLERANCE = 0.01


def main():
    parser = argparse.ArgumentParser(description="check a fine-tuning result")
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", required=True, help="output_model of finetune.py")
    parser.add_argument("--data", required=True, help="the same JSONL file")
    options = parser.parse_args()

    config, weights, tokenizer = load_model(options.model)
    description = read_json(options.adapter, "adapter.json")
    claimed = read_json(options.adapter, "metrics.json")
    merged = merge(config, weights, options.adapter, description)
    ids = held_out_ids(options.data, tokenizer)
    length = description["sequence_length"]
    found = {
        "perplexity_before": perplexity(Transformer(config, weights), ids, length, claimed["held_out_tokens"]),
        "perplexity_after": perplexity(Transformer(config, merged), ids, length, claimed["held_out_tokens"]),
    }
    agrees = all(abs(found[name] / claimed[name] - 1) <= TOLERANCE for name in found)
    answer = {name: round(value, 4) for name, value in found.items()}
    answer["fall_percent"] = round(100 * (1 - found["perplexity_after"] / found["perplexity_before"]), 2)
    answer["agrees_with_metrics"] = agrees
    print(json.dumps(answer))
    return 0 if agrees else 1


def read_json(directory, name):
    with open(os.path.join(directory, name), encoding="ascii") as file:
        return json.load(file)


def merge(config, weights, directory, description):
    rank, scale, base = description["rank"], description["scale"], config.shapes()
    shapes = {}
    for name in config.matrices():
        shapes[name + ".A"] = (base[name][0], rank)
        shapes[name + ".B"] = (rank, base[name][1])
    adapters = load_arrays(os.path.join(directory, "adapter.npz"), shapes)
    merged = dict(weights)
    for name in config.matrices():
        delta = adapters[name + ".A"].astype(np.float64) @ adapters[name + ".B"].astype(np.float64)
        merged[name] = (weights[name] + scale * delta).astype(np.float32)
    return merged


def held_out_ids(path, tokenizer):
    with open(path, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    tail = texts[len(texts) - max(1, len(texts) // 10) :]
    return [index for text in tail for index in tokenizer.encode(text + "\n")]


def perplexity(model, ids, length, tokens):
    """One sequence at a time, in float64 log-probabilities, over the first `tokens` targets."""
    logarithm, count = 0.0, 0
    for start in range(0, tokens, length):
        window = np.array(ids[start : start + length + 1])
        logits = model.forward(window[None, :-1])[0].astype(np.float64)
        peak = logits.max(axis=1)
        log_sum = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
        logarithm += (log_sum - logits[np.arange(len(window) - 1), window[1:]]).sum()
        count += len(window) - 1
    return float(np.exp(logarithm / count))


if __name__ == "__main__":
    sys.exit(main())
