# A job that fails by its own decision: writes half a result, then exits with 1; that result must never be delivered.
import os
import sys

output = sys.argv[sys.argv.index("--output_dir") + 1]
os.makedirs(output, exist_ok=True)
with open(os.path.join(output, "half.txt"), "w", encoding="ascii") as file:
    file.write("not finished\n")
print("about to exit with 1", file=sys.stderr, flush=True)
sys.exit(1)
