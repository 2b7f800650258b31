"""Pre-trains the base model on one plain text, on the host.

    python pretrain.py --text pretrain.txt --out base-model [--steps 800] [--seconds 170] [--seed 1]

The same text, steps and seed give the same model on the same numpy build; --seconds only stops a slow machine early.
"""

import argparse
import os
import time

# Matrices this small gain little from a second BLAS thread, and on a busy machine the two spin against each other (8 times slower).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from model import Adam, Config, Transformer, cross_entropy, initial_weights, save_model
from tokenizer import Tokenizer

VOCABULARY = 512
TOKENIZER_SAMPLE = 400_000
TEXT_LIMIT = 64 << 20


def main():
    options = arguments()
    started = time.monotonic()
    with open(options.text, encoding="utf-8") as file:
        text = file.read(TEXT_LIMIT)
    tokenizer = Tokenizer.train(text[:TOKENIZER_SAMPLE], VOCABULARY)
    stream = np.array(tokenizer.encode(text), np.int32)
    config = Config(tokenizer.size, options.context, options.width, options.heads, 4 * options.width, options.layers)
    weights = initial_weights(config, options.seed)
    count = sum(value.size for value in weights.values())
    print(f"{len(text)} characters, {len(stream)} tokens, {count} parameters, ready after {time.monotonic() - started:.1f} s", flush=True)

    held_out = len(stream) // 100
    train, test = stream[:-held_out], stream[-held_out:]
    model, adam = Transformer(config, weights), Adam(weights)
    rng = np.random.default_rng(options.seed)
    done = 0
    for step in range(options.steps):
        progress = step / options.steps
        if options.seconds is not None:
            # A machine too slow for all steps still ends with a low learning rate.
            progress = max(progress, (time.monotonic() - started) / options.seconds)
            if progress >= 1:
                break
        rate = options.learning_rate * min(1, (step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * progress)))
        starts = rng.integers(0, len(train) - config.context - 1, options.batch)
        windows = train[starts[:, None] + np.arange(config.context + 1)]
        logits, saved = model.forward(windows[:, :-1])
        loss, d_logits = cross_entropy(logits, windows[:, 1:])
        adam.step(model.backward(saved, d_logits), rate)
        done = step + 1
        if done % 100 == 0:
            print(f"step {done} of {options.steps}: loss {loss:.3f}, {time.monotonic() - started:.0f} s", flush=True)

    perplexity = held_out_perplexity(model, test, config.context)
    print(f"{done} steps in {time.monotonic() - started:.0f} s; perplexity on the text's last hundredth: {perplexity:.2f}")
    notes = {"steps": done, "seed": options.seed, "held_out_perplexity": round(perplexity, 3)}
    save_model(options.out, config, weights, tokenizer, notes)


def held_out_perplexity(model, stream, length, most=64):
    count = min(most, (len(stream) - 1) // length)
    windows = stream[np.arange(count)[:, None] * length + np.arange(length + 1)]
    loss, _ = cross_entropy(model.forward(windows[:, :-1])[0], windows[:, 1:])
    return float(np.exp(loss))


def arguments():
    parser = argparse.ArgumentParser(description="pre-train the demo's base model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seconds", type=float, help="stop after this time, whatever --steps says")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--context", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    main()
