"""What a source may rely on in the state that it keeps in the sink, run on each kind of store."""

import asyncio

import pytest

from ingestd.sources.state_store import StateStore


class StateStoreContract:
    """A subclass gives the fixtures `state` and `other`: two daemons of one lineage."""

    async def test_the_first_writer_of_a_name_wins_for_all(self, state: StateStore, other: StateStore) -> None:
        assert await state.create("start/s/0", b"first") == b"first"
        assert await other.create("start/s/0", b"second") == b"first"
        assert await state.read("start/s/0") == await other.read("start/s/0") == b"first"

    async def test_of_many_writers_at_once_all_get_one_body(self, state: StateStore, other: StateStore) -> None:
        stores = [state, other] * 8
        bodies = [str(number).encode() for number in range(len(stores))]
        found = await asyncio.gather(
            *(store.create("done/s", body) for store, body in zip(stores, bodies, strict=True))
        )
        assert set(found) == {await state.read("done/s")}
        assert found[0] in bodies

    async def test_there_is_nothing_under_a_free_name(self, state: StateStore) -> None:
        assert await state.read("start/s/0") is None
        assert await state.versions("") == {}

    @pytest.mark.parametrize("body", [b"", b"\n", b"a\nb\n", bytes(range(256))], ids=["none", "line", "lines", "any"])
    async def test_keeps_any_body(self, state: StateStore, other: StateStore, body: bytes) -> None:
        await state.create("a", body)
        await state.replace("members/b", body)
        assert await other.read("a") == await other.read("members/b") == body

    async def test_a_version_changes_with_every_write_also_of_the_same_body(
        self, state: StateStore, other: StateStore
    ) -> None:
        seen = set()
        for _ in range(3):
            await state.replace("members/a", b"alive")
            await other.replace("members/b", b"alive")
            versions = await state.versions("members/")
            assert versions == await other.versions("members/")
            assert sorted(versions) == ["members/a", "members/b"]
            seen.add(versions["members/a"])
        assert len(seen) == 3

    async def test_names_are_found_by_their_beginning(self, state: StateStore) -> None:
        for name in ("done/s/1", "done/s/2", "done/t/1", "start/s/1"):
            await state.create(name, b"")
        assert sorted(await state.versions("done/s/")) == ["done/s/1", "done/s/2"]
        assert sorted(await state.versions("done/")) == ["done/s/1", "done/s/2", "done/t/1"]
