"""Users: what the file holds, who may read it, and that a damaged one is refused with its name."""

import hashlib
import os

import pytest

from bifrost.core.errors import ConfigError, LimitError
from bifrost.opcua.users import Users, make_user


@pytest.fixture
def users(tmp_path):
    return Users(tmp_path / "pki" / "users.toml", 3)


def test_user_is_kept_as_a_slow_hash_that_only_the_owner_can_read(users, tmp_path):
    assert users.add(make_user("scada", "correct horse", "write")) is False
    path = tmp_path / "pki" / "users.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "correct" not in path.read_text()
    (user,) = users.load()
    assert (user.name, user.role) == ("scada", "write")
    expected = hashlib.pbkdf2_hmac("sha256", b"correct horse", bytes.fromhex(user.salt), user.iterations)
    assert bytes.fromhex(user.hash) == expected
    assert user.accepts("correct horse")
    assert not user.accepts("correct hors")


def test_two_users_with_one_password_have_different_hashes():
    assert make_user("a", "password").hash != make_user("b", "password").hash


def test_adding_again_replaces_the_password(users):
    users.add(make_user("scada", "old password"))
    assert users.add(make_user("scada", "new password", "write")) is True
    (user,) = users.load()
    assert (user.accepts("new password"), user.role) == (True, "write")


def test_removing_leaves_the_others(users):
    users.add(make_user("a", "password"))
    users.add(make_user("b", "password"))
    users.remove("a")
    assert [user.name for user in users.load()] == ["b"]
    with pytest.raises(ValueError, match="no user 'a'"):
        users.remove("a")


def test_one_more_than_the_limit_is_refused(users):
    for name in "abc":
        users.add(make_user(name, "password"))
    with pytest.raises(LimitError, match="opcua_users_max"):
        users.add(make_user("d", "password"))


@pytest.mark.parametrize(
    ("name", "password", "role", "words"),
    [
        ("", "password", "read", "1 to 64 letters"),
        ("a b", "password", "read", "1 to 64 letters"),
        ("a", "short", "read", "8 to 256"),
        ("a", "x" * 257, "read", "8 to 256"),
        ("a", "password", "admin", "one of read, write"),
    ],
)
def test_what_is_not_allowed_is_refused_with_what_is(name, password, role, words):
    with pytest.raises(ValueError, match=words):
        make_user(name, password, role)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("hash = ", "hush = "),
        lambda text: text.replace('role = "read"', 'role = "root"'),
        lambda text: text.replace('salt = "', 'salt = "zz'),
        lambda text: text + text,
        lambda text: text[:-20],
        lambda text: "user = 3",
    ],
)
def test_damaged_file_is_refused_by_name(users, tmp_path, damage):
    users.add(make_user("a", "password"))
    path = tmp_path / "pki" / "users.toml"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ConfigError, match=r"users\.toml"):
        users.load()


def test_no_file_is_no_users(users):
    assert list(users.load()) == []
    assert users.fingerprint() == (0, 0)


def test_change_is_noticed(users, tmp_path):
    users.add(make_user("a", "password"))
    before = users.fingerprint()
    os.utime(tmp_path / "pki" / "users.toml", ns=(0, 0))
    assert users.fingerprint() != before
