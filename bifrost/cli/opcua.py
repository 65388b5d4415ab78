"""Who may connect to the OPC UA server: certificates of clients, and users.

    bifrost opcua cert list                       certificates that are trusted, and those that were rejected
    bifrost opcua cert show CERT                  one of them; CERT is a file, or the start of a thumbprint
    bifrost opcua cert trust CERT                 trust a rejected one, or one from a file (DER or PEM)
    bifrost opcua cert reject CERT                trust it no longer
    bifrost opcua user add NAME [--role write]    add a user or give it another password; asks for the password
    bifrost opcua user list
    bifrost opcua user remove NAME

Everything counts at once or within a second; the gateway need not be restarted. With the role read, a user reads; with the
role write, it may also write tags that are writable.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bifrost.cli.live import configuration_path
from bifrost.cli.output import print_json, table_lines

if TYPE_CHECKING:
    from bifrost.opcua.certificate import Certificate
    from bifrost.opcua.security import Listed, Pki
    from bifrost.opcua.users import Users

__all__ = ["configure", "run"]

_USAGE = "expected: cert list|show|trust|reject, or user add|list|remove; 'bifrost opcua --help' tells more"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `bifrost opcua`."""
    parser.add_argument("words", nargs="+", metavar="WORD", help="cert or user, what to do, and with what")
    parser.add_argument("--role", choices=("read", "write"), default="read", help="of a new user (default read)")
    parser.add_argument(
        "--password-stdin", action="store_true", help="take the password from standard input, one line, without asking"
    )


def run(options: argparse.Namespace) -> int:
    """Does it; 0."""
    from bifrost.core.config import load_config
    from bifrost.opcua.security import Pki
    from bifrost.opcua.users import Users

    words: list[str] = options.words
    arguments = {"list": 0, "show": 1, "trust": 1, "reject": 1, "add": 1, "remove": 1}
    known = {"cert": ("list", "show", "trust", "reject"), "user": ("add", "list", "remove")}
    if len(words) < 2 or words[1] not in known.get(words[0], ()) or len(words) != 2 + arguments[words[1]]:
        raise ValueError(_USAGE)
    config = load_config(configuration_path(options), os.environ)
    pki = Pki(config.gateway.data_dir)
    if words[0] == "cert":
        _certificates(options, pki, words[1], *words[2:])
    else:
        _change_users(options, Users(pki.users_file, config.limits.opcua_users_max), words[1], *words[2:])
    return 0


# ---- certificates


def _certificates(options: argparse.Namespace, pki: Pki, action: str, word: str = "") -> None:
    if action == "list":
        _list_certificates(options, pki)
    elif action == "show":
        _show(options, _found(pki, word))
    elif action == "trust":
        listed = pki.add(Path(word), "trusted") if Path(word).is_file() else pki.find(word, ("rejected",))
        path = listed.path if listed.folder == "trusted" else pki.move(listed, "trusted")
        assert listed.certificate is not None
        pki.forget_rejected(listed.certificate)
        never = _invalidity(listed.certificate)
        note = f"; it is {never}, so its client is refused all the same" if never else ""
        _report(options, f"trusted: {_name(listed)}{note}", {"trusted": str(path)})
    else:
        listed = pki.find(word, ("trusted",))
        path = pki.move(listed, "rejected")
        _report(options, f"no longer trusted: {_name(listed)}", {"rejected": str(path)})


def _list_certificates(options: argparse.Namespace, pki: Pki) -> None:
    listed = list(pki.iterate())
    if options.json:
        print_json([_record(one) for one in listed])
        return
    if pki.own_certificate.is_file():
        print(f"own certificate: {pki.own_certificate}")
    rows = []
    for one in listed:
        if one.certificate is None:
            rows.append((one.folder, "", one.path.name, "not a certificate", ""))
            continue
        until = " ".join((one.certificate.not_after.date().isoformat(), _invalidity(one.certificate))).rstrip()
        rows.append((one.folder, one.certificate.thumbprint[:12], one.certificate.subject, one.certificate.uri, until))
    print("\n".join(table_lines(("folder", "thumbprint", "subject", "application", "valid until"), rows)))


def _show(options: argparse.Namespace, listed: Listed) -> None:
    record = _record(listed)
    if options.json:
        print_json(record)
    else:
        print("\n".join(table_lines(("", ""), [(key.replace("_", " "), value) for key, value in record.items()])[1:]))


def _found(pki: Pki, word: str) -> Listed:
    from bifrost.opcua.certificate import certificate_der, parse_certificate
    from bifrost.opcua.security import Listed

    path = pki.own_certificate if word == "own" else Path(word)
    if path.is_file():
        return Listed("file", path, parse_certificate(certificate_der(path.read_bytes())))
    return pki.find(word)


def _record(listed: Listed) -> dict[str, Any]:
    record: dict[str, Any] = {"folder": listed.folder, "file": str(listed.path)}
    known = listed.certificate
    if known is not None:
        record |= {
            "subject": known.subject,
            "application": known.uri,
            "hosts": ", ".join(known.hosts),
            "valid_from": known.not_before.isoformat(),
            "valid_until": known.not_after.isoformat(),
            "thumbprint": known.thumbprint,
            "self_signed": known.is_self_signed,
        }
    return record


def _invalidity(certificate: Certificate) -> str:
    """Whether it is out of its time, by this machine's clock; empty if not."""
    now = datetime.now(UTC)
    return "expired" if now > certificate.not_after else "not valid yet" if now < certificate.not_before else ""


def _name(listed: Listed) -> str:
    assert listed.certificate is not None
    return f"{listed.certificate.subject} ({listed.certificate.thumbprint[:12]})"


# ---- users


def _change_users(options: argparse.Namespace, users: Users, action: str, name: str = "") -> None:
    from bifrost.opcua.users import make_user

    if action == "list":
        rows = [(user.name, user.role) for user in users.load()]
        if options.json:
            print_json([{"name": user, "role": role} for user, role in rows])
        else:
            print("\n".join(table_lines(("user", "role"), rows)))
    elif action == "add":
        user = make_user(name, _password(options, name), options.role)
        was_there = users.add(user)
        _report(options, f"{'changed' if was_there else 'added'}: {name}, who may {user.role}", {"user": name})
    else:
        users.remove(name)
        _report(options, f"removed: {name}", {"removed": name})


def _password(options: argparse.Namespace, name: str) -> str:
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ValueError("there is no terminal to ask for the password; give it with --password-stdin")
    password = getpass.getpass(f"password of {name}: ")
    if getpass.getpass("again: ") != password:
        raise ValueError("the two passwords differ")
    return password


def _report(options: argparse.Namespace, sentence: str, record: dict[str, object]) -> None:
    if options.json:
        print_json(record)
    else:
        print(sentence)
