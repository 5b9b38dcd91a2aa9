"""The pages that list settings, metrics and log events say what the code does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from seedbed.service.metrics_list import METRICS
from seedbed.settings_list import SETTINGS

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [
    path
    for folder in ("src", "services/seed/src", "services/worker/src")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGERS = {"log", "_log"}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def setting_rows() -> list[str]:
    return [
        f"| `{setting.name}` | {shown(setting.shown_default)} | {setting.unit} | {setting.who} |"
        f" {setting.meaning} |"
        for setting in SETTINGS.values()
    ]


def shown(default: str) -> str:
    return default if default == "none" else f"`{default}`"


def metric_rows() -> list[str]:
    return [
        f"| `{metric.name}` | {metric.kind} |"
        f" {', '.join(f'`{label}`' for label in metric.labels) or 'none'} | {metric.who} |"
        f" {metric.meaning} |"
        for metric in METRICS.values()
    ]


@dataclass(frozen=True)
class Logged:
    """A log call whose event is written there."""

    file: str
    event: str
    fields: tuple[str, ...]


def logged() -> Iterator[Logged]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr=attr), args=[event, *_]
                ) if name in LOGGERS and attr in LEVELS:
                    extra = (word.value for word in node.keywords if word.arg == "extra")
                    fields = tuple(field for value in extra for field in keys(value))
                    for text in texts(event):
                        yield Logged(path.name, text, fields)
                case _:
                    pass


def keys(node: ast.expr) -> list[str]:
    """Names in a dictionary that is written out, also beside one that is not."""
    match node:
        case ast.Dict(keys=names):
            return [text for name in names if name is not None for text in texts(name)]
        case ast.BinOp(left=left, right=right):
            return keys(left) + keys(right)
        case _:
            return []


def texts(node: ast.expr) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=body, orelse=orelse):
            return texts(body) + texts(orelse)
        case _:
            return []


def test_every_setting_stands_in_its_page() -> None:
    rows = [line for line in page("settings.md").splitlines() if line.startswith("| `SEEDBED_")]
    assert rows == setting_rows()


def test_every_setting_is_read_somewhere() -> None:
    code = "".join(path.read_text("utf-8") for path in SOURCES if path.name != "settings_list.py")
    code += "".join(
        f'"SEEDBED_{group}_{part}"'
        for group, part in re.findall(r'f"SEEDBED_(TLS)_\{part\}".*"(CERT|KEY|CA)"', code)
    )
    unread = [name for name in SETTINGS if f'"{name}"' not in code]
    assert not unread


def test_every_setting_that_is_read_is_declared() -> None:
    declared = re.compile(r'"(SEEDBED_[A-Z_]+[A-Z])"')
    for path in SOURCES:
        for name in declared.findall(path.read_text("utf-8")):
            assert name.removesuffix("_FILE") in SETTINGS, f"{path.name}: {name}"


def test_every_metric_stands_in_its_page() -> None:
    rows = [
        line
        for line in page("metrics-and-logs.md").splitlines()
        if line.startswith(("| `seedbed_", "| `process_"))
    ]
    assert rows == metric_rows()


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_measured_somewhere(name: str) -> None:
    code = (path.read_text("utf-8") for path in SOURCES if path.name != "metrics_list.py")
    assert any(f'"{name}"' in text for text in code)


def test_every_log_event_stands_in_its_page_with_its_fields() -> None:
    rows = [row for row in page("metrics-and-logs.md").splitlines() if row.startswith("| `")]
    missing = {
        f"{call.file}: {call.event} {list(call.fields)}"
        for call in logged()
        if not any(
            f"`{call.event}`" in row.split("|")[1] and all(f"`{f}`" in row for f in call.fields)
            for row in rows
        )
    }
    assert not missing


def test_every_event_of_the_page_is_logged() -> None:
    code = "".join(path.read_text("utf-8") for path in SOURCES)
    logs = page("metrics-and-logs.md").partition("## Logs")[2]
    rows = [line.split("|")[1] for line in logs.splitlines() if line.startswith("| `")]
    stale = [
        event for row in rows for event in re.findall(r"`([^`]+)`", row) if f'"{event}"' not in code
    ]
    assert not stale


FOLDERS = {
    "sdk/": "src/seedbed/",
    "seed/": "services/seed/src/seedbed_seed/",
    "worker/": "services/worker/src/seedbed_worker/",
}


def test_every_file_that_the_architecture_names_is_there() -> None:
    for name in re.findall(r"`((?:sdk|seed|worker)/[a-z_/]+(?:\.py)?)`", page("architecture.md")):
        short, slash, rest = name.partition("/")
        assert (ROOT / (FOLDERS[short + slash] + rest)).exists(), name


def test_every_link_of_a_page_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/*/README.md")]
    for path in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


def test_pages_name_no_private_place_and_no_host() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text("utf-8")
        assert "/work/" not in text, path
        assert not re.search(r"https?://(?!127\.0\.0\.1|a:|localhost)", text), path
