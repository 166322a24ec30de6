# The emulator, and Debian for aarch64 with Python in it. Sourced by run, which sets CACHE.

SUITE=bookworm # the last Debian whose Python is 3.11
USERLAND=$CACHE/userland

have_emulator() {
    [[ $(uname -m) == x86_64 ]] || skip "this machine is $(uname -m): the emulation is for x86-64"
    install_debian qemu-aarch64-static qemu-user-static
    install_debian qemu-x86_64-static qemu-user-static
}

# Installs a Debian package, if the command that is wanted of it is not there.
install_debian() {
    local command=$1 package=$2
    hash "$command" 2>/dev/null && return
    [[ $(id -u) == 0 ]] && hash apt-get 2>/dev/null || skip "$package is not installed, nor is there root's apt-get"
    local get=(env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package")
    { "${get[@]}" || { apt-get update && "${get[@]}"; }; } >>"$CACHE/log/apt" 2>&1 || skip "apt-get cannot get $package"
    hash "$command" 2>/dev/null || skip "$package has no $command"
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
