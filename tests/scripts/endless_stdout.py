# A job that writes to stdout and stderr as fast as it can, for ever, partly without line ends: for log limits and back-pressure.
import os

line = b"x" * 4095 + b"\n"
unbroken = b"y" * 65536
while True:
    for _ in range(64):
        os.write(1, line)
    os.write(2, unbroken)
