# A job that never ends and ignores SIGTERM and SIGINT: for deadlines, cancel, and the last resort SIGKILL.
import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("hanging", flush=True)
while True:
    signal.pause()
