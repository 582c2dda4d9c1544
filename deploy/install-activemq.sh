#!/bin/sh
# Installs ActiveMQ for the tests when it is missing and we may; otherwise says exactly what to install.
set -eu

PACKAGES="activemq libxstream-java libjettison-java libjetty9-java libjolokia-core-java"

present() {
    command -v java >/dev/null 2>&1 && [ -e /usr/share/activemq/bin/activemq.jar ] \
        && [ -e /usr/share/java/xstream.jar ] && [ -e /usr/share/java/jettison.jar ] \
        && [ -e /usr/share/java/jetty9-server.jar ] && [ -e /usr/share/java/jolokia-core.jar ]
}

if present; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing ActiveMQ for the tests: $PACKAGES" >&2
    apt-get -qq update
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends default-jre-headless $PACKAGES >/dev/null
    present && exit 0
fi
cat >&2 <<EOF
ActiveMQ is not installed, so the tests that need a real broker will be skipped.
On Debian or Ubuntu:  sudo apt-get install --no-install-recommends default-jre-headless $PACKAGES
EOF
[ -z "${CI:-}" ]
