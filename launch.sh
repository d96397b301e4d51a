#!/usr/bin/env bash
# Sets up the environment (.venv in this checkout) and starts any of the commands. See ./launch.sh --help.
# Written for bash 3.2 and newer, which is what macOS has.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
venv="$root/.venv"
quickstart="configs/quickstart.py"

say() { printf '%s\n' "$*" >&2; }

fail() {
  printf 'launch.sh: %s\n' "$*" >&2
  exit 1
}

# ---------------------------------------------------------------------------------------------------------- commands

is_module() { [ -f "$root/dnn_research/$1.py" ] || [ -f "$root/dnn_research/$1/__main__.py" ]; }

# The commands that this checkout has, one a line.
commands() {
  local name path
  echo setup
  echo test
  for name in main lab weights; do
    if is_module "$name"; then echo "$name"; fi
  done
  for path in "$root"/dnn_research/tools/*.py; do
    name="$(basename "$path" .py)"
    case "$name" in '*' | _*) ;; *) echo "tools.$name" ;; esac
  done
}

describe() {
  case "$1" in
    setup) echo "make or complete the environment, nothing else" ;;
    test) echo "format, lint, types and tests; arguments go to pytest, and paths count from the checkout" ;;
    main) echo "train or evaluate a network: main --config configs/FILE.py" ;;
    lab) echo "run an experiment: lab --experiment experiments/FILE.py --workdir DIRECTORY" ;;
    weights) echo "import, export or certify weights" ;;
    tools.*) sed -n '1s/^"""\([^".]*\).*/\1/p' "$root/dnn_research/tools/${1#tools.}.py" ;;
  esac
}

usage() {
  local name
  cat <<HELP
Usage: ./launch.sh [OPTIONS] [COMMAND [ARGUMENTS]]

Makes the environment when it is missing, then runs COMMAND; without one, the quick start: $quickstart.

Commands (arguments are those of python -m dnn_research.COMMAND; relative paths count from where you are):
HELP
  for name in $(commands); do printf '  %-18s %s\n' "$name" "$(describe "$name")"; done
  cat <<'HELP'

Options, before the command (an option of the set-up is remembered until another is given):
  --python PATH         the Python to use, 3.11 to 3.13 (default: the newest that works); or DNN_PYTHON=PATH
  --accelerator NAME    cpu, cuda12, cuda13 or tpu (default: what this machine has); or DNN_ACCELERATOR=NAME
  --dry_run             show what would be done and do nothing
  -h, --help            show this and do nothing

Many hosts: start the same command on each. The processes find each other under Slurm (srun) and on a TPU pod slice;
elsewhere give these, or the variable:
  --coordinator HOST:PORT   where process 0 listens; COORDINATOR_ADDRESS (with COORDINATOR_PORT where it has no port)
  --processes N             how many there are; NUM_PROCESSES
  --process I               which one this is, from 0; PROCESS_ID, or JOB_COMPLETION_INDEX of a Kubernetes Job
HELP
}

# ------------------------------------------------------------------------------------------------------------ Python

supported() { case "$1" in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac }

# inspect_python PROGRAM: sets python_minor, python_full, python_makes (venv or nothing) and python_base.
# False when it does not run, as a pyenv shim for a version that is not selected.
inspect_python() {
  local facts
  facts="$("$1" -E -c '
import sys
try:
    import ensurepip, venv
    makes = "venv"
except ImportError:
    makes = "nothing"
print("%d.%d %d.%d.%d %s %s" % (sys.version_info[:2] + sys.version_info[:3] + (makes, getattr(sys, "base_prefix", ""))))
' 2>/dev/null)" || return 1
  read -r python_minor python_full python_makes python_base <<<"$facts"
}

# Debian and Ubuntu split ensurepip off into a package of its own; uv makes environments without it.
makes_environments() { [ "$python_makes" = venv ] || command -v uv >/dev/null; }

# Sets python to a program that can make the environment, and inspects it.
choose_python() {
  local minor candidate bare=""
  if [ -n "$asked_python" ]; then
    python="$(command -v "$asked_python")" || fail "--python: there is no program '$asked_python'"
    inspect_python "$python" || fail "--python: '$asked_python' does not run as a Python"
    supported "$python_minor" ||
      fail "--python: '$asked_python' is Python $python_full; take one of 3.11, 3.12 or 3.13"
    makes_environments || bare="$python"
  else
    for minor in 3.13 3.12 3.11; do
      while IFS= read -r candidate; do
        if inspect_python "$candidate" && [ "$python_minor" = "$minor" ]; then
          python="$candidate"
          if makes_environments; then return; fi
          bare="$candidate"
        fi
      done < <(
        type -aP "python$minor" python3 python || true
        for candidate in "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$minor".*[0-9]/bin/python; do
          if [ -x "$candidate" ]; then echo "$candidate"; fi
        done
      )
    done
  fi
  if [ -n "$bare" ]; then
    inspect_python "$bare"
    fail "$bare cannot make environments: install its venv module (Debian, Ubuntu: apt-get install python$python_minor-venv)"
  fi
  if [ -z "$asked_python" ]; then
    if inspect_python python3; then candidate=" (python3 is $python_full)"; else candidate=""; fi
    fail "no Python 3.11, 3.12 or 3.13 found$candidate: install one, or name it with --python PATH"
  fi
}

# ------------------------------------------------------------------------------------------------------- accelerator

metadata() {
  [ -z "${TPU_SKIP_MDS_QUERY:-}" ] && curl --silent --fail --max-time 2 --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1" 2>/dev/null
}

has_tpu() {
  local device found=""
  for device in /dev/accel[0-9]* /dev/vfio/[0-9]*; do
    if [ -e "$device" ]; then found=yes; fi
  done
  # vfio devices may be anything that a virtual machine is given.
  [ -n "$found" ] &&
    { [ -n "${TPU_NAME:-}${TPU_ACCELERATOR_TYPE:-}${TPU_WORKER_ID:-}${TPU_WORKER_HOSTNAMES:-}" ] ||
      metadata accelerator-type >/dev/null; }
}

# Sets accelerator and because.
detect_accelerator() {
  local cuda old_gpus
  accelerator=cpu
  because="no NVIDIA driver and no TPU found"
  if command -v nvidia-smi >/dev/null; then
    # Newer drivers write 'CUDA UMD Version'.
    cuda="$(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA[A-Za-z ]* Version: *\([0-9][0-9.]*\).*/\1/p')" || cuda=""
    # CUDA 13 left out the GPUs before compute capability 7.5 (Pascal, Volta), whose last driver still reports 13.0.
    old_gpus="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null |
      awk '/^[0-9]+\.[0-9]+ *$/ && $1 < 7.5 { old = $1 } END { print old }')" || old_gpus=""
    if [ -z "$cuda" ]; then
      because="nvidia-smi is there and reports no CUDA version"
    elif [ "${cuda%%.*}" -lt 12 ]; then
      because="the NVIDIA driver supports CUDA $cuda and JAX needs 12 or newer: update the driver to use the GPU"
    elif [ "${cuda%%.*}" -eq 12 ]; then
      accelerator=cuda12
      because="the NVIDIA driver supports CUDA $cuda"
    elif [ -n "$old_gpus" ]; then
      accelerator=cuda12
      because="a GPU has compute capability $old_gpus and CUDA 13 needs 7.5"
    else
      accelerator=cuda13
      because="the NVIDIA driver supports CUDA $cuda"
    fi
  elif has_tpu; then
    accelerator=tpu
    because="a TPU is attached"
  fi
}

# What was asked for, now or at the last set-up, goes before what is found. An environment made for an accelerator serves
# on a host without one too (the login node of a cluster), and is not searched again: nvidia-smi can take a second.
choose_accelerator() {
  if [ -n "$asked_accelerator" ]; then
    accelerator="$asked_accelerator"
    because=asked
  elif [ "$stamp_because" = asked ]; then
    accelerator="$stamp_accelerator"
    because=asked
  elif [ -n "$stamp_accelerator" ] && [ "$stamp_accelerator" != cpu ]; then
    accelerator="$stamp_accelerator"
    because="the environment was made for it"
  else
    detect_accelerator
  fi
}

# ------------------------------------------------------------------------------------------------------- environment
#
# Files in .venv: launch_making while it is being made; launch_made ever after, so that only what launch.sh made is ever
# deleted; launch_installing while packages are being installed; launch_stamp says what is installed.

fingerprint() { cat "$root/requirements.txt" "$root/pyproject.toml" | cksum; }

read_stamp() {
  local key value
  stamp_fingerprint="" stamp_python="" stamp_accelerator="" stamp_because="" stamp_dev=""
  [ -f "$venv/launch_stamp" ] || return 0
  while read -r key value; do
    case "$key" in
      fingerprint) stamp_fingerprint="$value" ;;
      python) stamp_python="$value" ;;
      accelerator) stamp_accelerator="$value" ;;
      because) stamp_because="$value" ;;
      dev) stamp_dev="$value" ;;
    esac
  done <"$venv/launch_stamp"
}

# A CPU run needs nothing that an environment for another accelerator lacks.
accelerator_installed() {
  [ "$stamp_accelerator" = "$accelerator" ] || { [ "$accelerator" = cpu ] && [ -n "$stamp_accelerator" ]; }
}

python_fits() {
  [ -z "$asked_python" ] && return
  choose_python
  [ "$stamp_python" = "$python_full $python_base" ]
}

is_ready() {
  [ -x "$venv/bin/python" ] && [ ! -e "$venv/launch_installing" ] && [ ! -e "$venv/launch_making" ] &&
    [ "$stamp_fingerprint" = "$(fingerprint)" ] && { [ -z "$dev" ] || [ -n "$stamp_dev" ]; } &&
    accelerator_installed && python_fits
}

# Sets action to make, remake or use, and python_full and python_base to the environment's.
plan_environment() {
  local wrong="" wanted
  if [ ! -e "$venv" ] || [ -z "$(ls -A "$venv")" ]; then
    action="make"
    choose_python
    return
  fi
  action=use
  if [ -n "$asked_python" ]; then
    choose_python
    wanted="$python_full $python_base"
  else
    wanted=""
  fi
  if [ -e "$venv/launch_making" ]; then
    wrong="was never finished"
  elif ! inspect_python "$venv/bin/python"; then
    wrong="has a Python that does not run"
  elif ! supported "$python_minor"; then
    wrong="has Python $python_full and this project runs on 3.11, 3.12 and 3.13"
  elif [ -n "$wanted" ] && [ "$wanted" != "${stamp_python:-$python_full $python_base}" ]; then
    wrong="has Python $python_full ($python_base), not the ${wanted%% *} (${wanted#* }) that was asked for"
  elif [ "${stamp_accelerator:-cpu}" != cpu ] && ! accelerator_installed; then
    wrong="was made for $stamp_accelerator, which does not go together with $accelerator"
  fi
  if [ -z "$wrong" ]; then return; fi
  if [ ! -e "$venv/launch_made" ] && [ ! -e "$venv/launch_making" ]; then
    fail "$venv $wrong; launch.sh did not make it and leaves it alone: move it away (mv .venv .venv-old) and run again"
  fi
  action=remake
  say "making .venv anew: it $wrong"
  choose_python
}

make_environment() {
  if [ "$action" = remake ]; then
    # Renamed first: half deleted, it would look like somebody else's.
    mv "$venv" "$venv.old"
    rm -rf "$venv.old"
  fi
  say "making .venv with Python $python_full ($python)"
  mkdir -p "$venv"
  : >"$venv/launch_making"
  if [ "$python_makes" = venv ]; then
    "$python" -m venv "$venv" >&2 || fail "'$python -m venv' failed (see above)"
  else
    uv venv --quiet --allow-existing --python "$python" "$venv" || fail "'uv venv' failed (see above)"
  fi
  mv "$venv/launch_making" "$venv/launch_made"
}

# Forgets every package of which an interrupted installer left a part, so that the next one installs it whole.
repair_environment() {
  say "the last installation was interrupted: repairing .venv"
  "$venv/bin/python" -I - <<'PYTHON'
import csv, pathlib, shutil, sysconfig


def is_whole(info):
    record = info / "RECORD"  # what is in a package, written last
    if not record.exists():
        return False
    with record.open(encoding="utf-8", newline="") as rows:
        for name, _, size in csv.reader(rows):
            path = info.parent / name
            if not name.endswith(".pyc") and not (path.exists() and size in ("", str(path.stat().st_size))):
                return False
    return True


for site in {pathlib.Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}:
    for left in (*site.glob("~*"), *(info for info in site.glob("*.dist-info") if not is_whole(info))):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
PYTHON
}

extra_of() {
  case "$1" in cuda13) echo gpu ;; cuda12) echo gpu12 ;; tpu) echo tpu ;; esac
}

# The extras to install: that of the accelerator, and dev, which once installed is kept up to date.
extras() {
  extra_of "$target"
  if [ -n "$dev$stamp_dev" ]; then echo dev; fi
}

install_packages() {
  local names line
  local -a packages=(-r "$root/requirements.txt")
  # shellcheck disable=SC2046 # one argument an extra
  names="$("$venv/bin/python" -I - "$root/pyproject.toml" $(extras) <<'PYTHON'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    extras = tomllib.load(file)["project"]["optional-dependencies"]
for name in sys.argv[2:]:
    print(*extras[name], sep="\n")
PYTHON
  )"
  while IFS= read -r line; do
    if [ -n "$line" ]; then packages+=("$line"); fi
  done <<<"$names"
  say "installing packages for $target (a few minutes the first time) ..."
  if command -v uv >/dev/null; then
    if uv pip install --quiet --python "$venv/bin/python" "${packages[@]}" >&2; then return; fi
    say "uv could not install them (see above); trying pip"
  fi
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$venv/bin/python" -m ensurepip >/dev/null 2>&1 || fail ".venv has no pip: put one there, or install uv, and run again"
  fi
  "$venv/bin/python" -m pip install --quiet --quiet --no-input --disable-pip-version-check "${packages[@]}" >&2 ||
    fail "the packages could not be installed (see above); mend that and run the same command again"
}

write_stamp() {
  local because_kept="$because"
  if [ "$target" != "$accelerator" ]; then because_kept="$stamp_because"; fi
  cat >"$venv/launch_stamp.new" <<STAMP
fingerprint $(fingerprint)
python ${stamp_python:-$python_full $python_base}
accelerator $target
because $because_kept
dev ${dev:-$stamp_dev}
STAMP
  mv "$venv/launch_stamp.new" "$venv/launch_stamp"
  rm -f "$venv/launch_installing"
}

# The lock is inherited by the installer on purpose: when launch.sh is killed, the installer may live on, and the next
# launch.sh waits for it.
lock() {
  { : >>"$root/.venv.lock"; } 2>/dev/null || fail "cannot write in $root, where .venv belongs"
  exec 9>>"$root/.venv.lock"
  if command -v flock >/dev/null && ! flock --nonblock 9; then
    say "another launch.sh is setting up: waiting for it ..."
    flock 9
  fi
}

# Whether what is installed was not asked for before and is now.
asked_anew() {
  [ -n "$asked_accelerator" ] && [ "$accelerator" = "$stamp_accelerator" ] && [ "$stamp_because" != asked ]
}

set_up() {
  read_stamp
  choose_accelerator
  if is_ready; then
    if asked_anew && [ -w "$venv" ] && [ -w "$root" ]; then
      lock
      read_stamp
      if is_ready && asked_anew; then
        target="$accelerator"
        write_stamp
      fi
      exec 9>&-
    fi
    return
  fi
  lock
  trap 'say "launch.sh: interrupted; run the same command again to finish"; exit 130' INT
  read_stamp
  if ! is_ready; then
    rm -rf "$venv.old"
    plan_environment
    if [ "$action" != use ]; then
      make_environment
      stamp_python="" stamp_accelerator="" stamp_because="" stamp_dev=""
    fi
    # The environment keeps what it was made for when this run wants less.
    if accelerator_installed; then target="$stamp_accelerator"; else target="$accelerator"; fi
    if [ "$accelerator" = "$target" ] && [ "$because" != asked ]; then say "accelerator: $accelerator ($because)"; fi
    if [ -e "$venv/launch_installing" ]; then repair_environment; fi
    : >"$venv/launch_installing"
    install_packages
    write_stamp
  fi
  trap - INT
  exec 9>&-
}

# --------------------------------------------------------------------------------------------------------- many hosts

# Sets coordinator, processes and process from the options, or else from the variables that whoever starts the processes
# sets: ours and JAX's, Kubeflow's (a JAXJob has the port beside), an indexed Job's of Kubernetes.
find_hosts() {
  coordinator="${asked_coordinator:-${COORDINATOR_ADDRESS:-${JAX_COORDINATOR_ADDRESS:-}}}"
  processes="${asked_processes:-${NUM_PROCESSES:-${JAX_NUM_PROCESSES:-}}}"
  process="${asked_process:-${PROCESS_ID:-${JAX_PROCESS_ID:-${JOB_COMPLETION_INDEX:-}}}}"
  case "$coordinator" in
    '' | *:*) ;;
    *) coordinator="$coordinator${COORDINATOR_PORT:+:$COORDINATOR_PORT}" ;;
  esac
  if [ -n "$coordinator" ] && in_slurm_step; then
    processes="${processes:-$SLURM_NTASKS}"
    process="${process:-${SLURM_PROCID:-}}"
  fi
}

# Without the step (srun), a batch script has the number of tasks of the job and is a single process all the same.
in_slurm_step() { [ "${SLURM_NTASKS:-1}" -gt 1 ] && [ -n "${SLURM_STEP_NODELIST:-}" ]; }

# How the processes of one run find each other: slurm, env, tpu, or nothing for a run of one process.
distributed() {
  if [ -n "$asked_processes$asked_process" ] && [ -z "$coordinator" ]; then
    fail "--processes and --process need --coordinator HOST:PORT beside them"
  fi
  if [ -n "${DNN_DISTRIBUTED:-}" ]; then
    echo "$DNN_DISTRIBUTED"
  elif [ -n "$coordinator" ] && [ -n "$processes" ] && [ -n "$process" ]; then
    echo env
  elif in_slurm_step; then
    echo slurm
  elif [ -n "$coordinator" ]; then
    fail "COORDINATOR_ADDRESS=$coordinator needs NUM_PROCESSES and PROCESS_ID (or JOB_COMPLETION_INDEX) beside it"
  elif [ "$accelerator" = tpu ]; then
    case "${TPU_PROCESS_ADDRESSES:-${TPU_WORKER_HOSTNAMES:-$(metadata worker-network-endpoints || true)}}" in
      *,*) echo tpu ;;
      *) if [ "${MEGASCALE_NUM_SLICES:-1}" -gt 1 ]; then echo tpu; fi ;;
    esac
  fi
}

export_environment() {
  # Asked for the CPU on a machine with an accelerator, JAX would take the accelerator.
  if [ "$accelerator" = cpu ] && [ "$because" = asked ]; then export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"; fi
  find_hosts
  DNN_DISTRIBUTED="$(distributed)"
  case "$DNN_DISTRIBUTED" in
    '') unset DNN_DISTRIBUTED ;;
    env)
      # A word that is empty is left unset, so that Python can say what is missing.
      if [ -n "$coordinator" ]; then export COORDINATOR_ADDRESS="$coordinator"; fi
      if [ -n "$processes" ]; then export NUM_PROCESSES="$processes"; fi
      if [ -n "$process" ]; then export PROCESS_ID="$process"; fi
      export DNN_DISTRIBUTED
      ;;
    *) export DNN_DISTRIBUTED ;;
  esac
}

# --------------------------------------------------------------------------------------------------------------- runs

run_module() {
  local module="$1"
  shift
  export_environment
  case "$module:${DNN_DISTRIBUTED:-}" in
    main:*) ;;
    *:env | *:slurm) fail "$module runs in one process; start it once, on one host" ;;
    *) unset DNN_DISTRIBUTED ;;
  esac
  # A file in the current directory does not hide a package, neither here nor in what this starts.
  export PYTHONSAFEPATH=1
  exec "$venv/bin/python" -P -m "dnn_research.$module" "$@"
}

run_checks() {
  local failed="" python="$venv/bin/python"
  cd "$root"
  check() {
    local name="$1"
    shift
    say "== $name"
    "$@" || failed="$failed${failed:+, }$name"
  }
  check "ruff format" "$python" -m ruff format --check .
  check "ruff check" "$python" -m ruff check .
  check "pyrefly" "$python" -m pyrefly check --python-interpreter-path "$python"
  check "shellcheck" "$venv/bin/shellcheck" launch.sh .ci/run
  check "pytest" "$python" -m pytest -n auto --maxprocesses 4 "$@"
  if [ -n "$failed" ]; then fail "failed: $failed"; fi
  say "all checks passed"
}

show_plan() {
  local how
  read_stamp
  choose_accelerator
  find_hosts
  how="$(distributed)"
  if is_ready; then
    action=ready
    python_full="${stamp_python%% *}"
  else
    plan_environment
  fi
  if accelerator_installed; then target="$stamp_accelerator"; else target="$accelerator"; fi
  echo "accelerator: $accelerator ($because)"
  case "$action" in
    ready) echo "environment: .venv with Python $python_full, complete" ;;
    use) echo "environment: .venv with Python $python_full, to be completed" ;;
    *) echo "environment: $action .venv with Python $python_full ($python)" ;;
  esac
  if [ "$action" != ready ]; then echo "install: requirements.txt$(extras | sed 's/^/, extra /' | tr -d '\n')"; fi
  echo "distributed: ${how:-no}"
  case "$command" in
    setup) ;;
    test) echo "run: ruff format, ruff check, pyrefly, shellcheck, pytest $*" ;;
    *) echo "run: python -m dnn_research.$command $*" ;;
  esac
}

# --------------------------------------------------------------------------------------------------------------- main

set_option() {
  case "$1" in
    --python) asked_python="$2" ;;
    --accelerator) asked_accelerator="$2" ;;
    --coordinator) asked_coordinator="$2" ;;
    --processes) asked_processes="$2" ;;
    --process) asked_process="$2" ;;
  esac
}

asked_python="${DNN_PYTHON:-}"
asked_accelerator="${DNN_ACCELERATOR:-}"
asked_coordinator="" asked_processes="" asked_process=""
dry_run=""
dev=""
while [ $# -gt 0 ]; do
  case "$1" in
    --python | --accelerator | --coordinator | --processes | --process)
      [ $# -ge 2 ] || fail "$1 needs a value"
      set_option "$1" "$2"
      shift
      ;;
    --python=* | --accelerator=* | --coordinator=* | --processes=* | --process=*) set_option "${1%%=*}" "${1#*=}" ;;
    --dry_run) dry_run=yes ;;
    -h | --help | help)
      usage
      exit 0
      ;;
    -*) fail "unknown option '$1'; options before the command are --python, --accelerator, --coordinator, --processes, --process, --dry_run, --help" ;;
    *) break ;;
  esac
  shift
done

case "$asked_accelerator" in
  '' | cpu | cuda12 | cuda13 | tpu) ;;
  *) fail "--accelerator: unknown accelerator '$asked_accelerator'; take one of cpu, cuda12, cuda13, tpu" ;;
esac

if [ $# -eq 0 ]; then
  # Relative where that is enough: it reads better in what the run prints.
  if [ "$PWD" = "$root" ]; then set -- main --config "$quickstart"; else set -- main --config "$root/$quickstart"; fi
fi
command="$1"
shift
known="$(commands)"
case $'\n'"$known"$'\n' in
  *$'\n'"$command"$'\n'*) ;;
  *) fail "unknown command '$command'; the commands are ${known//$'\n'/, }, or none for the quick start" ;;
esac
if [ "$command" = test ]; then dev=yes; fi

if [ -n "$dry_run" ]; then
  show_plan "$@"
  exit 0
fi

set_up
# How commands are called from here, for what a run proposes at its end.
export DNN_COMMAND="${BASH_SOURCE[0]} main"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
case "$command" in
  setup) say "ready: .venv for $accelerator; next: ./launch.sh (quick start), ./launch.sh --help (commands)" ;;
  test) run_checks "$@" ;;
  *) run_module "$command" "$@" ;;
esac
