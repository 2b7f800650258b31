# A job that writes into output_model until the disk is full, then exits with 1.
import errno
import os
import sys

output = sys.argv[sys.argv.index("--output_dir") + 1]
os.makedirs(output, exist_ok=True)
# Not zeros: a file system that drops or compresses zeros would never fill.
block = os.urandom(1 << 20)
written = 0
try:
    with open(os.path.join(output, "filler.bin"), "wb", buffering=0) as file:
        while True:
            written += file.write(block)
except OSError as error:
    name = errno.errorcode.get(error.errno, "?")
    print(f"stopped by {name} after {written >> 20} MiB", file=sys.stderr, flush=True)
    sys.exit(1)
