# A job that leaves children behind: each of 50 children starts a child of its own and ends. Says whether somebody reaped
# them all, then ends with an error, so that its log is looked at.
import os
import sys
import time


def zombies():
    found = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii") as file:
                    found += file.read().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                pass
    return found


for _ in range(50):
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.waitpid(child, 0)

deadline = time.monotonic() + 20
while zombies() and time.monotonic() < deadline:
    time.sleep(0.05)
left = zombies()
print("all orphans were reaped" if left == 0 else f"{left} orphans are left", flush=True)
sys.exit(1)
