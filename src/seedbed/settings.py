"""Reads settings from the environment, so that every bad one stops the start with one line.

    reader = Reader(os.environ, role="seed")
    port = reader.integer("SEEDBED_PORT", minimum=0, maximum=65535)

Names and defaults are in `seedbed.settings_list`. An empty variable is one that is not set; with
`required` it is an error instead.
"""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from seedbed.errors import SettingsError
from seedbed.setting import Setting
from seedbed.settings_list import SECRETS, SETTINGS

NAME = re.compile(r"[a-z0-9.-]{1,63}")
"""Cluster, node, role and type names."""

NAME_RULE = "1 to 63 of a-z 0-9 . -"
ADDRESSES_RULE = "host:port, separated by commas, or one dns:///name:port"

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_TRUE = frozenset({"true", "on"})
_FALSE = frozenset({"false", "off"})
_SHOWN = 100
"""Characters of a wrong value that an error shows."""


def node_id_default(host_name: str | None = None) -> str:
    """Host name in lower case, characters that names do not have as `-`, cut at 63."""
    name = (host_name if host_name is not None else socket.gethostname()).lower()
    return re.sub(r"[^a-z0-9.-]", "-", name)[:63] or "localhost"


def bad_setting(name: str, found: str, expected: str) -> SettingsError:
    """The error of a wrong setting: one line with variable, what was found, what is expected."""
    shown = repr(found[:_SHOWN] + ("…" if len(found) > _SHOWN else ""))
    hint = ""
    if found.startswith("tcp://"):
        # A Service called `seedbed` makes Kubernetes set SEEDBED_PORT in every pod.
        hint = " (set by Kubernetes: use enableServiceLinks: false in the pod's spec)"
    return SettingsError(f"{name}: found {shown}{hint}, expected {expected}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, given directly or by the file that NAME_FILE names. Never shown."""

    name: str
    _text: str
    file: Path | None

    def read(self) -> str:
        """The secret; a file is read again each time, since secrets are rotated in place."""
        return self._text if self.file is None else _read_file(f"{self.name}_FILE", self.file)

    def __repr__(self) -> str:
        return f"Secret({self.name})"


class Reader:
    """Reads declared settings; each method raises `SettingsError` for what it cannot take.

    `role` (`seed` or `worker`) picks the default where the roles differ.
    """

    def __init__(self, environ: Mapping[str, str], role: str = "") -> None:
        self._environ = environ
        self._role = role

    def text(self, name: str, *, required: bool = False) -> str:
        """Any text, without white space around it."""
        setting = SETTINGS[name]
        found = self._environ.get(name)
        if found is not None and found.strip():
            return found.strip()
        if required and (found is not None or not setting.default_for(self._role)):
            raise SettingsError(f"{name}: {_nothing(found)}, expected {_what(setting)}")
        return setting.default_for(self._role)

    def optional(self, name: str) -> str | None:
        """Any text; None if there is none."""
        return self.text(name) or None

    def integer(self, name: str, *, minimum: int | None = None, maximum: int | None = None) -> int:
        """A whole number."""
        text = self.text(name)
        try:
            number = int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else None
        except ValueError:  # thousands of digits
            number = None
        if number is None or not _within(number, minimum, maximum):
            raise bad_setting(name, text, f"a whole number{_limits(minimum, maximum)}")
        return number

    def number(
        self, name: str, *, minimum: float | None = None, maximum: float | None = None
    ) -> float:
        """A number, also one with a fraction."""
        return self._number(name, "a number", minimum, maximum)

    def seconds(
        self, name: str, *, minimum: float = 0.0, maximum: float | None = 31_536_000.0
    ) -> float:
        """A time in seconds, also a fraction of one."""
        return self._number(name, "a number of seconds", minimum, maximum)

    def boolean(self, name: str) -> bool:
        """`true`, `on`, `false` or `off`, in any case."""
        text = self.text(name)
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise bad_setting(name, text, "true, false, on or off")

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of some words, in any case; returns it in lower case."""
        text = self.text(name).lower()
        if text not in choices:
            raise bad_setting(name, text, f"one of {', '.join(choices)}")
        return text

    def name(self, name: str) -> str:
        """A name of a cluster, node or role."""
        text = self.text(name)
        if not NAME.fullmatch(text):
            raise bad_setting(name, text, NAME_RULE)
        return text

    def node_id(self) -> str:
        """SEEDBED_NODE_ID, or what the host name gives."""
        return self.name("SEEDBED_NODE_ID") if self.text("SEEDBED_NODE_ID") else node_id_default()

    def words(self, name: str, *, required: bool = False) -> tuple[str, ...]:
        """Texts separated by commas."""
        return self._filled(name, tuple(_split(self.text(name, required=required))), required)

    def names(self, name: str) -> tuple[str, ...]:
        """Names separated by commas."""
        words = self.words(name)
        for word in words:
            if not NAME.fullmatch(word):
                raise bad_setting(name, word, f"names of {NAME_RULE}, separated by commas")
        return words

    def addresses(self, name: str, *, required: bool = False) -> tuple[str, ...]:
        """`host:port` of each, or one `dns:///name:port`."""
        found = addresses(name, self.text(name, required=required))
        return self._filled(name, found, required)

    def urls(self, name: str, schemes: Sequence[str], *, required: bool = False) -> tuple[str, ...]:
        """URLs separated by commas, each of a scheme of `schemes`, with a host."""
        words = self.words(name, required=required)
        for word in words:
            if not _is_url(word, schemes):
                forms = " or ".join(f"{scheme}://host:port" for scheme in schemes)
                raise bad_setting(name, word, f"{forms}, separated by commas")
        return words

    def file(self, name: str) -> Path | None:
        """A file that is there and can be read; None if there is none to read."""
        text = self.text(name)
        if not text:
            return None
        path = Path(text)
        try:
            with path.open("rb"):
                return path
        except OSError as error:
            raise bad_setting(
                name, text, f"a file that can be read ({error.strerror or error})"
            ) from error

    def secret(self, name: str) -> Secret:
        """A setting of `SECRETS`: its own value, or that of the file which NAME_FILE names."""
        if name not in SECRETS:
            raise KeyError(name)
        named = self._environ.get(f"{name}_FILE", "").strip()
        if not named:
            return Secret(name, self.text(name), None)
        if self._environ.get(name, "").strip():
            raise SettingsError(f"{name}_FILE: {name} is set too, expected only one of them")
        secret = Secret(name, "", Path(named))
        secret.read()
        return secret

    def _filled(self, name: str, words: tuple[str, ...], required: bool) -> tuple[str, ...]:
        if required and not words:  # commas alone
            raise bad_setting(name, self.text(name), _what(SETTINGS[name]))
        return words

    def _number(self, name: str, what: str, minimum: float | None, maximum: float | None) -> float:
        text = self.text(name)
        number = float(text) if _DECIMAL.fullmatch(text) else math.nan
        if not math.isfinite(number) or not _within(number, minimum, maximum):
            raise bad_setting(name, text, f"{what}{_limits(minimum, maximum)}")
        return number


def addresses(name: str, text: str) -> tuple[str, ...]:
    """Split `text` into addresses; `name` is what an error calls it."""
    words = tuple(_split(text))
    if any(word.startswith("dns:") for word in words):
        scheme, _, target = text.partition(":///")
        if len(words) > 1 or scheme != "dns" or not _is_address(target):
            raise bad_setting(name, text, ADDRESSES_RULE)
        return words
    for word in words:
        if not _is_address(word):
            raise bad_setting(name, word, ADDRESSES_RULE)
    return words


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _is_address(text: str) -> bool:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\s/:\[\]@]+):([0-9]{1,5})", text)
    return match is not None and 0 < int(match[2]) < 65536


def _is_url(text: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(text)
        has_port = parts.port is not None
    except ValueError:
        return False
    return has_port and bool(parts.hostname) and parts.scheme in schemes


def _within(number: float, minimum: float | None, maximum: float | None) -> bool:
    return (minimum is None or number >= minimum) and (maximum is None or number <= maximum)


def _limits(minimum: float | None, maximum: float | None) -> str:
    match minimum, maximum:
        case None, None:
            return ""
        case _, None:
            return f", at least {minimum:.15g}"
        case None, _:
            return f", at most {maximum:.15g}"
        case _:
            return f" from {minimum:.15g} to {maximum:.15g}"


def _nothing(found: str | None) -> str:
    return "not set" if found is None else "found nothing"


def _what(setting: Setting) -> str:
    return f"{setting.unit}: {setting.meaning}"


def _read_file(name: str, path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise bad_setting(name, str(path), f"a text file that can be read ({error})") from error
    if not text:
        raise bad_setting(name, str(path), "a file that is not empty")
    return text
