#!/usr/bin/env bash
# Installs the Debian packages that `make run` or `make test` needs and that are not here yet.
#
# As root it installs them, without starting any service and without removing anything. As another user, or where
# there is no apt-get, it prints the one line that is missing and fails.
#
#     scripts/install-packages.sh run|test [--only-say]
#
# With --only-say it installs nothing, whoever asks.
set -euo pipefail

purpose=${1:?run or test}
only_say=${2:-}
python=${PYTHON:-python3}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # a plain user's PATH leaves these out, and the servers live there

missing=()
aside=() # PACKAGE:FILE pairs of programs that are taken out of their package, see take_out

# need PACKAGE PROGRAM...: the package is wanted when a program is not here, whichever package may have brought it.
need() {
    local package=$1 program
    shift
    for program in "$@"; do
        if ! command -v "$program" >/dev/null; then
            missing+=("$package")
            return
        fi
    done
}

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    missing+=(python3-venv) # Debian ships Python without the part that makes virtual environments
fi

if [[ $purpose == test ]]; then
    need nginx-light nginx
    need postfix postfix postdrop
    need dovecot-imapd dovecot /usr/lib/dovecot/imap
    need dovecot-pop3d /usr/lib/dovecot/pop3
    need unbound unbound
    need prometheus prometheus promtool
    need prometheus-blackbox-exporter prometheus-blackbox-exporter
    need nftables nft
    need iproute2 ip
    need iputils-ping ping
    need fping fping
    need tcpdump tcpdump
    need procps ps
    need openssl openssl
    need systemd systemd-analyze /lib/systemd/systemd
    need coturn turnserver
    need kamailio kamailio
    compgen -G '/usr/lib/*/kamailio/modules/tls.so' >/dev/null || missing+=(kamailio-tls-modules)
    need monitoring-plugins-basic /usr/lib/nagios/plugins/check_tcp /usr/lib/nagios/plugins/check_http
    need snmpd snmpd
    need libreoffice-writer-nogui soffice # opens the Word report as an office does
    need poppler-utils pdftoppm pdffonts
    # As wide as Times New Roman, which Debian has not.
    compgen -G '/usr/share/fonts/truetype/liberation*/LiberationSerif-Regular.ttf' >/dev/null || missing+=(fonts-liberation)
    need faketime faketime # brings libfaketime: clocks that tests may set
    # Debian allows one keeper of the clock: installing chrony would throw out the one this machine has.
    command -v chronyd >/dev/null || aside+=(chrony:usr/sbin/chronyd)
fi

if ((${#missing[@]} + ${#aside[@]} == 0)); then
    exit 0
fi

line="apt-get install -y --no-install-recommends ${missing[*]}"
if ((${#aside[@]} > 0)); then
    line="$0 $purpose" # knows how to take a program out of its package
fi
if ((EUID != 0)) || [[ $only_say == --only-say ]] || ! command -v apt-get >/dev/null; then
    printf 'Missing here. Root has to run this once, then the same make again:\n\n    sudo %s\n\n' \
        "$line" >&2
    exit 1
fi

# Packages of servers start their services on installation; this policy forbids it. An existing one is the owner's.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
options=(-o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
# A mirror that is out of reach is no reason to stop: the packages may be in the cache.
apt-get "${options[@]}" update -q </dev/null || echo "apt-get update failed; trying with the lists at hand" >&2
# --no-remove: better to fail than to throw out the mail server that this machine already has.
if ((${#missing[@]} > 0)); then
    apt-get "${options[@]}" install -q -y --no-install-recommends --no-remove "${missing[@]}" </dev/null
fi

# take_out PACKAGE FILE: put one program of a package into /usr/local/sbin, without installing the package: no service,
# no conflict with what is here. Its libraries are installed.
take_out() {
    local package=$1 file=$2 folder
    folder=$(mktemp -d)
    (
        cd "$folder"
        apt-cache depends --no-suggests --no-recommends --no-conflicts --no-breaks --no-replaces "$package" |
            sed -n 's/^ *Depends: \(lib[^<>]*\)$/\1/p' |
            xargs -r apt-get "${options[@]}" install -q -y --no-install-recommends --no-remove
        apt-get "${options[@]}" -o APT::Sandbox::User=root download -q "$package"
        dpkg-deb --extract "$package"_*.deb tree
        install -D -m 755 "tree/$file" "/usr/local/sbin/${file##*/}"
    )
    rm -r "$folder"
}

for pair in "${aside[@]}"; do
    take_out "${pair%%:*}" "${pair#*:}"
done
