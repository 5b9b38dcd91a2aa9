#!/bin/sh
# grpcurl: the seeds answer server reflection, so it needs no .proto file.
set -eu
entry=${1:-127.0.0.1:4684}

grpcurl -plaintext "$entry" list
grpcurl -plaintext "$entry" describe thermostat.v1.Thermostat
grpcurl -plaintext -H 'idempotency-key: reading-1' \
  -d '{"device_id": "kitchen", "celsius": 20.5}' "$entry" thermostat.v1.Thermostat/Report
grpcurl -plaintext -d '{"device_id": "kitchen"}' "$entry" thermostat.v1.Thermostat/Get
