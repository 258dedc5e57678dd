#!/bin/sh
# What the program reads from files, but ECS hands out as variables: written to files that only this user can read, in
# memory where /dev/shm is there. X_TEXT becomes the file that X names; X_TEXT itself does not reach the program.
set -eu
umask 077

for name in SYNC_ASSETS_CONFIG SYNC_ASSETS_CA_BUNDLE D365_CLIENT_CERTIFICATE CAMPAIGN_SFTP_PRIVATE_KEY CAMPAIGN_SFTP_HOST_KEY; do
  eval "text=\${${name}_TEXT:-}"
  [ -n "$text" ] || continue
  : "${folder:=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)" sync_assets.XXXXXXXX)}"
  printf '%s\n' "$text" > "$folder/$name"
  export "$name=$folder/$name"
  unset "${name}_TEXT"
done

exec "$@"
