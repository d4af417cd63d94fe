#!/usr/bin/env bash
# Makes .venv with this package in it, once; with "test" also what the tests, docs and linters need.
# Usage: tools/setup.sh run|test     (PYTHON=... chooses the interpreter)
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

apt_install() {
    say "installing the Debian packages $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends "$@" >.apt.log 2>&1 ||
        { apt-get update -q >>.apt.log 2>&1 && apt-get install -y -q --no-install-recommends "$@" >>.apt.log 2>&1; } ||
        { tail -n 20 .apt.log >&2; fail "apt-get could not install $*"; }
    rm -f .apt.log
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer; install it (Debian 12, Ubuntu 24.04 and newer: apt-get install python3) or set PYTHON"
}

make_venv() {
    local python=$1 package
    # Debian splits ensurepip off the interpreter; without it `venv` makes an environment with no pip.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
            apt_install "$package"
        else
            fail "Python's venv module is incomplete here; run: sudo apt-get install $package"
        fi
    fi
    say "making .venv with $python"
    rm -rf .venv
    "$python" -m venv .venv
}

# An environment that was moved, or whose interpreter is gone, is made anew.
venv_works() {
    [ "$(.venv/bin/python -c 'import os, sys; print(os.path.realpath(sys.prefix))' 2>/dev/null)" = "$(realpath .venv)" ]
}

install_package() {
    local extras=$1 stamp
    stamp="$(cat pyproject.toml tools/setup.sh | sha256sum | cut -c1-16)"
    if [ -f ".venv/.done$extras" ] && [ "$(cat ".venv/.done$extras")" = "$stamp" ]; then
        return
    fi
    say "installing testbed$extras and what it needs into .venv (a few minutes the first time)"
    .venv/bin/python -m pip install --disable-pip-version-check --editable ".$extras" >.venv/pip.log 2>&1 ||
        { tail -n 20 .venv/pip.log >&2; fail "pip could not install what is needed; all it said is in .venv/pip.log"; }
    echo "$stamp" >".venv/.done$extras"
}

# An environment may forbid Python to keep compiled modules; then every start would compile them again.
compile_modules() {
    .venv/bin/python -m compileall -q testbed >/dev/null || true
}

install_system_packages() {
    local command package missing=()
    while read -r command package; do
        case $command in ''|'#'*) continue ;; esac
        if ! PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null; then
            missing+=("$package")
        fi
    done <tools/system-packages.txt
    if [ ${#missing[@]} -eq 0 ]; then
        return
    fi
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt_install "${missing[@]}"
    else
        say "some tests will be skipped; for all of them run: sudo apt-get install ${missing[*]}"
    fi
}

main() {
    local python
    if ! venv_works; then
        python=$(find_python)
        make_venv "$python"
    fi
    case ${1:-} in
        run) install_package "" ;;
        test)
            install_system_packages
            install_package "[dev,docs,test]"
            ;;
        *) fail "usage: tools/setup.sh run|test" ;;
    esac
    compile_modules
}

main "$@"
