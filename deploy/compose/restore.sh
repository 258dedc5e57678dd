#!/bin/sh
# In the database's container: both databases from a folder that backup.sh has made, in place of what they hold now.
# Web server, daemon and code location must be stopped: nothing may write meanwhile.
set -eu
folder=${1:?name the folder of the backup}
for name in dagster sync_assets; do
  [ -r "$folder/$name.dump" ] || { echo "$folder/$name.dump is missing: nothing was changed" >&2; exit 1; }
done
for name in dagster sync_assets; do
  pg_restore --username "$POSTGRES_USER" --dbname "$name" --clean --if-exists --single-transaction "$folder/$name.dump"
done
