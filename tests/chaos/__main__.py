"""`make chaos`: the long form of every fault, or kills in bulk, with a report."""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

from tests.chaos.all_faults import FAULTS
from tests.chaos.aws_faults import AWS_FAULTS, about, run_aws
from tests.chaos.collector_faults import COLLECTOR_FAULTS, CollectorFault, run_collector
from tests.chaos.fault import Fault
from tests.chaos.kills import Bulk, kill_in_bulk
from tests.chaos.report import RESULTS, in_words, save, summary, table
from tests.chaos.runner import Result, run
from tests.chaos.services import Services, cluster_services, services
from tests.services.kafka_cluster import KafkaCluster
from tests.services.process import ServiceError, end_in_order

_ALL: dict[str, Fault | CollectorFault] = {**FAULTS, **COLLECTOR_FAULTS}
_INTERRUPTED = 130  # exit code
_SHOWN = 10.0  # seconds between two lines of progress


def main() -> None:
    """Run, report, and exit with 1 where anything was lost, doubled, or did not recover."""
    options = _options()
    end_in_order()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own clients warn of what is broken on purpose
    directory = Path(tempfile.mkdtemp(prefix="ingestd-chaos-"))
    results: list[Result] = []
    interrupted = False
    bulk = Bulk(options.kills, options.seed) if options.kills else None
    try:
        if bulk is not None:
            with services(directory) as both:
                asyncio.run(_kill(both, directory, bulk))
        else:
            of_aws = [name for name in options.faults if name in AWS_FAULTS]
            of_kafka = [name for name in options.faults if name in _ALL]
            _inject_aws(directory, of_aws, options.seed, results)
            for brokers, names in groupby(of_kafka, lambda name: _ALL[name].brokers):
                with _services(directory, brokers) as both:
                    _inject(both, directory, list(names), options.seed, results)
    except KeyboardInterrupt:
        interrupted = True
        print(f"\nInterrupted. {bulk or 'The report so far:'}")
    except ServiceError as error:
        sys.exit(str(error))
    finally:
        _report(results, bulk)
    if any(result.problems for result in results) or (bulk is not None and bulk.problems):
        sys.exit(f"Something went wrong; the logs are in {directory}")
    shutil.rmtree(directory)
    if interrupted:
        sys.exit(_INTERRUPTED)


@contextmanager
def _services(directory: Path, brokers: int) -> Iterator[Services]:
    if brokers == 1:
        with services(directory) as both:
            yield both
    else:
        with KafkaCluster(directory) as cluster, cluster_services(directory, cluster) as both:
            yield both


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    possible = [*(name for name, fault in _ALL.items() if fault.possible), *AWS_FAULTS]
    known = ", ".join((*_ALL, *AWS_FAULTS))
    parser.add_argument("--faults", type=_names, default=possible, metavar="NAME,NAME", help=known)
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="kill daemons so many times instead")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in _ALL | AWS_FAULTS]:
        known = ", ".join((*_ALL, *AWS_FAULTS))
        raise argparse.ArgumentTypeError(f"no such fault: {', '.join(unknown)}; there are {known}")
    return names


def _inject(both: Services, directory: Path, names: Sequence[str], seed: int, results: list[Result]) -> None:
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}: {_ALL[name].about}", flush=True)
        logs = directory / name
        logs.mkdir()
        if (fault := FAULTS.get(name)) is not None:
            result = asyncio.run(run(both, fault, logs, seed=seed, long=True))
        else:
            result = asyncio.run(run_collector(both, COLLECTOR_FAULTS[name], logs, seed=seed, long=True))
        results.append(result)
        print(f"    {summary(result)}", flush=True)


def _inject_aws(directory: Path, names: Sequence[str], seed: int, results: list[Result]) -> None:
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}: {about(name)}", flush=True)
        logs = directory / name
        logs.mkdir()
        result = asyncio.run(run_aws(name, logs, seed=seed))
        results.append(result)
        print(f"    {summary(result)}", flush=True)


async def _kill(both: Services, directory: Path, bulk: Bulk) -> None:
    async def show() -> None:
        while True:
            await asyncio.sleep(_SHOWN)
            print(bulk, flush=True)

    showing = asyncio.create_task(show())
    try:
        await kill_in_bulk(both, directory, bulk)
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing


def _report(results: list[Result], bulk: Bulk | None) -> None:
    if results:
        print(f"\n{table(results)}")
    if bulk is not None and bulk.kills:
        print(f"\n{in_words(bulk)}")
    if results or (bulk is not None and bulk.kills):
        save(results, bulk)
        print(f"Written to {RESULTS / 'chaos.md'} and chaos.json.")


if __name__ == "__main__":
    main()
