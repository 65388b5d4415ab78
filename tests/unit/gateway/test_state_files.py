"""The lock of the data directory and the store of what drivers learned: files that must survive any end of the process."""

import asyncio
import errno
import os

import pytest

from bifrost.core.errors import StorageError
from bifrost.gateway.learned import LearnedStore
from bifrost.gateway.lock import DirectoryLock


def test_lock_is_held_once_and_given_back(tmp_path):
    directory = str(tmp_path / "data")
    with (
        DirectoryLock(directory),
        pytest.raises(StorageError, match=f"another gateway .pid {os.getpid()}. uses the data directory"),
    ):
        DirectoryLock(directory)
    DirectoryLock(directory).close()


def test_data_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        DirectoryLock(str(tmp_path / "file" / "data"))


def test_a_full_disk_is_no_reason_not_to_start(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with DirectoryLock(str(tmp_path)), pytest.raises(StorageError, match="another gateway"):
        DirectoryLock(str(tmp_path))


def test_a_disk_that_was_made_read_only_is_no_reason_not_to_start(tmp_path, monkeypatch):
    DirectoryLock(str(tmp_path)).close()
    really_open = os.open

    def open_to_read(path, flags, *arguments):
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, "Read-only file system")
        return really_open(path, flags, *arguments)

    monkeypatch.setattr(os, "open", open_to_read)
    with DirectoryLock(str(tmp_path)), pytest.raises(StorageError, match="another gateway"):
        DirectoryLock(str(tmp_path))


def learn(directory, *, configured=(), **learned):
    async def scenario():
        store = LearnedStore(str(directory))
        for name in configured:
            store.of(name, "url")
        for name, holes in learned.items():
            store.note(name, "url", {"holes": holes})
        task = asyncio.ensure_future(store.run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(scenario())


def recall(directory, name, url):
    async def scenario():
        return LearnedStore(str(directory)).of(name, url)

    return asyncio.run(scenario())


def test_what_was_learned_is_there_at_the_next_start(tmp_path):
    learn(tmp_path, boiler=["1!hr:4-5"])
    assert recall(tmp_path, "boiler", "url") == {"holes": ["1!hr:4-5"]}
    assert recall(tmp_path, "boiler", "another url") == {}
    learn(tmp_path, configured=["boiler"], pump=["1!hr:9-9"])
    assert recall(tmp_path, "boiler", "url") == {"holes": ["1!hr:4-5"]}


def test_device_that_is_not_configured_any_more_is_forgotten(tmp_path):
    learn(tmp_path, boiler=["1!hr:4-5"])
    learn(tmp_path, pump=["1!hr:9-9"])
    assert recall(tmp_path, "boiler", "url") == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"boiler url": 3}', b"\xff"])
def test_damaged_store_is_as_good_as_none(tmp_path, content):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "learned.json").write_bytes(content)
    assert recall(tmp_path, "boiler", "url") == {}
    learn(tmp_path, boiler=["1!hr:4-5"])
    assert recall(tmp_path, "boiler", "url") == {"holes": ["1!hr:4-5"]}
