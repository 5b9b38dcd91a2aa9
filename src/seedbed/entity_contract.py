"""The contract of a service as an entity class will serve it.

`seedbed gen` asks when code is generated, a worker when it loads the class.
"""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor

from seedbed.contract import TypeContract
from seedbed.descriptors import contract_of
from seedbed.entity import Entity
from seedbed.errors import ContractError


def entity_contract(service: ServiceDescriptor) -> TypeContract:
    """Contract of an entity service whose RPCs can be methods of an `Entity`.

    Raises `ContractError` with the place and what to do.
    """
    for method in service.methods:
        if hasattr(Entity, method.name):
            raise ContractError(
                f"{service.file.name}: method {method.full_name}: {method.name} is an attribute of"
                " Entity: give the RPC another name",
                symbol=method.full_name,
            )
    return contract_of(service)
