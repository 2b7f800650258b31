# A job that succeeds at once: reads its data, writes output_model/result.txt, emits five events and progress lines.
import argparse
import hashlib
import json
import os

parser = argparse.ArgumentParser()
for name in ("--data_path", "--model_path", "--config_path", "--output_dir"):
    parser.add_argument(name, required=True)
options = parser.parse_args()

digest = hashlib.sha256()
if os.path.isdir(options.data_path):
    files = sorted(os.path.join(at, name) for at, _, names in os.walk(options.data_path) for name in names)
else:
    files = [options.data_path]
for path in [*files, options.config_path]:
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)

events = os.environ.get("SEALTUNE_EVENTS_FD", "")
progress_path = os.path.join(os.path.dirname(os.path.abspath(options.output_dir)), "progress.log")
with open(progress_path, "a", encoding="ascii", buffering=1) as progress:
    for step in range(1, 6):
        loss = 1.0 / step
        print(f"step {step} of 5", flush=True)
        progress.write(f"Step: {step}, Logs: {{'loss': {loss:.4f}}}\n")
        if events.isdecimal():
            event = {"step": step, "total_steps": 5, "loss": loss, "learning_rate": 0.001, "tokens_per_second": 100.0}
            os.write(int(events), json.dumps(event).encode("ascii") + b"\n")

os.makedirs(options.output_dir, exist_ok=True)
with open(os.path.join(options.output_dir, "result.txt"), "w", encoding="ascii") as file:
    file.write(digest.hexdigest() + "\n")
print("done", flush=True)
