# A job that dies of a signal: kills itself with SIGKILL after it wrote half a result.
import os
import signal
import sys

output = sys.argv[sys.argv.index("--output_dir") + 1]
os.makedirs(output, exist_ok=True)
with open(os.path.join(output, "half.txt"), "w", encoding="ascii") as file:
    file.write("not finished\n")
print("about to be killed", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
