# The processors that are emulated. Sourced by run, which sets CACHE, after wheel.sh and userland.sh.

EMULATED=(westmere haswell a53 a72 a76)

# $CACHE/NAME/venv/bin/python: Python with the installed wheel on an emulated processor.
emulated() {
    local sse="fpu cx8 cmov mmx fxsr sse sse2 syscall nx lm pni ssse3 cx16 sse4_1 sse4_2 popcnt aes lahf_lm"
    local armv8="fp asimd evtstrm crc32 cpuid" pi="Raspberry Pi"
    case $1 in
    westmere) x86 westmere Westmere "$sse" ;; # as a NAS with a Celeron: no AVX
    haswell)
        # AVX2, no VNNI; without what the emulator does not know and else warns of.
        x86 haswell Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid "$sse fma movbe avx f16c abm bmi1 avx2 bmi2"
        ;;
    a53) board a53 "$pi 3 Model B Rev 1.2" cortex-a53 0xd03 "$armv8" ;;
    a72) board a72 "$pi 4 Model B Rev 1.5" cortex-a72 0xd08 "$armv8" ;;
    a76) board a76 "$pi 5 Model B Rev 1.0" cortex-a76 0xd0b \
        "$armv8 aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp" ;;
    esac
}

# x86 NAME PROCESSOR FLAGS: Python and libraries are this machine's own.
x86() {
    local name=$1 python
    python=$(python -c 'import sys; print(sys._base_executable)')
    rm -rf "${CACHE:?}/$name"
    cpuinfo "$name" 'vendor_id\t: GenuineIntel\nmodel name\t: %s (emulated)\nflags\t\t: %s\n' "${2%%,*}" "$3"
    environment "$name" "qemu-x86_64-static -cpu $2" "$python" "$(echo "$CACHE"/here/venv/lib/python3.*/site-packages)"
}

# board NAME MODEL PROCESSOR PART FEATURES: a Raspberry Pi in the userland of aarch64. Engines read what displays there
# are: a Pi's is no PCI card.
board() {
    local name=$1 root=$CACHE/$1/root
    rm -rf "${CACHE:?}/$name"
    mkdir -p "$root/proc/device-tree" "$root/sys/class/drm/card1/device"
    ln -s ../../userland/{bin,etc,lib,sbin,usr} "$root"
    printf '%s\0' "$2" >"$root/proc/device-tree/model"
    cpuinfo "$name" 'BogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0
CPU part\t: %s\nCPU revision\t: 3\n' "$5" "$4"
    environment "$name" "qemu-aarch64-static -cpu $3" "$USERLAND/usr/bin/python$PYTHON" "$CACHE/site"
}

# cpuinfo NAME FORMAT ARGUMENTS...: what Linux tells of each of its cores, as printf has it. Everything else of /proc
# and /sys is this machine's.
cpuinfo() {
    local root=$CACHE/$1/root core
    shift
    mkdir -p "$root/proc"
    for ((core = 0; core < $(nproc --all); core++)); do
        printf 'processor\t: %s\n' "$core"
        printf "$@"
        echo
    done >"$root/proc/cpuinfo"
}

# environment NAME EMULATOR PYTHON SITE: a virtual environment whose Python is emulated.
environment() {
    local name=$1 emulator=$2 python=$3 site=$4 venv=$CACHE/$1/venv version
    version=$(basename "$(dirname "$site")")
    [[ $version == python* ]] || version=python$PYTHON
    mkdir -p "$venv/bin" "$venv/lib/$version"
    ln -s "$site" "$venv/lib/$version/site-packages"
    echo "home = $(dirname "$python")" >"$venv/pyvenv.cfg"
    cat >"$venv/bin/python" <<END
#!/bin/sh
# A script, so that processes which Python starts from itself are emulated as well.
exec $emulator -L "$CACHE/$name/root" -0 "\$0" "$python" "\$@"
END
    chmod +x "$venv/bin/python"
}
