# A job that tries to leak: puts its data and config into every channel it has; nothing of it may be readable on the host.
import argparse
import json
import os
import sys

parser = argparse.ArgumentParser()
for name in ("--data_path", "--model_path", "--config_path", "--output_dir"):
    parser.add_argument(name, required=True)
options = parser.parse_args()


def content(path):
    if os.path.isdir(path):
        names = sorted(os.path.join(at, name) for at, _, files in os.walk(path) for name in files)
    else:
        names = [path]
    parts = []
    for name in names:
        with open(name, "rb") as file:
            parts.append(file.read(64 << 10))
    return b"\n".join(parts)[: 64 << 10].decode("utf-8", errors="replace")


def attempt(write):
    try:
        write()
    except OSError as error:
        print(f"a channel refused: {error.errno}", file=sys.stderr, flush=True)


secrets = content(options.data_path) + "\n" + content(options.config_path)
secrets += "\n" + "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()))
first = secrets[:200]

print(secrets, flush=True)
print(secrets, file=sys.stderr, flush=True)

with open(os.path.join(os.path.dirname(os.path.abspath(options.output_dir)), "progress.log"), "a", encoding="utf-8") as progress:
    progress.write(f"Step: 1, Logs: {{'loss': '{first}'}}\n{secrets}\n")

events = os.environ.get("SEALTUNE_EVENTS_FD", "")
if events.isdecimal():
    for event in (
        {first: 1},
        {"step": first, "total_steps": 1},
        {"step": 1, "total_steps": 1, "message": first},
        {"step": 1, "total_steps": 1, "loss": 0.5, "learning_rate": 0.1, "tokens_per_second": 1.0},
    ):
        attempt(lambda: os.write(int(events), json.dumps(event).encode("utf-8") + b"\n"))
    attempt(lambda: os.write(int(events), secrets.encode("utf-8")[:2000] + b"\n"))

for device in ("/dev/console", "/dev/ttyS0", "/dev/kmsg", "/dev/hvc0"):
    if os.path.exists(device):

        def write(path=device):
            with open(path, "w", encoding="utf-8") as file:
                file.write(secrets[:2000])

        attempt(write)

os.makedirs(options.output_dir, exist_ok=True)
with open(os.path.join(options.output_dir, "stolen.txt"), "w", encoding="utf-8") as file:
    file.write(secrets)
