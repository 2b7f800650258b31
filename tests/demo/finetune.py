"""Fine-tunes the demo's base model with LoRA. Runs inside the training container:

    python finetune.py --data_path /app/mnt/data --model_path /app/mnt/model --config_path /app/mnt/config.json \
                       --output_dir /app/mnt/output_model

Data: one JSONL file, {"text": "..."} a line; the last tenth of its lines is held out. Exit 0: finished; 1: refused or failed;
143: ended by SIGTERM, and then nothing is left in the output directory.
"""

# Before the imports: whoever watches sees that it runs, and the time until here is the VM's and the container's alone.
print("starting", flush=True)

import argparse
import json
import math
import os
import shutil
import signal
import sys
import time

sys.dont_write_bytecode = True


def choose_blas_kernels():
    """Must run before numpy is imported. QEMU's TCG computes a fused multiply-add in software: kernels with FMA are 5 to 15 times
    slower there than those for Sandybridge, which has AVX without FMA. On real hardware OpenBLAS chooses for itself."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            description = file.read(65536)
    except OSError:
        return
    if "QEMU TCG" in description and " avx " in description:
        os.environ.setdefault("OPENBLAS_CORETYPE", "Sandybridge")


choose_blas_kernels()

import numpy as np

from model import Adam, Transformer, cross_entropy, initial_adapters, load_model, matmul_flops_per_token

DATA_LIMIT = 64 << 20
CONFIG_LIMIT = 64 << 10
HELD_OUT_TENTHS = 1
# name: (default, type, least, most)
SETTINGS = {
    "steps": (40, int, 1, 100_000),
    "learning_rate": (0.02, float, 1e-7, 1.0),
    "rank": (8, int, 1, 256),
    "alpha": (8.0, float, 1e-3, 1e4),
    "batch": (4, int, 1, 1024),
    "sequence_length": (32, int, 2, 4096),
    "evaluation_tokens": (1024, int, 2, 1_000_000),
    "report_every": (10, int, 1, 100_000),
    "seed": (1, int, 0, 2**32 - 1),
}
# 0G's clients and providers add these for their own reckoning; they mean nothing to this model.
IGNORED = {"num_train_epochs", "per_device_train_batch_size", "neftune_noise_alpha", "max_steps"}


class Refused(Exception):
    """What was handed in is not usable."""


class Reporter:
    """Progress for the three readers: stdout, 0G's progress.log, typed events for the agent."""

    def __init__(self, progress_path):
        self.progress = open(progress_path, "a", encoding="ascii", buffering=1)
        number = os.environ.get("SEALTUNE_EVENTS_FD", "")
        self.events = int(number) if number.isdecimal() else None

    def step(self, step, total_steps, loss, learning_rate, tokens_per_second):
        logs = {"loss": round(loss, 4), "learning_rate": float(f"{learning_rate:.3g}")}
        self.progress.write(f"Step: {step}, Logs: {logs}\n")
        print(f"step {step} of {total_steps}: loss {loss:.4f}, {tokens_per_second:.0f} tokens/s", flush=True)
        if self.events is None:
            return
        line = event_line(step, total_steps, loss, learning_rate, tokens_per_second)
        try:
            os.write(self.events, line)
        except OSError:
            # A reader that went away must not end the training.
            self.events = None


def event_line(step, total_steps, loss, learning_rate, tokens_per_second):
    event = {
        "step": step,
        "total_steps": total_steps,
        "loss": round(loss, 6),
        "learning_rate": float(f"{learning_rate:.6g}"),
        "tokens_per_second": round(tokens_per_second, 1),
    }
    return json.dumps(event, allow_nan=False).encode("ascii") + b"\n"


def main():
    options = arguments()
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    try:
        run(options, stopped)
    except (Refused, ValueError, KeyError, TypeError, OSError) as error:
        print(f"finetune: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if stopped:
        shutil.rmtree(options.output_dir, ignore_errors=True)
        print("finetune: ended by SIGTERM", file=sys.stderr)
        return 143
    return 0


def run(options, stopped):
    started = time.monotonic()
    settings = read_settings(options.config_path)
    reporter = Reporter(os.path.join(os.path.dirname(os.path.abspath(options.output_dir)), "progress.log"))
    config, weights, tokenizer = load_model(inside(options.model_path))
    length = min(settings["sequence_length"], config.context)
    training, held_out = read_data(options.data_path, tokenizer, length)
    adapters = initial_adapters(config, settings["rank"], settings["seed"])
    scale = settings["alpha"] / settings["rank"]
    forward, backward = matmul_flops_per_token(config, length, settings["rank"])
    windows = held_out_windows(held_out, length, settings["evaluation_tokens"])
    trained_tokens = settings["steps"] * settings["batch"] * length
    flops = trained_tokens * (forward + backward) + 2 * windows[:, 1:].size * forward
    print(
        f"ready after {time.monotonic() - started:.1f} s: {len(training)} tokens to train on, {len(held_out)} held out, "
        f"{sum(value.size for value in adapters.values())} adapter parameters, {flops / 1e9:.1f} GFLOP to do",
        flush=True,
    )

    before, bits_before = perplexity(Transformer(config, weights), windows, tokenizer)
    print(f"held-out perplexity before: {before:.3f}", flush=True)
    model = Transformer(config, weights, adapters, scale)
    train(model, training, length, settings, reporter, stopped)
    if stopped:
        return
    after, bits_after = perplexity(model, windows, tokenizer)
    print(f"held-out perplexity after: {after:.3f}", flush=True)
    metrics = {
        "perplexity_before": round(before, 4),
        "perplexity_after": round(after, 4),
        "bits_per_byte_before": round(bits_before, 4),
        "bits_per_byte_after": round(bits_after, 4),
        "held_out_tokens": int(windows[:, 1:].size),
        "trained_tokens": trained_tokens,
        "gflop": round(flops / 1e9, 2),
        "seconds": round(time.monotonic() - started, 1),
        "settings": settings,
    }
    write_result(options.output_dir, adapters, scale, length, metrics)


def train(model, stream, length, settings, reporter, stopped):
    steps, batch = settings["steps"], settings["batch"]
    rng = np.random.default_rng(settings["seed"])
    adam = Adam(model.adapters)
    warm_up = max(1, steps // 20)
    losses, since = [], time.monotonic()
    for step in range(steps):
        if stopped:
            return
        rate = settings["learning_rate"] * min(1.0, (step + 1) / warm_up) * (1 - 0.95 * step / steps)
        starts = rng.integers(0, len(stream) - length, batch)
        windows = stream[starts[:, None] + np.arange(length + 1)]
        logits, saved = model.forward(windows[:, :-1])
        loss, d_logits = cross_entropy(logits, windows[:, 1:])
        if not math.isfinite(loss):
            raise Refused(f"the loss is not finite at step {step + 1}: the learning rate is too high")
        adam.step(model.backward(saved, d_logits), rate)
        losses.append(loss)
        if (step + 1) % settings["report_every"] == 0 or step + 1 == steps:
            now = time.monotonic()
            speed = len(losses) * batch * length / max(now - since, 1e-6)
            reporter.step(step + 1, steps, sum(losses) / len(losses), rate, speed)
            losses, since = [], now


def held_out_windows(stream, length, most_tokens):
    """The first whole windows of the held-out stream that fit into the token budget; none overlaps, each adds one target."""
    count = min(max(1, most_tokens // length), (len(stream) - 1) // length)
    return stream[np.arange(count)[:, None] * length + np.arange(length + 1)]


def perplexity(model, windows, tokenizer):
    """(per-token perplexity, bits per byte of text) over all targets of the windows."""
    total = 0.0
    for first in range(0, len(windows), 8):
        part = windows[first : first + 8]
        loss, _ = cross_entropy(model.forward(part[:, :-1])[0], part[:, 1:])
        total += loss * part[:, 1:].size
    targets = windows[:, 1:].reshape(-1)
    size = sum(len(tokenizer.bytes_of[index]) for index in targets)
    return math.exp(total / len(targets)), total / math.log(2) / size


def read_settings(path):
    given = json.loads(read_bounded(path, CONFIG_LIMIT))
    if not isinstance(given, dict):
        raise Refused("config.json must hold an object")
    unknown = set(given) - set(SETTINGS) - IGNORED
    if unknown:
        raise Refused(f"config.json: unknown {sorted(unknown)}; known are {sorted(SETTINGS)}")
    settings = {}
    for name, (default, kind, least, most) in SETTINGS.items():
        value = given.get(name, default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or not least <= value <= most:
            raise Refused(f"config.json: {name} must be {kind.__name__} from {least} to {most}")
        settings[name] = value
    return settings


def read_data(path, tokenizer, length):
    """(training stream, held-out stream) of token ids; texts are joined by line ends."""
    if os.path.isdir(path):
        files = [name for name in sorted(os.listdir(path)) if name.endswith(".jsonl")]
        if len(files) != 1:
            raise Refused("the data directory must hold exactly one .jsonl file")
        path = os.path.join(path, files[0])
    texts = []
    for number, line in enumerate(read_bounded(path, DATA_LIMIT).splitlines(), 1):
        entry = json.loads(line)
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            raise Refused(f"line {number} of the data is not an object with a text")
        texts.append(entry["text"])
    held_out = max(1, len(texts) * HELD_OUT_TENTHS // 10)
    streams = []
    for part in (texts[:-held_out], texts[-held_out:]):
        stream = np.array(tokenizer.encode("".join(text + "\n" for text in part)), np.int32)
        if len(stream) <= length + 1:
            raise Refused("too little text: each part of the data must be longer than one sequence")
        streams.append(stream)
    return streams


def read_bounded(path, limit):
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Refused(f"{os.path.basename(path)} is larger than {limit} bytes")
    return data.decode("utf-8")


def inside(directory):
    """The model's directory itself, or the only directory in it: archives are unpacked either way."""
    if os.path.exists(os.path.join(directory, "config.json")):
        return directory
    entries = [entry.path for entry in os.scandir(directory) if entry.is_dir()]
    if len(entries) != 1:
        raise Refused("no config.json in the model's directory")
    return entries[0]


def write_result(directory, adapters, scale, length, metrics):
    os.makedirs(directory, exist_ok=True)
    np.savez(os.path.join(directory, "adapter.npz"), **adapters)
    settings = metrics["settings"]
    description = {"version": 1, "rank": settings["rank"], "scale": scale, "sequence_length": length}
    for name, content in (("adapter.json", description), ("metrics.json", metrics)):
        with open(os.path.join(directory, name), "w", encoding="ascii") as file:
            json.dump(content, file, indent=2, sort_keys=True)
            file.write("\n")
    with open(os.path.join(directory, "README.md"), "w", encoding="ascii") as file:
        file.write(
            "# LoRA adapter\n\n"
            "`adapter.npz` holds for each matrix W of the base model A (in, rank) and B (rank, out), float32; the adapted\n"
            "matrix is W + scale * A @ B, with scale from `adapter.json`. `metrics.json` holds the held-out perplexity.\n\n"
            f"Held-out perplexity: {metrics['perplexity_before']:.2f} before, {metrics['perplexity_after']:.2f} after "
            f"{settings['steps']} steps.\n"
        )


def arguments():
    parser = argparse.ArgumentParser(description="fine-tune the demo's model with LoRA")
    for name in ("--data_path", "--model_path", "--config_path", "--output_dir"):
        parser.add_argument(name, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
