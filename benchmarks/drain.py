"""How fast one daemon drains a backlog, and what that costs.

    python benchmarks/drain.py TOPIC EVENTS -- [ingestd flags, such as --set kafka.bootstrap_servers=HOST:PORT]

Starts a daemon with a new consumer group and a new lineage on a topic that holds EVENTS events, waits until all of them
have landed and are committed, and prints one JSON line: seconds and events/s from the first record, CPU-seconds per
million events (the whole process, its start included), the most memory it held, objects and their bytes.
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
from pathlib import Path

POLL_SECONDS = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


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
    daemon = subprocess.Popen(command)  # noqa: S603
    try:
        print(json.dumps(_measure(daemon.pid, arguments.port, arguments.events)))  # noqa: T201
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)


def _measure(pid: int, port: int, events: int) -> dict[str, float | int]:
    began: float | None = None
    while True:
        time.sleep(POLL_SECONDS)
        status = _status(port)
        if status is None:
            continue
        totals = status["totals"]
        if began is None and totals["consumed"]:
            began = time.perf_counter()
        landed = totals["landed"] + totals["quarantined"]
        if began is not None and landed >= events and all(p["committed"] == p["landed"] for p in status["partitions"]):
            break
    wall = time.perf_counter() - began
    return {
        "events": landed,
        "wall_s": round(wall, 2),
        "events_per_s": round(landed / wall),
        "cpu_s_per_M": round(_cpu_seconds(pid) / landed * 1e6, 2),
        "rss_MB": _peak_memory(pid) >> 20,
        "objects": totals["objects"],
        "MB": totals["object_bytes"] >> 20,
    }


def _status(port: int) -> dict | None:  # type: ignore[type-arg]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
            return json.load(answer)  # type: ignore[no-any-return]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _peak_memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
