"""How fast one daemon drains a backlog, and what that costs.

    python benchmarks/drain.py TOPIC EVENTS -- [ingestd flags, such as --set kafka.bootstrap_servers=HOST:PORT]

Starts a daemon with a new consumer group and a new lineage on a topic that holds EVENTS events, stops it as soon as all
of them are consumed, and waits until it has landed and committed what it held. Prints one JSON line: seconds and
events/s from the first record to the end of the process, CPU-seconds per million events (of the whole process, its
start included) and the most memory it held.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

POLL_SECONDS = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("topic")
    parser.add_argument("events", type=int)
    parser.add_argument("--port", type=int, default=19464)
    parser.add_argument("flags", nargs="*")
    arguments = parser.parse_args()
    run = f"drain-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "ingestd", "--log-level", "WARNING"]
    command += [f"--set=kafka.topics={arguments.topic}", f"--set=kafka.group_id={run}", f"--set=sink.lineage={run}"]
    command += [f"--set=health.port={arguments.port}", *arguments.flags]
    daemon = subprocess.Popen(command)
    try:
        print(json.dumps(_measure(daemon, arguments.port, arguments.events)))
    finally:
        daemon.kill()


def _measure(daemon: "subprocess.Popen[bytes]", port: int, events: int) -> dict[str, float | int]:
    began: float | None = None
    consumed = 0
    while consumed < events:
        time.sleep(POLL_SECONDS)
        if daemon.poll() is not None:
            sys.exit(f"the daemon ended with {daemon.returncode}")
        consumed = _consumed(port)
        if began is None and consumed:
            began = time.perf_counter()
    assert began is not None
    daemon.send_signal(signal.SIGTERM)
    _, code, used = os.wait4(daemon.pid, 0)
    wall = time.perf_counter() - began
    daemon.returncode = os.waitstatus_to_exitcode(code)
    if daemon.returncode:
        sys.exit(f"the daemon ended with {daemon.returncode}")
    return {
        "events": consumed,
        "wall_s": round(wall, 2),
        "events_per_s": round(consumed / wall),
        "cpu_s_per_M": round((used.ru_utime + used.ru_stime) / consumed * 1e6, 2),
        "rss_MB": used.ru_maxrss >> 10,
    }


def _consumed(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
            return int(json.load(answer)["totals"]["consumed"])
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0


if __name__ == "__main__":
    main()
