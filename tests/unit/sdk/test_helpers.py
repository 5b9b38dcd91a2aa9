"""The helpers that callers of entities use."""

from __future__ import annotations

import json

import pytest
from census.v1 import census_pb2
from google.protobuf.descriptor_pb2 import MethodOptions
from hypothesis import given
from hypothesis import strategies as st

from seedbed.errors import ContractError
from seedbed.helpers import join_key, once, service_config, split_key
from seedbed.v1 import cluster_pb2
from tests.unit.sdk.dynamic import field, message, method, service, service_of

REF = message("Ref", field("id", 1, key=True))


def test_once_is_call_metadata() -> None:
    assert once("order-1/credit") == (("idempotency-key", "order-1/credit"),)


def test_only_methods_that_may_be_repeated_are_retried() -> None:
    made = service_of(
        REF,
        service(
            method("Plain", "Ref"),
            method("Set", "Ref", level=MethodOptions.IDEMPOTENT),
            method("Get", "Ref", level=MethodOptions.NO_SIDE_EFFECTS),
            method("Watch", "Ref", server_streaming=True),
        ),
    )
    (config,) = json.loads(service_config(made.file))["methodConfig"]
    assert config["name"] == [
        {"service": "demo.Thing", "method": name} for name in ("Set", "Get", "Watch")
    ]
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_services_that_are_no_entities_are_left_alone() -> None:
    assert "methodConfig" not in json.loads(service_config(cluster_pb2.DESCRIPTOR))
    assert service_config(cluster_pb2) == service_config()


def test_calls_are_spread_over_the_seeds_that_are_healthy() -> None:
    config = json.loads(service_config())
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": ""}


def test_modules_files_and_services_are_taken() -> None:
    service = census_pb2.DESCRIPTOR.services_by_name["Census"]
    of_file = service_config(census_pb2.DESCRIPTOR)
    assert "census.v1.Census" in of_file
    assert service_config(census_pb2) == service_config(service) == of_file


def test_a_named_service_that_is_no_entity_is_refused() -> None:
    with pytest.raises(ContractError, match=r"seedbed\.v1\.Cluster is no entity"):
        service_config(cluster_pb2.DESCRIPTOR.services_by_name["Cluster"])


def test_what_describes_no_services_is_refused() -> None:
    with pytest.raises(TypeError, match="no _pb2 module"):
        service_config(json)
    with pytest.raises(TypeError, match="no _pb2 module"):
        service_config(census_pb2.Person)  # type: ignore[arg-type]


def test_an_entity_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ContractError):
        service_config(service_of(REF, service(method("Get", "Reply"))).file)


def test_a_composite_key_is_readable() -> None:
    assert join_key("acme", "room/1", "") == "acme/room%2F1/"
    assert join_key("Köln") == "K%C3%B6ln"


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_parts_of_a_key_come_back(parts: list[str]) -> None:
    assert split_key(join_key(*parts)) == parts


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_different_parts_make_different_keys(one: list[str], other: list[str]) -> None:
    assert (join_key(*one) == join_key(*other)) == (one == other)


def test_a_key_has_at_least_one_part() -> None:
    with pytest.raises(ValueError, match="one part"):
        join_key()
