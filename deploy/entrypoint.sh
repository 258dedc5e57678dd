#!/bin/sh
# Puts what the program reads from files, but a platform hands out as variables, into files that only this user can read,
# in memory where /dev/shm is there. The variables themselves do not reach the program:
# X_TEXT becomes the file that X names; a secret X becomes the file that X_FILE names, since Dagster hands the value of
# any variable of the code location to whoever launches a run.
set -eu
umask 077
ulimit -c 0  # a core dump holds every secret

file_of() {
  : "${folder:=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)" sync_assets.XXXXXXXX)}"
  printf '%s\n' "$2" > "$folder/$1"
}

for name in SYNC_ASSETS_CONFIG SYNC_ASSETS_CA_BUNDLE D365_CLIENT_CERTIFICATE CAMPAIGN_SFTP_PRIVATE_KEY \
  CAMPAIGN_SFTP_HOST_KEY PGSSLROOTCERT SYNC_ASSETS_LEDGER_KEY_FILE; do
  eval "text=\${${name}_TEXT:-}"
  unset "${name}_TEXT"
  [ -n "$text" ] || continue
  file_of "$name" "$text"
  export "$name=$folder/$name"
done

for name in D365_CLIENT_SECRET D365_CLIENT_CERTIFICATE_PASSWORD CAMPAIGN_CLIENT_SECRET \
  CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE SYNC_ASSETS_LEDGER_URL SYNC_ASSETS_ALERT_WEBHOOK SYNC_ASSETS_SMTP_PASSWORD \
  SYNC_ASSETS_HEARTBEAT_URL; do
  eval "text=\${$name:-}" "other=\${${name}_FILE:-}"
  [ -z "$other" ] || continue  # both: the program says so
  unset "$name"
  [ -n "$text" ] || continue
  file_of "$name" "$text"
  export "${name}_FILE=$folder/$name"
done

# An init process collects ended runs. The platform's own one (init: true, InitProcessEnabled) would be process 1 with the
# environment from before this script, which every process of the container can read in /proc/1/environ.
[ $$ != 1 ] || set -- tini -- "$@"
exec "$@"
