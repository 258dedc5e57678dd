# The proxy of docker-compose.yaml: Debian's squid. To be sure of the base, give it by digest: DEBIAN=debian:trixie-slim@sha256:…
ARG DEBIAN=debian:trixie-slim
FROM ${DEBIAN}
RUN apt-get update && apt-get install --yes --no-install-recommends squid && rm -rf /var/lib/apt/lists/* \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY egress.sh /usr/local/bin/
USER 13
ENTRYPOINT ["egress.sh"]
