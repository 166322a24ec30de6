# An emulated Debian for aarch64 with Python in it, and boards in it. Sourced by run, which sets CACHE.

SUITE=bookworm # the last Debian whose Python is 3.11
PYTHON=3.11
PLATFORM=(--platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64
    --platform manylinux2014_aarch64 --python-version "$PYTHON" --implementation cp --only-binary=:all:)
USERLAND=$CACHE/userland

skip() {
    echo "arm64: skipped: $1"
    exit 77
}

fail() {
    echo "arm64: $1:"
    tail -n 30 "$2"
    exit 1
}

have_emulator() {
    [[ $(uname -m) == x86_64 ]] || skip "this machine is $(uname -m): the emulation is for x86-64"
    install_debian qemu-aarch64-static qemu-user-static
    QEMU=$(command -v qemu-aarch64-static)
}

# Installs a Debian package, if the command that is wanted of it is not there.
install_debian() {
    local command=$1 package=$2
    hash "$command" 2>/dev/null && return
    [[ $(id -u) == 0 ]] && hash apt-get 2>/dev/null || skip "$package is not installed, nor is there root's apt-get"
    local get=(env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package")
    { "${get[@]}" || { apt-get update && "${get[@]}"; }; } >>"$CACHE/log/apt" 2>&1 || skip "apt-get cannot get $package"
}

# $USERLAND: Debian for aarch64 with Python, unpacked and not installed.
userland() {
    [[ -d $USERLAND ]] && return
    install_debian debootstrap debootstrap
    local mirror packages=$CACHE/debian part=$USERLAND.part
    mirror=$(debian_mirror)
    [[ $mirror ]] || { apt-get update >>"$CACHE/log/apt" 2>&1 && mirror=$(debian_mirror); } || true
    [[ $mirror ]] || skip "apt has no source of Debian's $SUITE"
    rm -rf "$packages" "$part"
    debootstrap --download-only --arch=arm64 --variant=minbase --include=python3,libgomp1,libstdc++6 \
        "$SUITE" "$packages" "$mirror" >"$CACHE/log/debootstrap" 2>&1 ||
        skip "debootstrap cannot get Debian's packages: $(tail -n 1 "$CACHE/log/debootstrap")"
    mkdir "$part"
    for package in "$packages"/var/cache/apt/archives/*.deb; do
        dpkg -x "$package" "$part"
    done
    rm -rf "$packages"
    mv "$part" "$USERLAND"
}

debian_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $SUITE" 'Component: main' |
        sed -n 1p
}

# Downloads into a folder, once for a key: download FOLDER KEY ARGUMENTS_OF_PIP...
download() {
    local folder=$1 key=$2 log=$CACHE/log/download-${1##*/}
    shift 2
    [[ -e $folder.key && $(<"$folder.key") == "$key" ]] && return
    rm -rf "$folder" "$folder.key"
    if ! python -m pip download --quiet --dest "$folder" "$@" >"$log" 2>&1; then
        python -m pip download --quiet --no-deps --no-cache-dir --dest "$CACHE/probe" iniconfig >/dev/null 2>&1 ||
            skip "pip reaches no packages"
        fail "pip cannot get ${folder##*/}" "$log"
    fi
    echo "$key" >"$folder.key"
}

# $CACHE/NAME/venv/bin/python: Python on a board, by name, model, processor, and what Linux tells of that processor.
# Engines read that, and ONNX Runtime what displays there are: a Pi's is no PCI card. Everything else of /proc and /sys
# is this machine's.
board() {
    local name=$1 model=$2 cpu=$3 part=$4 features=$5 root=$CACHE/$1/root venv=$CACHE/$1/venv
    rm -rf "${CACHE:?}/$name"
    mkdir -p "$root/proc/device-tree" "$root/sys/class/drm/card1/device" "$venv/bin" "$venv/lib/python$PYTHON"
    ln -s ../../userland/{bin,etc,lib,sbin,usr} "$root"
    printf '%s\0' "$model" >"$root/proc/device-tree/model"
    for ((core = 0; core < $(nproc --all); core++)); do
        printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\nCPU architecture: 8\n' \
            "$core" "$features"
        printf 'CPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n\n' "$part"
    done >"$root/proc/cpuinfo"
    ln -s ../../../../site "$venv/lib/python$PYTHON/site-packages"
    echo "home = $USERLAND/usr/bin" >"$venv/pyvenv.cfg"
    cat >"$venv/bin/python" <<END
#!/bin/sh
# A script, so that processes which Python starts from itself are emulated as well.
exec "$QEMU" -cpu $cpu -L "$root" -0 "\$0" "$USERLAND/usr/bin/python$PYTHON" "\$@"
END
    chmod +x "$venv/bin/python"
    "$venv/bin/python" -c 'import edgecap, onnxruntime, ai_edge_litert' >"$CACHE/log/$name" 2>&1 ||
        fail "the wheel does not import on $name" "$CACHE/log/$name"
}
