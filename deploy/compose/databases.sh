#!/bin/sh
# Run once by the database's container, on an empty volume: two databases, each with a role that may use no other.
set -eu

psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 \
  --set dagster="$DAGSTER_PG_PASSWORD" --set ledger="$LEDGER_PASSWORD" <<'SQL'
CREATE ROLE dagster LOGIN PASSWORD :'dagster';
CREATE ROLE sync_assets LOGIN PASSWORD :'ledger';
CREATE DATABASE dagster OWNER dagster;
CREATE DATABASE sync_assets OWNER sync_assets;
REVOKE CONNECT ON DATABASE dagster, sync_assets FROM PUBLIC;
SQL
