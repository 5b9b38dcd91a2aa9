"""Take tokens: python -m limiter.client alice [TOKENS]; exit code 1 means not allowed."""

from __future__ import annotations

import argparse
import sys

import grpc

from limiter.v1 import limiter_pb2 as pb
from limiter.v1 import limiter_pb2_grpc as pb_grpc

TIMEOUT_S = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask a rate limiter.")
    parser.add_argument("name")
    parser.add_argument("tokens", type=int, nargs="?", default=1)
    parser.add_argument("--entry", default="127.0.0.1:4684", help="a seed, host:port")
    arguments = parser.parse_args()
    with grpc.insecure_channel(arguments.entry) as channel:
        limiter = pb_grpc.LimiterStub(channel)
        request = pb.TakeRequest(name=arguments.name, tokens=arguments.tokens)
        try:
            verdict = limiter.Take(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 2
    if verdict.allowed:
        print(f"allowed, {verdict.left} left")
        return 0
    print(f"not allowed, try again in {verdict.retry_after.ToTimedelta().total_seconds():.1f} s")
    return 1


if __name__ == "__main__":
    sys.exit(main())
