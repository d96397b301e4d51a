"""launch.sh: what it prints, finds and would do, with pretended Pythons and drivers; nothing is installed here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="launch.sh needs bash")

# What launch.sh itself calls; everything else (nvidia-smi, uv, pyenv, other Pythons) is hidden from it.
TOOLS = ("bash", "env", "cat", "cksum", "sed", "awk", "tr", "ls", "basename", "dirname", "mkdir", "mv", "rm", "flock")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what launch.sh looks at, so that no .venv of this checkout plays a part."""
    copy = tmp_path / "a checkout"
    (copy / "dnn_research" / "tools").mkdir(parents=True)
    for name in ("launch.sh", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "dnn_research" / "main.py").write_text("import os, sys\nprint(*sys.argv[1:], os.getcwd())\n")
    (copy / "dnn_research" / "tools" / "summary.py").write_text('"""Prints a network as a table.\n\nMore.\n"""\n')
    return copy


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The only folder on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        if path := shutil.which(name):
            (folder / name).symlink_to(path)
    return folder


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def fake_python(path: Path, version: str, makes: str = "venv", base: str | None = None) -> None:
    """A program that answers launch.sh's question as a Python of this version would."""
    minor = version.rpartition(".")[0]
    program(path, f'echo "{minor} {version} {makes} {base or path.parent}"')


def run(checkout: Path, programs: Path, *arguments: str, cwd: Path | None = None, **variables: str):
    environment = {"PATH": str(programs), "HOME": str(programs.parent), "TPU_SKIP_MDS_QUERY": "1", **variables}
    return subprocess.run(
        [shutil.which("bash") or "bash", str(checkout / "launch.sh"), *arguments],
        env=environment,
        cwd=cwd or checkout,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def plan(checkout: Path, programs: Path, *arguments: str, **variables: str) -> dict[str, str]:
    done = run(checkout, programs, "--dry_run", *arguments, cwd=None, **variables)
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


def error_of(done: subprocess.CompletedProcess) -> str:
    """The one line of a command that failed."""
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def made_environment(checkout: Path, version: str = "3.12.1", accelerator: str = "cpu", because: str = "x") -> Path:
    """An environment as launch.sh leaves it behind."""
    venv = checkout / ".venv"
    fake_python(venv / "bin" / "python", version, base="/base")
    (venv / "launch_made").touch()
    files = (checkout / "requirements.txt").read_bytes() + (checkout / "pyproject.toml").read_bytes()
    fingerprint = subprocess.run(["cksum"], input=files, capture_output=True, check=True).stdout.decode().strip()
    stamp = {
        "fingerprint": fingerprint,
        "python": f"{version} /base",
        "accelerator": accelerator,
        "because": because,
        "dev": "",
    }
    (venv / "launch_stamp").write_text("".join(f"{key} {value}\n" for key, value in stamp.items()))
    return venv


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_names_the_commands_and_installs_nothing(checkout, programs, word):
    done = run(checkout, programs, word)
    assert done.returncode == 0
    for command in ("setup", "test", "main", "tools.summary"):
        assert f"\n  {command} " in done.stdout
    assert "Prints a network as a table\n" in done.stdout
    assert "lab" not in done.stdout.partition("Options")[0]  # this copy has none
    assert not (checkout / ".venv").exists()


def test_every_module_with_a_command_line_is_a_command():
    done = subprocess.run([str(ROOT / "launch.sh"), "--help"], capture_output=True, text=True, check=True)
    named = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line[2] != "-"}
    tools = {f"tools.{path.stem}" for path in (ROOT / "dnn_research" / "tools").glob("[!_]*.py")}
    assert named == {"setup", "test", "main"} | tools | ({"lab", "weights"} & named)


@pytest.mark.parametrize("command", ["trian", "tools.nothing", "lab", "ma", "setup test"])
def test_unknown_command_is_one_line_that_lists_them(checkout, programs, command):
    error = error_of(run(checkout, programs, command))
    assert f"unknown command '{command}'" in error
    assert "setup, test, main, tools.summary" in error
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pyton", "x", "main"), "unknown option '--pyton'"),
        (("--python",), "--python needs a value"),
        (("--accelerator", "cuda11", "setup"), "unknown accelerator 'cuda11'; take one of cpu, cuda12, cuda13, tpu"),
        (("--python", "nowhere", "setup"), "there is no program 'nowhere'"),
    ],
)
def test_wrong_options_are_one_line(checkout, programs, arguments, said):
    assert said in error_of(run(checkout, programs, *arguments))


def test_newest_supported_python_is_taken(checkout, programs):
    for version in ("3.10.13", "3.11.7", "3.12.1", "3.14.0"):
        fake_python(programs / f"python{version.rpartition('.')[0]}", version)
    assert plan(checkout, programs, "setup")["environment"] == f"make .venv with Python 3.12.1 ({programs}/python3.12)"


def test_python_that_does_not_run_is_skipped(checkout, programs):
    program(programs / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    fake_python(programs / "python3.11", "3.11.7")
    assert "Python 3.11.7 " in plan(checkout, programs, "setup")["environment"]


def test_python_of_another_name_counts_by_its_version(checkout, programs):
    fake_python(programs / "python3.11", "3.11.7")
    fake_python(programs / "python3", "3.13.0")
    assert f"({programs}/python3)" in plan(checkout, programs, "setup")["environment"]


def test_pyenvs_versions_are_found_behind_failing_shims(checkout, programs, tmp_path):
    program(programs / "python3.13", "exit 127")
    fake_python(programs / "python3.11", "3.11.7")
    fake_python(tmp_path / ".pyenv" / "versions" / "3.12.1" / "bin" / "python", "3.12.1")
    fake_python(tmp_path / ".pyenv" / "versions" / "3.13.0t" / "bin" / "python", "3.13.0")  # free-threaded: no wheels
    assert "versions/3.12.1/bin/python" in plan(checkout, programs, "setup")["environment"]


def test_python_that_cannot_make_environments_is_skipped_or_explained(checkout, programs):
    fake_python(programs / "python3.12", "3.12.3", makes="nothing")
    error = error_of(run(checkout, programs, "--dry_run", "setup"))
    assert "apt-get install python3.12-venv" in error
    fake_python(programs / "python3.11", "3.11.7")
    assert "Python 3.11.7 " in plan(checkout, programs, "setup")["environment"]


def test_no_fitting_python_is_one_line(checkout, programs):
    fake_python(programs / "python3", "3.9.18")
    error = error_of(run(checkout, programs, "setup"))
    assert "no Python 3.11, 3.12 or 3.13 found (python3 is 3.9.18)" in error


@pytest.mark.parametrize("version", ["3.10.13", "3.14.0"])
def test_python_asked_for_must_be_supported(checkout, programs, version):
    fake_python(programs / "python", version)
    for done in (
        run(checkout, programs, "--python", "python", "setup"),
        run(checkout, programs, "setup", DNN_PYTHON="python"),
    ):
        assert f"'python' is Python {version}; take one of 3.11, 3.12 or 3.13" in error_of(done)


@pytest.mark.parametrize(
    ("header", "capability", "accelerator", "extra"),
    [
        ("CUDA Version: 12.4", "8.0", "cuda12", "gpu12"),
        ("CUDA Version: 13.0", "9.0", "cuda13", "gpu"),
        ("CUDA UMD Version: 13.1", "12.0", "cuda13", "gpu"),
        ("CUDA Version: 13.0", "7.0", "cuda12", "gpu12"),  # Volta
        ("CUDA Version: 11.8", "7.0", "cpu", None),
        ("NVIDIA-SMI has failed", "", "cpu", None),
    ],
)
def test_accelerator_follows_the_nvidia_driver(checkout, programs, header, capability, accelerator, extra):
    fake_python(programs / "python3.12", "3.12.1")
    program(
        programs / "nvidia-smi",
        f'if [ $# -gt 0 ]; then echo "{capability}"; exit; fi\necho "| NVIDIA-SMI 550.54    {header}     |"',
    )
    planned = plan(checkout, programs, "setup")
    assert planned["accelerator"].split()[0] == accelerator
    assert planned["install"] == "requirements.txt" + (f", extra {extra}" if extra else "")


def test_accelerator_asked_for_goes_first(checkout, programs):
    fake_python(programs / "python3.12", "3.12.1")
    assert plan(checkout, programs, "--accelerator=tpu", "test")["install"] == "requirements.txt, extra tpu, extra dev"
    assert plan(checkout, programs, "setup", DNN_ACCELERATOR="cuda12")["accelerator"] == "cuda12 (asked)"


def test_finished_environment_is_used_as_it_is(checkout, programs):
    made_environment(checkout)
    assert plan(checkout, programs, "main")["environment"] == ".venv with Python 3.12.1, complete"
    assert plan(checkout, programs, "test")["install"] == "requirements.txt, extra dev"
    with (checkout / "requirements.txt").open("a") as file:
        file.write("einops\n")
    assert plan(checkout, programs, "main")["environment"] == ".venv with Python 3.12.1, to be completed"


def test_interrupted_installation_is_completed(checkout, programs):
    venv = made_environment(checkout)
    (venv / "launch_installing").touch()
    assert plan(checkout, programs, "main")["environment"] == ".venv with Python 3.12.1, to be completed"


def test_environment_for_an_accelerator_serves_without_it(checkout, programs):
    fake_python(programs / "python3.12", "3.12.1")
    made_environment(checkout, accelerator="cuda12", because="the driver")
    assert "install" not in plan(checkout, programs, "main")
    assert "install" not in plan(checkout, programs, "--accelerator", "cpu", "main")
    done = run(checkout, programs, "--dry_run", "--accelerator", "cuda13", "main")
    assert done.stdout.splitlines()[1].startswith("environment: remake .venv")
    assert "was made for cuda12" in done.stderr


def test_what_was_asked_for_is_remembered(checkout, programs):
    program(programs / "nvidia-smi", "echo 'CUDA Version: 12.4'")
    made_environment(checkout, accelerator="cpu", because="asked")
    assert plan(checkout, programs, "main")["accelerator"] == "cpu (asked)"


def test_what_is_asked_for_where_nothing_is_to_be_installed_is_remembered_too(checkout, programs):
    made_environment(checkout, accelerator="cpu", because="no NVIDIA driver")
    assert run(checkout, programs, "--accelerator", "cpu", "main").returncode == 0
    program(programs / "nvidia-smi", "echo 'CUDA Version: 12.4'")
    assert plan(checkout, programs, "main")["accelerator"] == "cpu (asked)"


def test_other_python_makes_its_own_environment_anew_and_leaves_a_users_alone(checkout, programs):
    fake_python(programs / "python3.13", "3.13.0")
    venv = made_environment(checkout)
    done = run(checkout, programs, "--dry_run", "--python", "python3.13", "main")
    assert "making .venv anew: it has Python 3.12.1" in done.stderr
    (venv / "launch_made").unlink()
    error = error_of(run(checkout, programs, "--python", "python3.13", "main"))
    assert "launch.sh did not make it and leaves it alone: move it away" in error
    assert (venv / "bin" / "python").exists()


def test_users_environment_is_completed(checkout, programs):
    fake_python(checkout / ".venv" / "bin" / "python", "3.11.7")
    assert plan(checkout, programs, "main")["environment"] == ".venv with Python 3.11.7, to be completed"


def test_half_made_environment_is_made_anew(checkout, programs):
    fake_python(programs / "python3.12", "3.12.1")
    (checkout / ".venv").mkdir()
    assert plan(checkout, programs, "main")["environment"].startswith("make .venv")
    venv = made_environment(checkout)
    (venv / "launch_made").rename(venv / "launch_making")
    assert plan(checkout, programs, "main")["environment"].startswith("remake .venv")


SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    ("variables", "how"),
    [
        ({}, "no"),
        ({**SLURM, "SLURM_STEP_NODELIST": "node[1-4]"}, "slurm"),
        ({**SLURM, "SLURM_STEP_NODELIST": "node[1-4]", "COORDINATOR_ADDRESS": "node1:5000"}, "env"),
        (SLURM, "no"),  # a batch script before srun
        ({**SLURM, "SLURM_STEP_NODELIST": "node1", "SLURM_NTASKS": "1"}, "no"),
        ({"COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": "2", "PROCESS_ID": "1"}, "env"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": "2", "PROCESS_ID": "1"}, "env"),
        ({"COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": "2", "JOB_COMPLETION_INDEX": "1"}, "env"),
        ({"JOB_COMPLETION_INDEX": "1"}, "no"),  # a Job whose pods have nothing to do with each other
        ({"DNN_ACCELERATOR": "tpu", "TPU_WORKER_HOSTNAMES": "a,b"}, "tpu"),
        ({"DNN_ACCELERATOR": "tpu", "TPU_WORKER_HOSTNAMES": "localhost"}, "no"),
        ({"DNN_ACCELERATOR": "tpu", "TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "tpu"),
    ],
)
def test_many_hosts_are_recognised(checkout, programs, variables, how):
    fake_python(programs / "python3.12", "3.12.1")
    assert plan(checkout, programs, "main", **variables)["distributed"] == how


def test_half_described_hosts_are_refused(checkout, programs):
    made_environment(checkout)
    error = error_of(run(checkout, programs, "main", COORDINATOR_ADDRESS="a:1", NUM_PROCESSES="2"))
    assert "COORDINATOR_ADDRESS=a:1 needs NUM_PROCESSES and PROCESS_ID" in error


@pytest.fixture
def working_python(checkout) -> Path:
    """A finished environment whose Python is the one of this test."""
    venv = made_environment(checkout, version=f"3.{sys.version_info[1]}.{sys.version_info[2]}")
    program(venv / "bin" / "python", f'exec "{sys.executable}" "$@"')
    return venv


def test_command_gets_its_arguments_and_stays_where_the_user_is(checkout, programs, working_python, tmp_path):
    elsewhere = tmp_path / "else where"
    (elsewhere / "dnn_research").mkdir(parents=True)
    (elsewhere / "dnn_research" / "main.py").write_text("print('the wrong one')")
    done = run(checkout, programs, "main", "--config", "my configs/a.py", "", cwd=elsewhere)
    assert (done.returncode, done.stdout) == (0, f"--config my configs/a.py  {elsewhere}\n"), done.stderr
    assert done.stderr == ""


def test_no_command_is_the_quick_start_from_anywhere(checkout, programs, working_python, tmp_path):
    assert run(checkout, programs).stdout == f"--config configs/quickstart.py {checkout}\n"
    assert run(checkout, programs, cwd=tmp_path).stdout == f"--config {checkout}/configs/quickstart.py {tmp_path}\n"


def test_exit_status_and_environment_reach_through(checkout, programs, working_python):
    (checkout / "dnn_research" / "main.py").write_text(
        "import os, sys\n"
        "print(*(os.environ.get(n) for n in ('DNN_DISTRIBUTED', 'COORDINATOR_ADDRESS', 'JAX_PLATFORMS')))\n"
        "sys.exit(75)\n"
    )
    hosts = {"JAX_COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": "2", "PROCESS_ID": "1"}
    done = run(checkout, programs, "main")
    assert (done.returncode, done.stdout) == (75, "None None None\n")
    done = run(checkout, programs, "--accelerator", "cpu", "main", **hosts)
    assert (done.returncode, done.stdout) == (75, "env a:1 cpu\n")


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ((), {"COORDINATOR_ADDRESS": "a", "COORDINATOR_PORT": "1", "NUM_PROCESSES": "2", "PROCESS_ID": "1"}),
        ((), {"COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": "2", "JOB_COMPLETION_INDEX": "1"}),
        (("--coordinator", "a:1", "--processes=2", "--process", "1"), {}),
        (("--coordinator=a:1", "--processes", "2", "--process=1"), {"NUM_PROCESSES": "7", "PROCESS_ID": "0"}),
    ],
)
def test_every_way_to_name_the_hosts_reaches_the_command(checkout, programs, working_python, arguments, variables):
    (checkout / "dnn_research" / "main.py").write_text(
        "import os\n"
        "print(*(os.environ[n] for n in ('DNN_DISTRIBUTED', 'COORDINATOR_ADDRESS', 'NUM_PROCESSES', 'PROCESS_ID')))\n"
    )
    done = run(checkout, programs, *arguments, "main", **variables)
    assert (done.stdout, done.stderr) == ("env a:1 2 1\n", "")


def test_command_takes_the_place_of_the_script_so_that_signals_reach_it(checkout, programs, working_python):
    (checkout / "dnn_research" / "main.py").write_text("import os\nprint(os.getpid())\n")
    bash = shutil.which("bash") or "bash"
    environment = {"PATH": str(programs), "HOME": str(programs.parent)}
    with subprocess.Popen([bash, checkout / "launch.sh", "main"], env=environment, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=60)
    assert int(output) == process.pid


def test_failing_check_fails_the_tests_after_all_have_run(checkout, programs, working_python):
    stamp = working_python / "launch_stamp"
    stamp.write_text(stamp.read_text().replace("dev ", "dev yes"))
    program(working_python / "bin" / "shellcheck", "exit 0")
    program(working_python / "bin" / "python", 'echo "$*"; [ "$2" != ruff ] || [ "$3" != check ]')
    done = run(checkout, programs, "test", "-k", "a b")
    assert done.returncode == 1
    assert "launch.sh: failed: ruff check\n" in done.stderr
    assert done.stdout.splitlines()[-1] == "-m pytest -n auto --maxprocesses 4 -k a b"
    program(working_python / "bin" / "python", "exit 0")
    assert run(checkout, programs, "test").returncode == 0
