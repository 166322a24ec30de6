# The project's own wheel with its requirements, for this machine and for aarch64. Sourced by run, which sets CACHE.

EXTRAS="[onnx,tflite]"
TEST_LIBRARIES=(pytest hypothesis jsonschema onnx) # onnx: the tests' tiny bundle is made with it
PYTHON=3.11                                        # of aarch64: that of the last Debian which has it, see userland.sh
PLATFORM=(--platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64
    --platform manylinux2014_aarch64 --python-version "$PYTHON" --implementation cp --only-binary=:all:)

skip() {
    echo "cpus: skipped: $1"
    exit 77
}

fail() {
    echo "cpus: $1:"
    tail -n 30 "$2"
    exit 1
}

# $WHEEL: of the checkout as it is, by way of an sdist.
build_wheel() {
    local backend=$CACHE/build-requirements requires
    requires=$(python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
    download "$backend" "$requires" $requires
    rm -rf "$CACHE/dist"
    PIP_NO_INDEX=1 PIP_FIND_LINKS=$backend python -m build --outdir "$CACHE/dist" . >"$CACHE/log/build" 2>&1 ||
        fail "the wheel cannot be built" "$CACHE/log/build"
    WHEEL=$(ls "$CACHE"/dist/*.whl)
}

# $WHEELS and $WHEELS_HERE: the wheel's requirements for aarch64, and the same versions for this machine.
requirements() {
    WHEELS=$CACHE/wheels WHEELS_HERE=$CACHE/wheels-here
    local key
    key=$(cat pyproject.toml tests/cpus/pins.txt <(echo "${TEST_LIBRARIES[@]}") | sha256sum)
    download "$WHEELS" "$key" "${PLATFORM[@]}" -c tests/cpus/pins.txt "$WHEEL$EXTRAS" "${TEST_LIBRARIES[@]}"
    rm -f "$WHEELS"/edgecap-*
    (cd "$WHEELS" && ls ./*.whl) | sed -E 's|^\./([^-]+)-([^-]+)-.*|\1==\2|' >"$CACHE/versions.txt"
    download "$WHEELS_HERE" "$key" -c "$CACHE/versions.txt" "$WHEEL$EXTRAS"
    rm -f "$WHEELS_HERE"/edgecap-*
}

# The installed wheel: $CACHE/site for aarch64, and a virtual environment with the same versions here.
environments() {
    rm -rf "$CACHE/site" "$CACHE/here"
    python -m pip install --quiet --no-warn-conflicts --no-index --find-links "$WHEELS" "${PLATFORM[@]}" \
        --target "$CACHE/site" "$WHEEL$EXTRAS" "${TEST_LIBRARIES[@]}" >"$CACHE/log/site" 2>&1 ||
        fail "the wheel's requirements for aarch64 do not install" "$CACHE/log/site"
    python -m venv --without-pip "$CACHE/here/venv"
    python -m pip --python "$CACHE/here/venv" install --quiet --no-index --find-links "$WHEELS_HERE" "$WHEEL$EXTRAS" \
        >"$CACHE/log/here" 2>&1 || fail "the wheel's requirements do not install here" "$CACHE/log/here"
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
