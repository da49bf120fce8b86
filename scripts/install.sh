#!/usr/bin/env bash
# Installs thongsuot as a service, or removes it. Called by `make install` and `make uninstall`.
#
#     scripts/install.sh install|uninstall
#
# Settings, from the environment:
#   PREFIX  (/opt/thongsuot)  the folder of the program, its own and nobody else's
#   BINDIR  (/usr/local/bin)  where a link to the command is put
#   DESTDIR ()                build the tree in there, for a package or a look: no user, no systemd, no owner
#   PYTHON  (python3)         Python 3.11 or newer that the service's user can read
#
# Run again it upgrades in place; /etc/thongsuot and /var/lib/thongsuot are never written over and never removed.
# What pip is told by PIP_* variables (PIP_NO_INDEX, PIP_FIND_LINKS, PIP_INDEX_URL) holds here too.
set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/.."

action=${1:?install or uninstall}
prefix=${PREFIX:-/opt/thongsuot}
bindir=${BINDIR:-/usr/local/bin}
destdir=${DESTDIR:-}
python=${PYTHON:-python3}

user=thongsuot
root=$destdir$prefix
venv=$root/venv
marker=$root/.thongsuot # says that this folder is ours to change and to remove
config=$destdir/etc/thongsuot
unit=$destdir/etc/systemd/system/thongsuot.service

die() {
    printf '%s\n' "$@" >&2
    exit 1
}

say() { printf '%s\n' "$@"; }

systemd_runs() { [[ -z $destdir && -d /run/systemd/system ]]; }

check_settings() {
    local name
    for name in prefix bindir; do
        [[ ${!name} == /?* && ${!name} != *[[:space:]]* ]] ||
            die "${name^^} has to be an absolute path without blanks, not '${!name}'."
    done
    [[ -z $destdir || $destdir == /* ]] || die "DESTDIR has to be an absolute path, not '$destdir'."
    if [[ -z $destdir ]] && ((EUID != 0)); then
        die "Only root can install a service: sudo make $action"
    fi
}

check_folder() {
    if [[ -d $root && ! -e $marker && -n $(ls -A "$root") ]]; then
        die "$root is there already and was not made by this installation: choose another PREFIX."
    fi
}

check_python() {
    command -v "$python" >/dev/null || die "$python is not here: make install PYTHON=/path/to/python3"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed; $(command -v "$python") is $("$python" -V 2>&1)." \
            "Name another: make install PYTHON=/path/to/python3"
    local base
    base=$("$python" -c 'import sys; print(sys.base_prefix)')
    case $base/ in
    /root/* | /home/*)
        [[ -n $destdir ]] || die "The service may not look into $base, where $(command -v "$python") lives." \
            "Take the system's own: make install PYTHON=/usr/bin/python3"
        ;;
    esac
}

make_user() {
    if getent passwd "$user" >/dev/null; then
        return
    fi
    useradd --system --user-group --home-dir /var/lib/thongsuot --no-create-home --shell /usr/sbin/nologin \
        --comment "Thong Suot monitor" "$user"
}

python_version() { "$1" -c 'import sys; print(*sys.version_info[:2], sys.base_prefix)' 2>/dev/null; }

install_program() {
    mkdir -p "$root"
    touch "$marker"
    # Another Python than last time, or one that has gone: the packages in there are of no use to it.
    if [[ $(python_version "$venv/bin/python") != "$(python_version "$python")" ]]; then
        "$python" -m venv --clear "$venv"
    fi
    local pip=("$venv/bin/python" -I -m pip --disable-pip-version-check --no-input --quiet)
    # Nothing is fetched for what is installed already in the locked version, so a second run needs no network.
    "${pip[@]}" install --require-hashes -r requirements.lock -r scripts/requirements-build.lock

    local work
    work=$(mktemp -d)
    # shellcheck disable=SC2064  the folder of now
    trap "rm -rf '$work'" EXIT
    # From a copy: a build folder left in the source would put deleted files back into the wheel.
    mkdir "$work/source"
    tar -c --exclude=__pycache__ pyproject.toml README.md LICENSE thongsuot config probes monitor exporters |
        tar -x --no-same-owner -C "$work/source"
    "${pip[@]}" wheel --no-deps --no-build-isolation --no-index --wheel-dir "$work" "$work/source"
    "${pip[@]}" install --no-deps --no-index --force-reinstall "$work"/thongsuot-*.whl
    if [[ -n $destdir ]]; then
        make_movable
    fi
}

# In a staged tree the commands' first lines name the staging folder; let the one that counts find its own Python (-P: not ours is what
# lies in the folder one stands in).
make_movable() {
    local script=$venv/bin/thongsuot
    cat >"$script" <<'END'
#!/bin/sh
exec "$(dirname -- "$(readlink -f -- "$0")")/python" -P -m thongsuot "$@"
END
    chmod 755 "$script"
}

install_share() {
    local share=$root/share
    rm -rf "$share"
    mkdir -p "$share/config" "$share/exporters"
    cp -R docs README.md LICENSE "$share/"
    cp -R config/samples "$share/config/"
    cp -R exporters/grafana exporters/prometheus "$share/exporters/"
    cp -R systemd "$share/"
    chmod -R u=rwX,go=rX "$share"
}

# installed FILE: the file's text, with the folder of this installation in it.
installed() { sed "s|/opt/thongsuot|$prefix|g" "$1"; }

install_config() {
    mkdir -p "$config"
    if [[ ! -e $config/province.yaml ]]; then
        (
            umask 027
            installed systemd/province.yaml >"$config/province.yaml"
        )
        chmod 640 "$config/province.yaml"
        [[ -n $destdir ]] || chown root:$user "$config/province.yaml"
    fi
    if [[ -z $destdir ]]; then
        chown root:$user "$config"
        chmod 750 "$config"
        install -d -m 700 -o root -g root "$config/secrets"
    fi
}

install_unit() {
    mkdir -p "$(dirname "$unit")"
    installed systemd/thongsuot.service >"$unit"
    chmod 644 "$unit"
    if systemd_runs; then
        systemctl daemon-reload
    fi
}

install_link() {
    local link=$destdir$bindir/thongsuot
    mkdir -p "$destdir$bindir"
    if [[ -L $link && $(readlink "$link") == "$prefix/venv/bin/thongsuot" ]]; then
        return
    fi
    if [[ -e $link || -L $link ]]; then
        say "$link is there already and is not ours: the command is $prefix/venv/bin/thongsuot"
        return
    fi
    ln -s "$prefix/venv/bin/thongsuot" "$link"
}

print_next() {
    local file=/etc/thongsuot/province.yaml command=$prefix/venv/bin/thongsuot
    say "" "Installed: $("$venv/bin/python" -I -c 'from importlib.metadata import version; print(version("thongsuot"))')" \
        "  program        $prefix" \
        "  configuration  $file" \
        "  journal        /var/lib/thongsuot/journal.db (what was measured; back this up)" \
        "  log            journalctl -u thongsuot" \
        "  documents      $prefix/share/docs/operations.md" ""
    if [[ -z $destdir ]] && ! "$command" check "$file" 2>"$work_messages"; then
        say "This version refuses the configuration that is there; the service would not start:" ""
        sed 's/^/  /' "$work_messages"
        say ""
    fi
    if systemd_runs && systemctl is-active --quiet thongsuot; then
        say "The service still runs the version before. Next:" "" \
            "  thongsuot check $file" \
            "  systemctl restart thongsuot" ""
        return
    fi
    say "Nothing was started. Next:" "" \
        "  editor $file" \
        "  thongsuot check $file          # every mistake, with its place" \
        "  thongsuot once $file           # each check once, now" \
        "  thongsuot alerts test $file    # a test message through every relay" \
        "  systemctl enable --now thongsuot" \
        "  systemctl status thongsuot; journalctl -u thongsuot -f" ""
}

install_all() {
    check_settings
    check_folder
    check_python
    [[ -n $destdir ]] || make_user
    install_program
    install_share
    install_config
    install_unit
    install_link
    work_messages=$(mktemp)
    print_next
    rm -f "$work_messages"
}

uninstall_all() {
    check_settings
    if systemd_runs && [[ -e $unit ]]; then
        systemctl disable --now thongsuot.service
    fi
    rm -f "$unit"
    if systemd_runs; then
        systemctl daemon-reload
    fi
    local link=$destdir$bindir/thongsuot
    if [[ -L $link && $(readlink "$link") == "$prefix/venv/bin/thongsuot" ]]; then
        rm -f "$link"
    fi
    if [[ -e $marker ]]; then
        rm -rf "${root:?}/venv" "${root:?}/share"
        rm -f "$marker"
        rmdir --ignore-fail-on-non-empty "$root"
    elif [[ -d $root ]]; then
        die "$root was not made by this installation and stays."
    fi
    say "Removed. What was measured and configured stays, and so does its owner, the user $user:" \
        "  /etc/thongsuot  /var/lib/thongsuot"
}

case $action in
install) install_all ;;
uninstall) uninstall_all ;;
*) die "usage: scripts/install.sh install|uninstall" ;;
esac
