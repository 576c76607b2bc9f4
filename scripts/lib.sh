# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: where things are, and how what is missing gets installed.
# Everything downloaded or built outside the tree lives in $CACHE and can be deleted at any time.

set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/libhybrid
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

# The toolchain that is there is the one that is used: rustup downloads nothing from these scripts.
export RUSTUP_AUTO_INSTALL=0
export PIP_DISABLE_PIP_VERSION_CHECK=1
[ -x "$HOME/.cargo/bin/cargo" ] && PATH=$PATH:$HOME/.cargo/bin

say() { printf '%s\n' "== $*" >&2; }
die() { printf '%s\n' "error: $*" >&2; exit 1; }

# apt_install PACKAGE...
apt_install() {
  local sudo=()
  command -v apt-get >/dev/null || die "please install: $* (this is not a Debian-like system)"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "please install as root: apt-get install $*"
    sudo=(sudo)
  fi
  say "installing from apt: $*"
  # A service that a package brings (nginx) must not start: these scripts run their own, on free ports.
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
    "${sudo[@]}" chmod +x $policy
    ours=1
  fi
  local status=0 log
  log=$(mktemp)
  {
    "${sudo[@]}" apt-get update &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
  } </dev/null >"$log" 2>&1 || status=$?
  if [ -n "$ours" ]; then "${sudo[@]}" rm -f $policy; fi
  [ $status = 0 ] || { cat "$log" >&2; die "apt-get could not install: $*"; }
  rm -f "$log"
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
  command -v cargo >/dev/null ||
    die "Rust is missing: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml") or later with rustup"
}

need_build_tools() {
  need_rust
  need gcc=gcc g++=g++ make=make cmake=cmake pkg-config=pkg-config python3=python3
}

# need_venv NAME: the Python environment $CACHE/NAME with what scripts/tools/NAME.txt pins.
need_venv() {
  local dir=$CACHE/$1 pins=$ROOT/scripts/tools/$1.txt
  cmp -s "$pins" "$dir/installed.txt" && return
  need python3=python3
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
  say "installing from PyPI into $dir: $(grep -v '^#' "$pins" | tr '\n' ' ')"
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
  (cd "$ROOT" && cargo build --release --features cli --bin hybrid)
}

# build_archive PROFILE: the static library, as $ARCHIVE.
build_archive() {
  need_rust
  (cd "$ROOT" && cargo rustc --profile "$1" --lib --crate-type staticlib) >&2
  ARCHIVE=$TARGET/$1/libhybrid.a
}

# build_examples: the archive and the C programs on it, in $EXAMPLES.
EXAMPLES=$TARGET/examples-c
build_examples() {
  build_archive release
  make -s -C "$ROOT/examples-c" HYBRID_LIB="$ARCHIVE" OUT="$EXAMPLES" >&2
}

# bundle NAME: prints the directory of a model's bundle, with the reward head of heads/ if there is one for it.
# Made again when the tool, the model or the head changed.
declare -A HEADS=([qwen-0.5b]=$ROOT/heads/qwen2.5-coder-0.5b)
bundle() {
  local gguf dir=$TARGET/bundles/$1 head=${HEADS[$1]:-} key
  [ -d "$head" ] || head=
  gguf=$(model "$1")
  key=$(sha256sum "$HYBRID" "$gguf.ok" ${head:+"$head"/*})
  if [ "$(cat "$dir.key" 2>/dev/null)" != "$key" ]; then
    rm -f "$dir.key"
    mkdir -p "$TARGET/bundles"
    "$HYBRID" pack --force "$gguf" -o "$dir" >&2
    if [ -n "$head" ]; then "$HYBRID" reward "$dir" "$head" >&2; fi
    printf '%s' "$key" >"$dir.key"
  fi
  printf '%s\n' "$dir"
}

# data_file NAME: prints the path of a data file, which is never part of this repository.
data_file() {
  local dir=${HYBRID_DATA:-$ROOT/../shared/data}
  [ -f "$dir/$1" ] || die "$1 is not in $dir: docs/data.md says where to get it; set HYBRID_DATA to its folder"
  printf '%s\n' "$dir/$1"
}
