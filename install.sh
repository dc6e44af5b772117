#!/bin/sh
# install.sh PYTHON VENV [GROUP ...]: install Lethe, and groups of packages for its developers (dev, cluster, notebook, browser, docs; pyproject.toml),
# into a virtual environment; called by make.
# Says in a few lines what it does; everything that pip says is kept in VENV/install.log.
set -eu
python=$1 venv=$2
shift 2
what='Lethe'
[ $# -eq 0 ] || what="Lethe, with the packages for $*"
log=$venv/install.log

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "install: Lethe needs Python 3.11 or later, and '$python' is $("$python" --version 2>/dev/null || echo 'not there'): make PYTHON=python3.12" >&2
    exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv" || {
        echo "install: $python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    }
fi
begin=$(date +%s)
before=$(ls -d "$venv"/lib/python*/site-packages/*.dist-info 2>/dev/null | wc -l)
echo "install: $what into $venv, versions as in constraints.txt; a first time downloads about 2 GB where torch comes with CUDA"

# pip says nothing while it downloads: a line now and then shows that it is at it
pip_install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off -c constraints.txt "$@"
}
groups=$#
while [ "$groups" -gt 0 ]; do
    set -- "$@" --group "$1"
    shift
    groups=$((groups - 1))
done
{
    # the pip that Python brings may not know dependency groups
    { [ $# -eq 0 ] || pip_install pip; } && pip_install -e . "$@"
} >"$log" 2>&1 &
pip=$!
trap 'kill $pip 2>/dev/null' INT TERM
while kill -0 $pip 2>/dev/null; do
    sleep 1
    seconds=$(($(date +%s) - begin))
    if [ $((seconds % 5)) -eq 0 ] && [ $seconds -gt 0 ]; then
        doing=$(grep -E '^(Collecting|Downloading|Building|Installing)|^  (Downloading|Preparing|Getting)' "$log" | tail -1 | sed 's/^ *//' | cut -c1-70)
        echo "install: ${seconds} s, $(du -sm "$venv" | cut -f1) MB; ${doing:-pip begins}"
    fi
done
if ! wait $pip; then
    echo "install: pip failed; its last errors (all of it is in $log):" >&2
    grep -E '^ *(ERROR|error)' "$log" | tail -5 >&2 || tail -5 "$log" >&2
    if grep -qE 'No matching distribution|from versions: none|metadata-generation-failed|Failed building wheel|Failed to build' "$log"; then
        package=$(sed -nE 's/.*No matching distribution found for ([A-Za-z0-9_.-]+).*/\1/p; s/.*Failed building wheel for ([A-Za-z0-9_.-]+).*/\1/p' "$log" | tail -1)
        echo "install: there is no ready-made wheel of ${package:-a package} for $("$venv/bin/python" -c 'import platform, sys; print("Python", sys.version.split()[0], "on", platform.system(), platform.machine())')." >&2
        echo "install: try another Python (make clean, then make PYTHON=python3.12), or another version: edit its line in constraints.txt." >&2
    elif grep -qE 'No space left' "$log"; then
        echo "install: the disk is full: free about 8 GB, or make VENV=/another/disk/venv" >&2
    elif grep -qE 'ConnectionError|NewConnectionError|ReadTimeout|Temporary failure in name resolution|Could not fetch' "$log"; then
        echo "install: the package index did not answer: check the network, or name your mirror in PIP_INDEX_URL" >&2
    fi
    exit 1
fi
trap - INT TERM
after=$(ls -d "$venv"/lib/python*/site-packages/*.dist-info | wc -l)
echo "install: done in $(($(date +%s) - begin)) s: $((after - before)) packages more, $after in all, $(du -sm "$venv" | cut -f1) MB"
