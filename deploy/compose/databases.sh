#!/bin/sh
# Run once by the database's container, on an empty volume, or by a person against a server of a cloud: two databases, each
# with a role that may use no other. An administrator who is no superuser, as on RDS and Azure, creates a database for a
# role only as its member (PostgreSQL 16), hence the grant.
set -eu

psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 \
  --set dagster="$DAGSTER_PG_PASSWORD" --set ledger="$LEDGER_PASSWORD" <<'SQL'
CREATE ROLE dagster LOGIN PASSWORD :'dagster';
CREATE ROLE sync_assets LOGIN PASSWORD :'ledger';
GRANT dagster, sync_assets TO CURRENT_USER;
CREATE DATABASE dagster OWNER dagster;
CREATE DATABASE sync_assets OWNER sync_assets;
REVOKE CONNECT ON DATABASE dagster, sync_assets FROM PUBLIC;
REVOKE dagster, sync_assets FROM CURRENT_USER;
SQL
