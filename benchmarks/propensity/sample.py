"""What is learned from, and measured on: clients at times of the past, and whether they invested in the days after."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from benchmarks.propensity.history import DAY, investors, look_back, simulated
from ingestd.config.model import SimulatorConfig
from ingestd.sources.simulator.clients import Clients, calls, invests

ACTIVITY = "events_30d"
HORIZON = 7  # days in which the outcome may come
HOURS = (8, 13, 19)  # of every day that is looked at: before, in and after office hours
_WARM_UP, _LOOKED_AT = 30, 8  # days: of history before the first look, and with looks
DAYS = _WARM_UP + _LOOKED_AT + HORIZON
_HELD_OUT = 77  # of 256: about 30 %


class Sample(NamedTuple):
    """One row for each client at each time at which it had any event in the last 30 days; columns of numpy."""

    client_id: np.ndarray[Any, Any]
    invested: np.ndarray[Any, Any]
    held_out: np.ndarray[Any, Any]  # the client is not to be learned from
    propensity: np.ndarray[Any, Any]  # of the model in the package
    action: np.ndarray[Any, Any]
    truth: np.ndarray[Any, Any]  # orders the clients as who knows their hidden interest would
    features: dict[str, np.ndarray[Any, Any]]  # NULL is 0

    def held(self) -> "Sample":
        """The rows of the clients that were not learned from."""
        return self.only(self.held_out)

    def only(self, rows: np.ndarray[Any, Any]) -> "Sample":
        """The rows of these numbers, or where `rows` is true."""
        columns = {name: column[rows] for name, column in self._asdict().items() if name != "features"}
        return Sample(**columns, features={name: column[rows] for name, column in self.features.items()})


def draw(config: SimulatorConfig, start: int, features: Sequence[str]) -> Sample:
    """A sample of a history that begins at `start`, milliseconds since the epoch, a midnight."""
    selected = ", ".join(f"COALESCE({name}, 0)::DOUBLE AS {name}" for name in features)
    looks = []
    with simulated(config, start, DAYS) as connection:
        for day in range(_WARM_UP, _WARM_UP + _LOOKED_AT):
            for hour in HOURS:
                at = start + day * DAY + hour * DAY // 24
                look_back(connection, at)
                query = f"""
                    SELECT client_id, client_id IN ({investors(at, HORIZON)}) AS invested, propensity, next_best_action,
                        {selected}
                    FROM client_features JOIN client_scores USING (client_id) ORDER BY client_id"""  # noqa: S608
                looks.append(connection.execute(query).fetchnumpy())
    columns = {name: np.concatenate([np.asarray(look[name]) for look in looks]) for name in looks[0]}
    clients = columns["client_id"]
    truth = {client.client_id: client for client in Clients(config.clients).truth()}
    expected = {
        name: client.share * calls(client.interest) * invests(client.interest) for name, client in truth.items()
    }
    return Sample(
        clients,
        columns["invested"].astype(bool),
        np.array([sha256(client.encode()).digest()[0] < _HELD_OUT for client in clients]),
        columns["propensity"],
        columns["next_best_action"],
        np.array([expected[client] for client in clients]),
        {name: columns[name] for name in features},
    )
