#!/bin/sh
# In the database's container: a copy of both databases in a new folder of /backups, while everything works. Each copy is
# consistent in itself; between the two lie seconds, of which the older one, Dagster's, lacks the history only.
set -eu
umask 077
folder=${1:-/backups/$(date -u +%Y-%m-%dT%H%M%SZ)}
mkdir "$folder.part"  # an old folder, or one that another backup writes, is left alone
for name in dagster sync_assets; do
  pg_dump --username "$POSTGRES_USER" --format=custom --file "$folder.part/$name.dump" "$name"
  pg_restore --list "$folder.part/$name.dump" > /dev/null  # a copy that cannot be read is none
done
mv "$folder.part" "$folder"
echo "$folder"
