# A job that allocates and touches memory without end, until the memory limit of its cgroup kills it.
held = []
while True:
    held.append(b"\x5a" * (16 << 20))
    if len(held) % 4 == 0:
        print(f"holding {len(held) * 16} MiB", flush=True)
