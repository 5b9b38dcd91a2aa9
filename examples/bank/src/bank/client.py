"""A plain, blocking gRPC client of the bank.

python -m bank.client deposit alice 100
python -m bank.client balance alice
python -m bank.client transfer alice bob 30
"""

from __future__ import annotations

import argparse
import sys
import time
import uuid

import grpc

import seedbed
from bank.v1 import bank_pb2 as pb
from bank.v1 import bank_pb2_grpc as pb_grpc

TIMEOUT_S = 5.0
ATTEMPTS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description="Talk to the bank.")
    parser.add_argument("--entry", default="127.0.0.1:4684", help="a seed, host:port")
    commands = parser.add_subparsers(dest="command", required=True)
    deposit = commands.add_parser("deposit")
    deposit.add_argument("account")
    deposit.add_argument("cents", type=int)
    balance = commands.add_parser("balance")
    balance.add_argument("account")
    transfer = commands.add_parser("transfer")
    transfer.add_argument("debtor")
    transfer.add_argument("creditor")
    transfer.add_argument("cents", type=int)
    transfer.add_argument("--id", default="", help="to go on with one that was begun")
    arguments = parser.parse_args()

    # gRPC repeats by itself what may be repeated.
    options = [("grpc.service_config", seedbed.service_config(pb.DESCRIPTOR))]
    with grpc.insecure_channel(arguments.entry, options=options) as channel:
        accounts = pb_grpc.AccountStub(channel)
        try:
            match arguments.command:
                case "deposit":
                    posting = pb.Posting(account_id=arguments.account, cents=arguments.cents)
                    show(accounts.Deposit(posting, timeout=TIMEOUT_S))
                case "balance":
                    account = pb.AccountRef(account_id=arguments.account)
                    show(accounts.Get(account, timeout=TIMEOUT_S))
                case _:
                    request = pb.TransferRequest(
                        transfer_id=arguments.id or str(uuid.uuid4()),
                        debtor=arguments.debtor,
                        creditor=arguments.creditor,
                        cents=arguments.cents,
                    )
                    status = drive(pb_grpc.TransferStub(channel), request)
                    step = pb.Step.Name(status.step).removeprefix("STEP_")
                    print(f"{status.transfer_id}: {step} {status.reason}".rstrip())
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


def drive(transfers: pb_grpc.TransferStub, request: pb.TransferRequest) -> pb.TransferStatus:
    """Start a transfer until it is done or refused; each attempt is the same call."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return transfers.Start(
                request, timeout=TIMEOUT_S, metadata=seedbed.once(request.transfer_id)
            )
        except grpc.RpcError as error:
            if attempt == ATTEMPTS or error.code() in FINAL:
                raise
            time.sleep(0.1 * attempt)
    raise AssertionError("the last attempt returns or raises")


FINAL = (
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
)
"""The same call would be refused again."""


def show(balance: pb.Balance) -> None:
    """Print a balance as one line."""
    print(f"{balance.account_id}: {balance.cents} cents")


if __name__ == "__main__":
    sys.exit(main())
