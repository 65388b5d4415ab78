"""Users of the OPC UA server: a small file with a slow hash of each password, never the password.

`pki/users.toml` is written by `bifrost opcua user` and read at start and whenever it changes. A user has a role: `read`,
or `write`, which may also write tags that are writable. Hash: PBKDF2-HMAC-SHA256 with 16 random bytes of salt (RFC 8018,
5.2).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bifrost.core.errors import ConfigError, LimitError, StorageError
from bifrost.opcua.security import write_private

__all__ = ["ROLES", "User", "Users", "make_user"]

ROLES: Final = ("read", "write")
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
# A login takes this many rounds on the server's thread, once a session and user (the server remembers who it checked):
# 80 ms on a server, half a second on a small board. The file is readable by the gateway's user only.
ITERATIONS: Final = 100_000
_ITERATIONS_MAX: Final = 10_000_000
_FILE_BYTES_MAX: Final = 1 << 20
_PASSWORD_LENGTH_MIN: Final = 8
_PASSWORD_BYTES_MAX: Final = 256
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_HEADER = "# Users of the OPC UA server; written by `bifrost opcua user`.\n"


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One user.

    Attributes:
        name: 1 to 64 letters, digits, ``_ . @ -``.
        role: ``read`` or ``write``.
        salt: In hex.
        hash: In hex.
        iterations: Rounds of the hash.
    """

    name: str
    role: str
    salt: str
    hash: str
    iterations: int

    def accepts(self, password: str) -> bool:
        """Whether `password` is this user's. Takes as long as a login does."""
        given = hashlib.pbkdf2_hmac("sha256", password.encode(), bytes.fromhex(self.salt), self.iterations)
        return hmac.compare_digest(given, bytes.fromhex(self.hash))


def make_user(name: str, password: str, role: str = "read") -> User:
    """A user with a new salt.

    Raises:
        ValueError: Name, password or role is not allowed; the message says what would be right.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a user's name is 1 to 64 letters, digits and '_', '.', '@', '-'")
    if role not in ROLES:
        raise ValueError(f"{role!r}: the role is one of {', '.join(ROLES)}")
    if len(password) < _PASSWORD_LENGTH_MIN or len(password.encode()) > _PASSWORD_BYTES_MAX:
        raise ValueError(f"a password has {_PASSWORD_LENGTH_MIN} to {_PASSWORD_BYTES_MAX} characters")
    salt = secrets.token_bytes(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    return User(name, role, salt.hex(), digest.hex(), ITERATIONS)


class Users:
    """The file.

    Args:
        path: `pki/users.toml`.
        count_max: Limit `opcua_users_max`.
    """

    def __init__(self, path: Path, count_max: int) -> None:
        self._path = path
        self._count_max = count_max

    def load(self) -> Sequence[User]:
        """All users; none if there is no file.

        Raises:
            ConfigError: The file cannot be read or is damaged; the message names it.
        """
        try:
            with self._path.open("rb") as file:
                content = file.read(_FILE_BYTES_MAX)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=str(self._path)) from error
        try:
            document = tomllib.loads(content.decode())
            users = msgspec.convert(document.get("user", []), list[User])
        except (ValueError, msgspec.ValidationError) as error:
            hint = "correct it, or move it away and add the users anew"
            raise ConfigError(f"{error}; {hint}", file=str(self._path)) from error
        self._check(users)
        return users

    def fingerprint(self) -> tuple[int, int]:
        """Changes when the file does; (0, 0) while there is none."""
        try:
            status = os.stat(self._path)
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_ino

    def add(self, user: User) -> bool:
        """Adds a user, or replaces the one with its name; True if it was there.

        Raises:
            LimitError: `opcua_users_max` are there.
            ConfigError, StorageError: The file cannot be read or written.
        """
        others = [other for other in self.load() if other.name != user.name]
        was_there = len(others) < len(self.load())
        if len(others) >= self._count_max:
            raise LimitError("opcua_users_max", self._count_max, "there are more users")
        self._store([*others, user])
        return was_there

    def remove(self, name: str) -> None:
        """Removes a user; sessions that are open stay. Raises ValueError for a user that is not there, else as `add`."""
        users = self.load()
        others = [user for user in users if user.name != name]
        if len(others) == len(users):
            raise ValueError(f"no user {name!r}")
        self._store(others)

    def _check(self, users: Sequence[User]) -> None:
        for user in users:
            sizes = (len(user.salt), len(user.hash)) == (2 * SALT_BYTES, 2 * HASH_BYTES)
            is_hex = sizes and re.fullmatch(r"[0-9a-f]+", user.salt + user.hash) is not None
            is_right = _NAME.fullmatch(user.name) and user.role in ROLES and 1 <= user.iterations <= _ITERATIONS_MAX
            if not is_hex or not is_right:
                raise ConfigError(
                    f"the entry of user {user.name!r} is damaged; add the user anew", file=str(self._path)
                )
        if len({user.name for user in users}) < len(users):
            raise ConfigError("two users have the same name", file=str(self._path))
        if len(users) > self._count_max:
            raise LimitError("opcua_users_max", self._count_max, f"{len(users)} users are in {self._path}")

    def _store(self, users: Iterable[User]) -> None:
        sections = [
            f'\n[[user]]\nname = "{user.name}"\nrole = "{user.role}"\nsalt = "{user.salt}"\nhash = "{user.hash}"\n'
            f"iterations = {user.iterations}\n"
            for user in users
        ]
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path, (_HEADER + "".join(sections)).encode())
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}") from error
