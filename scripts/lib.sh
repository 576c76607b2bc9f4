# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: where things are, and how what is missing gets installed.
# What they download or build is in $CACHE or $TARGET, which can be deleted at any time. They write
# nothing else but what apt installs, temporary files, and the crates that cargo keeps in its home.

set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/libhybrid
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

# The scripts use the Rust toolchain that is installed. rustup downloads nothing for them, not even
# when a tool that they start asks it to. Its toolchain takes precedence over that of need_cross.
export RUSTUP_AUTO_INSTALL=0
export RUSTUP_DIST_SERVER=http://127.0.0.1:9 RUSTUP_UPDATE_ROOT=http://127.0.0.1:9
export PIP_DISABLE_PIP_VERSION_CHECK=1
[ -x "$HOME/.cargo/bin/cargo" ] && PATH=$HOME/.cargo/bin:$PATH

say() { printf '%s\n' "== $*" >&2; }
die() { printf '%s\n' "error: $*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    command -v sudo >/dev/null || die "please run as root: $*"
    sudo "$@"
  fi
}

# While scripts/setup plans, the need_* functions install nothing and note here what is missing.
PLANNING='' PLAN_APT=() PLAN_VENVS=() PLAN_ARM64=''

# apt_install PACKAGE... (or PACKAGE=VERSION)
apt_install() {
  if [ -n "$PLANNING" ]; then PLAN_APT+=("$@") && return; fi
  command -v apt-get >/dev/null || die "please install: $* (this is not a Debian-like system)"
  as_root true
  say "installing with apt: $*"
  mkdir -p "$CACHE"
  local log status=0
  log=$(mktemp)
  (
    flock 8 # scripts that run side by side
    trap allow_services EXIT
    forbid_services
    as_root apt-get update &&
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-remove --allow-downgrades \
        --no-install-recommends -o DPkg::Lock::Timeout=600 "$@"
  ) 8>"$CACHE/apt.lock" </dev/null >"$log" 2>&1 || status=$?
  [ $status = 0 ] || { cat "$log" >&2; die "apt-get could not install: $*"; }
  rm -f "$log"
}

# A service that a package brings (nginx) must not start: these scripts run their own on free ports.
# A policy of the machine's own stays as it is.
SERVICE_POLICY=/usr/sbin/policy-rc.d
forbid_services() {
  [ ! -e $SERVICE_POLICY ] || return 0
  printf '#!/bin/sh\n# libhybrid\nexit 101\n' | as_root tee $SERVICE_POLICY >/dev/null
  as_root chmod +x $SERVICE_POLICY
}
allow_services() {
  if grep -qx '# libhybrid' $SERVICE_POLICY 2>/dev/null; then as_root rm -f $SERVICE_POLICY; fi
}

# need COMMAND=PACKAGE...: installs the packages whose command is missing, in one go.
need() {
  local pair missing=()
  for pair; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

need_rust() {
  local least found
  least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)
  command -v cargo >/dev/null || die "Rust is missing: install Rust $least or later with rustup"
  found=$(rustc --version | cut -d ' ' -f 2)
  [ "$(printf '%s\n' "$least" "$found" | sort -V | head -n 1)" = "$least" ] ||
    die "Rust $found is too old: this needs $least or later (rustup update)"
}

need_build_tools() {
  need_rust
  need gcc=gcc g++=g++ make=make cmake=cmake pkg-config=pkg-config python3=python3
}

# ---- Other machines ------------------------------------------------------------------------------

ARM=aarch64-unknown-linux-gnu

host_triple() { rustc -vV | sed -n 's/^host: //p'; }

# has_std TRIPLE [RUSTC]: whether the compiler has the standard library of TRIPLE.
has_std() { [ -d "$("${2:-rustc}" --print target-libdir --target "$1" 2>/dev/null)" ]; }

# need_cross TRIPLE: what it takes to build for TRIPLE on this machine. Then `cross_cargo` runs
# cargo for it, and $CROSS is the prefix of its gcc and binutils. It uses the rustup toolchain if
# that has the standard library of TRIPLE. If not, `cross_cargo` alone uses Debian's compiler.
need_cross() {
  [ "$1" = $ARM ] || die "no toolchain is known for $1; there is one for $ARM"
  CROSS_TRIPLE=$1
  CROSS=aarch64-linux-gnu-
  need_rust
  need ${CROSS}gcc=gcc-aarch64-linux-gnu ${CROSS}g++=g++-aarch64-linux-gnu
  CROSS_ENV=(
    "CC_aarch64_unknown_linux_gnu=${CROSS}gcc"
    "AR_aarch64_unknown_linux_gnu=${CROSS}ar"
    "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=${CROSS}gcc"
  )
  if ! has_std "$1"; then
    has_std "$1" /usr/bin/rustc || need_debian_cross "$1"
    CROSS_ENV+=(PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc)
  fi
}

need_debian_cross() {
  local why="the Rust toolchain cannot build for $1: rustup target add $1"
  grep -qx ID=debian /etc/os-release || die "$why"
  add_arm64
  local packages=(rustc-web cargo-web libstd-rust-web-dev:arm64)
  if [ -n "$PLANNING" ]; then apt_install "${packages[@]}" && return; fi
  (apt_install "${packages[@]}") || die "$why"
  has_std "$1" /usr/bin/rustc || die "$why"
}

add_arm64() {
  dpkg --print-foreign-architectures | grep -qx arm64 && return
  if [ -n "$PLANNING" ]; then PLAN_ARM64=1 && return; fi
  say "letting apt install packages of arm64 beside those of this machine"
  as_root dpkg --add-architecture arm64
}

# cross_cargo COMMAND ARGUMENT...: cargo for the target of need_cross.
cross_cargo() { env "${CROSS_ENV[@]}" cargo "$1" --target "$CROSS_TRIPLE" "${@:2}"; }

# rustc_for TRIPLE ARGUMENT...: the compiler that builds for TRIPLE.
rustc_for() {
  if [ "$1" = "$(host_triple)" ]; then
    rustc "${@:2}"
  else
    need_cross "$1"
    # shellcheck disable=SC2016  # for the inner shell, which has the environment of need_cross
    env "${CROSS_ENV[@]}" sh -c 'exec "${RUSTC:-rustc}" "$@"' rustc "${@:2}"
  fi
}

# need_qemu: programs of aarch64 run, by `qemu-aarch64 [-cpu MODEL]`.
need_qemu() {
  need qemu-aarch64=qemu-user
  [ -e /lib/ld-linux-aarch64.so.1 ] && return
  if grep -qx ID=debian /etc/os-release; then
    add_arm64
    apt_install libc6:arm64 libgcc-s1:arm64 libstdc++6:arm64
  else
    # The libraries of the cross compiler. Never with those above: two builds of glibc in one
    # process hang.
    export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
  fi
}

# use_containers: podman with the settings of cross/ and all it stores in $CACHE, for
# scripts/setup-cross --image and what uses its image.
CROSS_IMAGE=libhybrid-cross:bookworm
use_containers() {
  need podman=podman runc=runc
  mkdir -p "$CACHE/cross"
  cat >"$CACHE/cross/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$CACHE/cross/storage"
runroot = "$CACHE/cross/run"
END
  export CONTAINERS_CONF=$ROOT/cross/containers.conf
  export CONTAINERS_STORAGE_CONF=$CACHE/cross/storage.conf
}

# ---- What the scripts share ----------------------------------------------------------------------

# version: of the library, as Cargo.toml has it.
version() { sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1; }

# so_version: what of the version its ABI has; see *One version* in CONTRIBUTING.md.
so_version() { version | sed -E 's/^(0\.[0-9]+|[1-9][0-9]*)\..*/\1/'; }

# package_time: the time of every file in a package, so that equal sources make equal packages.
package_time() { printf '%s\n' "${SOURCE_DATE_EPOCH:-$(git -C "$ROOT" log -1 --format=%ct)}"; }

# need_venv NAME: the Python environment $CACHE/NAME with what scripts/tools/NAME.txt pins.
need_venv() {
  local dir=$CACHE/$1 pins=$ROOT/scripts/tools/$1.txt
  [ -f "$pins" ] || die "there is no environment '$1': $pins is missing"
  cmp -s "$pins" "$dir/installed.txt" && return
  need python3=python3
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
  if [ -n "$PLANNING" ]; then PLAN_VENVS+=("$1") && return; fi
  say "installing from PyPI into $dir: $(grep -v '^[#-]' "$pins" | paste -sd ' ')"
  mkdir -p "$CACHE"
  python3 -m venv --clear "$dir"
  "$dir/bin/python3" -m pip install -q -r "$pins" >&2
  cp "$pins" "$dir/installed.txt"
}

need_server() {
  PATH=$PATH:/usr/sbin need nginx=nginx-light openssl=openssl
  need_venv venv
}

# model NAME: prints the path of a model's GGUF file, fetched when needed.
model() {
  python3 "$ROOT/scripts/models" "$1"
}

# build_cli: the host tool, as $HYBRID.
HYBRID=$TARGET/release/hybrid
build_cli() {
  need_rust
  (cd "$ROOT" && cargo build --release --package hybrid-cli)
}

# build_lab: the laboratory, as $LAB.
LAB=$TARGET/release/hybrid-lab
build_lab() {
  need_rust
  (cd "$ROOT" && cargo build --release --package hybrid-lab)
}

# build_archive PROFILE [TRIPLE] [VARIANT]: the static library, sealed, as $ARCHIVE. Profile `dist`
# is what ships. Variant `full` (the default) has the cloud; `min` has not, and aborts on a panic.
build_archive() {
  local profile=$1 triple=${2:-$(host_triple)} variant=${3:-full}
  local cargo=(cargo) tools='' folder=$TARGET features=()
  need_rust
  if [ "$triple" != "$(host_triple)" ]; then
    need_cross "$triple"
    cargo=(cross_cargo) tools=$CROSS folder=$TARGET/$triple
  fi
  case $variant in
    full) ;;
    min)
      features=(--no-default-features)
      [ "$profile" != dist ] || profile=dist-min
      ;;
    *) die "there is no variant '$variant' of the archive; there are: full min" ;;
  esac
  (
    cd "$ROOT"
    [[ $profile != dist* ]] || shipped_flags "$triple" "$profile"
    "${cargo[@]}" rustc --profile "$profile" --package libhybrid --lib --crate-type staticlib \
      "${features[@]}"
  ) >&2
  folder=$folder/$profile
  ARCHIVE=$folder/sealed-$variant/libhybrid.a
  mkdir -p "$(dirname "$ARCHIVE")"
  (
    flock 8 # scripts that run side by side
    [ "$ARCHIVE" -nt "$folder/libhybrid.a" ] || seal "$folder/libhybrid.a" "$tools" "$profile"
  ) 8>"$ARCHIVE.lock"
}

# shipped_flags TRIPLE PROFILE: no path of this machine gets into what ships, so that it is equal
# wherever it is built. cargo fetches first, since the folders of the sources are part of the flags.
# `dist-min` aborts on a panic and needs no unwind tables. In `dist` a function has some 34 bytes of
# them, so code that repeats becomes a function of its own only if that saves about as much.
shipped_flags() {
  local folder map=(--remap-path-prefix="$ROOT"=/libhybrid)
  case $2 in
    dist) map+=(-Cllvm-args=-outliner-benefit-threshold=32) ;;
    *) map+=(-Cforce-unwind-tables=no) ;;
  esac
  cargo fetch --quiet --locked --target "$1"
  for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    map+=(--remap-path-prefix="$folder"=/crates)
  done
  CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${map[*]}")
  export CARGO_ENCODED_RUSTFLAGS
}

# For ar and nm of a sealed archive: LLVM's plugin for the binutils fails on so many sections.
NO_PLUGIN=(--plugin /dev/null)

# seal FILE TOOLS PROFILE: makes $ARCHIVE of a Rust archive. It is one object, so that a linker
# takes all of tract's kernels: they register themselves, and nothing refers to them. Only hybrid_*
# is visible, and nothing is shared with other Rust code in the program, such as a section group.
seal() {
  local object drop=()
  # Where no panic unwinds, the tables for it are a seventh of a program.
  [ "$3" != dist-min ] || drop=(--remove-section .eh_frame --remove-section '.gcc_except_table*')
  object=$(dirname "$ARCHIVE")/hybrid.o
  rm -f "$ARCHIVE"
  # An assembly file in it forgets to say that it needs no executable stack.
  "$2ld" -r -z noexecstack --force-group-allocation --whole-archive "$1" -o "$object"
  "$2objcopy" --strip-debug --wildcard --keep-global-symbol 'hybrid_*' "${drop[@]}" "$object"
  "$2ar" "${NO_PLUGIN[@]}" rcsD "$ARCHIVE" "$object"
  rm "$object"
}

# build_examples: the archive and the C programs on it, in $EXAMPLES.
EXAMPLES=$TARGET/examples-c
build_examples() {
  build_archive release
  make -s -C "$ROOT/examples-c" HYBRID_LIB="$ARCHIVE" OUT="$EXAMPLES" >&2
}

# c_program NAME: builds tests/c/NAME.c on $ARCHIVE and prints the program's path.
c_program() {
  local out=$TARGET/c-tests link
  mkdir -p "$out"
  read -ra link < <(make -s -C "$ROOT/examples-c" link-flags HYBRID_LIB="$ARCHIVE")
  gcc -std=c99 -D_DEFAULT_SOURCE -O2 -Wall -Wextra -Wno-unused-function -I"$ROOT/include" \
    -o "$out/$1" "$ROOT/tests/c/$1.c" "${link[@]}" >&2
  printf '%s\n' "$out/$1"
}

# bundle NAME [BITS]: prints the directory of a model's bundle. It has the reward head of heads/ if
# there is one and BITS is not given. Made again when the tool, the model or the head changed.
declare -A HEADS=([qwen-0.5b]=$ROOT/heads/qwen2.5-coder-0.5b)
bundle() {
  local gguf key dir=$TARGET/bundles/$1${2:+-$2bit} head=${HEADS[$1]:-}
  [ -d "$head" ] && [ -z "${2:-}" ] || head=
  gguf=$(model "$1")
  mkdir -p "$TARGET/bundles"
  (
    flock 8 # scripts that run side by side
    key=$(sha256sum "$HYBRID" "$gguf.ok" ${head:+"$head"/*})
    [ "$(cat "$dir.key" 2>/dev/null)" != "$key" ] || exit 0
    rm -f "$dir.key"
    "$HYBRID" pack --force ${2:+--bits "$2"} "$gguf" -o "$dir"
    if [ -n "$head" ]; then "$HYBRID" reward "$dir" "$head"; fi
    printf '%s' "$key" >"$dir.key"
  ) 8>"$dir.lock" >&2
  printf '%s\n' "$dir"
}

# tiny_bundle: prints the directory of a bundle of 200 kB that writes nonsense, for tests that open
# it thousands of times.
tiny_bundle() {
  local dir=$TARGET/bundles/tiny
  mkdir -p "$TARGET/bundles"
  (
    flock 8 # scripts that run side by side
    python3 -B "$ROOT/scripts/tools/tiny_model.py" "$dir.gguf"
    "$HYBRID" pack --force "$dir.gguf" -o "$dir"
  ) 8>"$dir.lock" >&2
  printf '%s\n' "$dir"
}

# with_head NAME HEAD: prints the directory of a copy of a model's bundle with this reward head of
# heads/, where tests want the bundle itself without one.
with_head() {
  local dir=$TARGET/bundles/$1-head from
  from=$(bundle "$1")
  rm -rf "$dir"
  cp -rl "$from" "$dir"
  "$HYBRID" reward "$dir" "$ROOT/heads/$2" >&2
  printf '%s\n' "$dir"
}

# plain_export OUT: SmolLM2 as an ordinary ONNX export with float weights, the interchange file.
plain_export() {
  need_venv plain_export
  rm -rf "$1"
  say "exporting SmolLM2 as plain ONNX"
  "$CACHE/plain_export/bin/python3" "$ROOT/scripts/tools/make_plain_export.py" \
    "$(model smollm2)" "$(bundle smollm2-f32)/tokenizer.json" "$1"
}

# side_by_side COMMAND...: runs these command lines, as many at once as there are processors. Prints
# their output in order, each as a whole. Fails if one of them does.
side_by_side() {
  local logs i status=0 running=0 jobs=()
  logs=$(mktemp -d)
  for i in $(seq $#); do
    if [ "$running" -ge "$(nproc)" ]; then wait -n || status=1; else running=$((running + 1)); fi
    (eval "${!i}") >"$logs/$i" 2>&1 &
    jobs+=($!)
  done
  for i in "${jobs[@]}"; do wait "$i" || status=1; done
  for i in $(seq $#); do cat "$logs/$i"; done
  rm -rf "$logs"
  return $status
}

# Data sets that the repository does not carry: SHA-256 and address on GitHub, see docs/data.md.
declare -A DATA=(
  [mbpp.jsonl]="ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f
    google-research/google-research/raw/master/mbpp/mbpp.jsonl"
  [gsm8k-train.jsonl]="17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465
    openai/grade-school-math/raw/master/grade_school_math/data/train.jsonl"
)

# data_file NAME: prints the path of a data set, which is in the folder $HYBRID_DATA.
data_file() {
  local sha256 address file=${HYBRID_DATA:-.}/$1
  read -r -d '' sha256 address <<<"${DATA[$1]}" || true
  [ -n "${HYBRID_DATA:-}" ] && [ -f "$file" ] ||
    die "this needs $1: download https://github.com/$address as FOLDER/$1, set HYBRID_DATA=FOLDER"
  sha256sum --quiet --status --check <<<"$sha256  $file" ||
    die "$file is not the file that this was made for: its SHA-256 should be $sha256"
  printf '%s\n' "$file"
}
