"""What the environment adds to a configuration: ``${VAR}`` in texts, ``BIFROST__SECTION__KEY`` overrides, and secrets.

The environment is always an argument, so that a test or a dry run can bring its own. A secret is read when it is
needed and is never part of the configuration, which can therefore be shown to anybody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

import msgspec

from bifrost.core.config_rules import SecretRef, nearest
from bifrost.core.errors import ConfigError
from bifrost.core.secrets import SECRETS

__all__ = ["OVERRIDE_PREFIX", "Override", "apply_overrides", "expand", "reveal"]

OVERRIDE_PREFIX = "BIFROST__"
_PLACEHOLDER = re.compile(r"\$?\$\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_MANY = ("device", "uplink")  # Sections that are there once for each name.
_SECRET_BYTES_MAX = 65_536  # A private key or a token fits; a device file by mistake does not.


class Override(msgspec.Struct, frozen=True):
    """A setting from the environment: which variable, and its text."""

    variable: str
    text: str


def expand(text: str, environ: Mapping[str, str], placeholders: Collection[str] = ()) -> str:
    """`text` with each ``${VAR}`` replaced from the environment.

    Args:
        text: ``$${`` stands for a literal ``${``.
        environ: Variables; their names are capital letters, digits and ``_``.
        placeholders: Names in small letters that may stand in `text` and stay, since they are filled in at run time.

    Raises:
        ValueError: A variable that is not set, or a placeholder that this key does not have.
    """

    def replacement(found: re.Match[str]) -> str:
        name = found.group(1)
        if found.group().startswith("$$"):
            return found.group()[1:]
        if name in placeholders:
            return found.group()
        if not _VARIABLE_NAME.fullmatch(name):
            known = nearest(name, placeholders) if placeholders else "; environment variables are in capital letters"
            raise ValueError(f"unknown placeholder '${{{name}}}'{known}")
        if name not in environ:
            raise ValueError(f"environment variable {name!r} is not set")
        return environ[name]

    return _PLACEHOLDER.sub(replacement, text)


def apply_overrides(
    document: dict[str, object], environ: Mapping[str, str], sections: Collection[str]
) -> list[ConfigError]:
    """Put an `Override` into `document` for each ``BIFROST__…`` variable, and report those that fit nowhere.

    ``BIFROST__GATEWAY__WRITES`` sets a key of a section; ``BIFROST__DEVICE__BOILER__URL`` one of the device named
    boiler, where the name is in capitals with ``_`` for anything but letters and digits. Unknown keys are left to the
    reader, which knows what is allowed.
    """
    problems: list[ConfigError] = []
    for variable in sorted(environ):
        if not variable.startswith(OVERRIDE_PREFIX):
            continue
        try:
            table, key = _target(document, variable.removeprefix(OVERRIDE_PREFIX).split("__"), sections)
        except ValueError as error:
            problems.append(ConfigError(str(error), key=variable))
        else:
            table[key] = Override(variable, environ[variable])
    return problems


def _target(document: dict[str, object], parts: list[str], sections: Collection[str]) -> tuple[dict[str, object], str]:
    if len(parts) < 2 or not all(parts):
        raise ValueError("expected BIFROST__SECTION__KEY, for example BIFROST__GATEWAY__WRITES")
    section, *names, key = (part.lower() for part in parts)
    if section not in sections:
        raise ValueError(f"unknown section{nearest(section, sections)}")
    table = document.setdefault(section, [] if section in _MANY else {})
    if isinstance(table, list):
        if not names:
            raise ValueError(f"expected the name of one {section}: BIFROST__{parts[0]}__NAME__KEY")
        table = _named_item(table, section, names.pop(0))
    for name in names:
        if not isinstance(table, dict):
            break
        table = table.setdefault(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"[{section}] is not a table in the file")
    return table, key


def _named_item(items: list[object], section: str, wanted: str) -> object:
    named = {_folded(str(item.get("name", ""))): item for item in items if isinstance(item, dict)}
    if wanted not in named:
        raise ValueError(f"no {section} of that name{nearest(wanted, named) if named else ' in the file'}")
    return named[wanted]


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())


def reveal(secret: SecretRef, environ: Mapping[str, str], directory: str) -> str:
    """The secret itself, without the line end that editors leave. Reads a file; keep the result no longer than needed.

    From now on `core.secrets` keeps it out of whatever this process says.

    Args:
        secret: Where it is.
        environ: For ``env:``, and ``CREDENTIALS_DIRECTORY`` of systemd for ``cred:``.
        directory: Where relative paths of ``file:`` begin: the directory of the configuration file.

    Raises:
        ConfigError: It is not there or cannot be read; the message never holds any of it.
    """
    content = _read_secret(secret, environ, directory)
    SECRETS.hide(content)
    return content


def _read_secret(secret: SecretRef, environ: Mapping[str, str], directory: str) -> str:
    if secret.kind == "env":
        if secret.name not in environ:
            raise ConfigError(f"environment variable {secret.name!r} is not set", key=str(secret))
        return environ[secret.name]
    if secret.kind == "cred":
        directory = environ.get("CREDENTIALS_DIRECTORY", "")
        if not directory or os.sep in secret.name:
            raise ConfigError("no systemd credential of that name (LoadCredential= in the unit)", key=str(secret))
    path = os.path.join(directory, secret.name)
    try:
        with open(path, "rb") as file:
            content = file.read(_SECRET_BYTES_MAX + 1)
        if len(content) > _SECRET_BYTES_MAX:
            raise ConfigError(f"longer than {_SECRET_BYTES_MAX} bytes, so hardly a secret", key=str(secret))
        return content.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"cannot read the secret: {error.strerror}", key=str(secret)) from error
    except UnicodeDecodeError:
        raise ConfigError("the secret is not UTF-8 text", key=str(secret)) from None
