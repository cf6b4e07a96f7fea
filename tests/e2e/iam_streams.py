"""What a daemon on a stream or a queue, and each command beside it, ask of AWS and of a store; and their policies."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.iam import Need, Policy, Recorder, allowed, listed
from tests.e2e.test_iam import FOLDER, THEIRS, parts, policy, run
from tests.services.aws_proxy import AwsProxy

#: What each role runs. Its rights are those of its policy, and of the one of the source beside it.
ROLES = {"daemon": ("daemon", "check"), "verify": ("verify",), "requeue": ("requeue",)}
COMMANDS = (["check", "--dry-run", "--duration", "2s"], ["verify", "--read"], ["requeue"], ["requeue"])
EVENT = '{"event_type":"%s","event_id":"e%d","client_id":"c","event_timestamp":"2026-01-01T00:00:00Z"}'
#: An event that the daemon rejects, and that a command with other settings takes for a good one.
STRICT = {"events.unknown_types": "reject"}
REQUEUEABLE = EVENT % ("card_payment", 1000)


def source_policy(source: str, role: str, theirs: str, arn: str, bucket: str) -> Policy:
    """Ours of a source and a role, for a stream or a queue and a bucket."""
    name = source if role == "daemon" else f"{source}-{role}"
    text = (FOLDER / f"{name}-policy.json").read_text()
    found: Policy = json.loads(text.replace(theirs, arn).replace(THEIRS, bucket))
    return found


class Recording:
    """The rights that calls to a stream or a queue and to a store needed, by who made them."""

    def __init__(self, proxy: AwsProxy, store: Recorder, source: str, arn: str) -> None:
        self.needs: defaultdict[str, set[tuple[str, str, tuple[tuple[str, str], ...]]]] = defaultdict(set)
        self._proxy, self._store, self._source, self._arn = proxy, store, source, arn

    def note(self, who: str) -> None:
        """All calls since the last note were made by this one."""
        # Calls of batches have no actions of their own.
        needs = [Need(f"{self._source}:{it.removesuffix('Batch')}", self._arn, {}) for it in self._proxy.calls]
        needs += [need for call in self._store.calls for need in call.needs()]
        self.needs[who] |= {(action, resource, tuple(context.items())) for action, resource, context in needs}
        self._proxy.calls.clear()
        self._store.calls.clear()

    async def run_commands(self, keys: Mapping[str, str], environment: Mapping[str, str], folder: Path) -> None:
        for command in COMMANDS:
            await run(command, keys, environment, folder)
            self.note(command[0])

    def of(self, role: str) -> list[Need]:
        return [
            Need(action, resource, dict(context))
            for who in ROLES[role]
            for action, resource, context in sorted(self.needs[who])
        ]

    def check(self, theirs: str, bucket: str) -> None:
        """Each role may do what it did; and needs each part of the policy of its source."""
        once = policy("bucket", bucket)
        for role in ROLES:
            wanted, common = self.of(role), policy(role, bucket)
            ours = source_policy(self._source, role, theirs, self._arn, bucket)
            assert [need for need in wanted if not allowed(need, common, ours)] == [], role
            for less in parts(ours):
                needed = [need for need in wanted if not allowed(need, common, less)]
                assert needed, f"{role}: one part is not needed, as in {less}"
            assert all(allowed(need, common, ours, once) for need in wanted), "the bucket's policy is in nobody's way"


def granted(source: str) -> set[str]:
    """The actions on a stream or a queue that the daemon's policy allows."""
    actions = {action for statement in policy(source)["Statement"] for action in listed(statement["Action"])}
    return {action for action in actions if action.startswith(f"{source}:")}


def named_in(hint: str, source: str) -> set[str]:
    """The actions that an error asks for."""
    return {word.strip("',.;") for word in hint.split() if word.startswith(f"{source}:")}
