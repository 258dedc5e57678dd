#!/bin/sh
# The only way out of this host's containers: squid, as a proxy that makes tunnels to EGRESS_HOSTS and does nothing else.
# Each of them is `host`, for port 443, or `host:port`, with blanks between. Whole names are compared, not addresses.
set -euf
configuration=$(mktemp)
{
  echo "http_port ${EGRESS_PORT:-3128}"
  number=0
  for one in $EGRESS_HOSTS; do
    case $one in
    *[!A-Za-z0-9.:-]* | *:*:* | :* | *: | .* | *:*[!0-9]*)
      echo "EGRESS_HOSTS: $one is no host and no host:port. Write names without https:// and paths." >&2
      exit 1
      ;;
    *:*) host=${one%:*} port=${one#*:} ;;
    *) host=$one port=443 ;;
    esac
    number=$((number + 1))
    echo "acl host$number dstdomain -n $host"
    echo "acl port$number port $port"
    echo "http_access allow CONNECT host$number port$number"
  done
  echo "http_access deny all"
  # What it logs is host and port of each tunnel, but not its own health check. It stores nothing.
  cat <<END
acl probe src 127.0.0.1/32
access_log stdio:/dev/stdout !probe
cache_log /dev/stderr
cache deny all
cache_mem 0
netdb_filename none
pid_filename none
coredump_dir /tmp
pinger_enable off
forwarded_for delete
max_filedescriptors 4096
shutdown_lifetime 1 second
END
} >"$configuration"
exec squid -N -f "$configuration"
