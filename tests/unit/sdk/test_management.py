"""The management port answers people and probes, also while the event loop stands still."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import pytest

from seedbed.errors import SettingsError
from seedbed.service.management import Checks, Management


def good() -> Mapping[str, str | None]:
    return {"loop": None}


def broken() -> Mapping[str, str | None]:
    raise OSError("no disk")


@contextmanager
def serving(*, alive: Checks = good, ready: Checks = good) -> Generator[str]:
    management = Management(alive=alive, ready=ready, metrics=lambda: "seedbed_info 1\n")
    port = management.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        management.close()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_process_whose_checks_are_good_is_ready() -> None:
    with serving() as url:
        code, body = get(f"{url}/health/ready")
        assert code == 200
        assert json.loads(body) == {"status": "SERVING", "checks": {"loop": "ok"}}


def test_one_bad_check_is_named() -> None:
    with serving(ready=lambda: {"etcd": "not reached for 7 s", "watch": None}) as url:
        code, body = get(f"{url}/health/ready")
        assert code == 503
        assert json.loads(body) == {
            "status": "NOT_SERVING",
            "checks": {"etcd": "not reached for 7 s", "watch": "ok"},
        }
        assert get(f"{url}/health/alive")[0] == 200


def test_a_check_that_fails_itself_is_a_bad_one() -> None:
    with serving(alive=broken) as url:
        code, body = get(f"{url}/health/alive")
        assert code == 503
        assert "OSError: no disk" in body


def test_metrics_are_text_and_other_paths_are_not_there() -> None:
    with serving() as url:
        assert get(f"{url}/metrics") == (200, "seedbed_info 1\n")
        assert get(f"{url}/other")[0] == 404


def test_a_port_in_use_names_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        management = Management(alive=good, ready=good, metrics=str)
        with pytest.raises(SettingsError, match=f"SEEDBED_HTTP_PORT: found '{port}'"):
            management.start("127.0.0.1", port)


def test_an_address_of_another_machine_names_its_setting() -> None:
    management = Management(alive=good, ready=good, metrics=str)
    with pytest.raises(SettingsError, match="SEEDBED_BIND"):
        management.start("192.0.2.1", 0)


def test_a_port_is_free_again_after_the_end() -> None:
    with serving() as url:
        port = int(url.rpartition(":")[2])
    management = Management(alive=good, ready=good, metrics=str)
    assert management.start("127.0.0.1", port) == port
    management.close()
