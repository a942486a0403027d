"""The Alpine recipe, as far as it can be checked without Alpine: its text, its scripts, and what it installs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.machine import ROOT
from tests.packaging.test_openwrt import shells

RECIPE: Final = ROOT / "packaging" / "alpine"
SCRIPTS: Final = sorted(each.name for each in RECIPE.iterdir() if each.suffix != ".nft")

# Libraries that Alpine does not call py3- and their name in the Python package index.
_INDEX_NAMES: Final = {"yaml": "pyyaml"}
_OPENRC: Final = """ebegin() { :; }
eend() { return "$1"; }
eerror() { echo "error: $*"; }
checkpath() { echo "checkpath $*"; }
modprobe() { :; }
use() { echo "use $*"; }
after() { echo "after $*"; }
RC_SVCNAME=lispd
"""


def run(shell: list[str], script: str, **environment: str) -> str:
    """The output of a script, which must not complain."""
    told = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}
    done = subprocess.run(
        [*shell, "-c", f"set -e\n{script}"], env=told, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def recipe(*names: str) -> dict[str, str]:
    """Variables of the APKBUILD, as a shell reads them."""
    say = "".join(f'echo "{name}="$(echo ${name})\n' for name in names)
    script = f"srcdir=/src pkgdir=/pkg\n. {RECIPE}/APKBUILD\n{say}"
    return dict(line.split("=", 1) for line in run(["sh"], script).splitlines())


def python_packages(names: str) -> list[str]:
    """The names in the package index of those of Alpine's packages that are Python libraries."""
    found = [re.fullmatch(r"py3-(\w[\w-]*)(.*)", name) for name in names.split()]
    return [_INDEX_NAMES.get(each[1], each[1]) + each[2] for each in found if each]


def bare(name: str) -> str:
    """The name without the version."""
    return re.split(r"[<>=~! ;]", name)[0].lower().replace("_", "-")


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_shell_can_read_it(shell: list[str], script: str) -> None:
    subprocess.run([*shell, "-n", str(RECIPE / script)], check=True, timeout=10)


def test_the_recipe_names_our_version_and_all_that_we_need() -> None:
    told = recipe("pkgname", "pkgver", "depends", "makedepends", "install", "source", "_msgspec")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    pinned = dict(
        line.split("==") for line in (ROOT / "packaging/debian/constraints.txt").read_text().split() if "==" in line
    )

    assert told["pkgname"] == project["project"]["name"]
    assert told["pkgver"] == project["project"]["version"]
    assert f"lispmob-{told['pkgver']}.tar.gz" in told["source"].split()
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["names"]]
    needed = {bare(dependency): dependency for dependency in wanted}
    has = python_packages(told["depends"])
    assert {bare(each) for each in has} == needed.keys() - {"msgspec"}
    assert {each for each in has if bare(each) == "pyroute2"} == {
        f"pyroute2{version}" for version in needed["pyroute2"].removeprefix("pyroute2").split(",")
    }
    assert told["_msgspec"] == pinned["msgspec"]
    builds = {bare(require) for require in project["build-system"]["requires"]}
    assert builds <= {bare(python_package) for python_package in python_packages(told["makedepends"])}
    for script in told["install"].split():
        assert (RECIPE / script).exists()


RENAMED: Final = {"lispmob.sysusers", "lispmob.tmpfiles"}
"""Of packaging/systemd: Alpine's are called lispmob.conf, in directories of these names."""


def test_what_is_packaged_for_debian_is_packaged_here_as_well(tmp_path: Path) -> None:
    tree, destination = tmp_path / "tree", tmp_path / "pkg"
    for folder in ("packaging", "conf", "lispmob/desktop/icons"):
        shutil.copytree(ROOT / folder, tree / folder)
    (tree / ".private").mkdir()
    (tree / ".generated").mkdir()
    programs = [path.name for path in (ROOT / "packaging" / "debian" / "bin").iterdir()]
    generated = {f"{name}{ending}" for name in {*programs} - {"lispd"} for ending in (".bash", ".fish")}
    generated |= {f"_{name}" for name in {*programs} - {"lispd"}} | {"lispd.8", "lispd.conf.5"}
    for name in generated:
        (tree / ".generated" / name).write_text("")
    (tmp_path / "chgrp").write_text("#!/bin/sh\n")
    (tmp_path / "chgrp").chmod(0o755)

    script = f"pkgdir={destination} srcdir={tmp_path}\n. {RECIPE}/APKBUILD\nbuilddir={tree}\npackage"
    run(["sh"], script, PATH=f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")

    installed = {path.name.removesuffix(".bash") for path in destination.rglob("*") if path.is_file()}
    folders = ("systemd", "dbus", "polkit", "networkmanager", "desktop")
    wanted = {path.name for folder in folders for path in (ROOT / "packaging" / folder).iterdir()}
    assert (wanted - RENAMED) | {name.removesuffix(".bash") for name in generated} <= installed


def setting(script: str, name: str) -> str:
    return run(["sh"], f'{_OPENRC}. {RECIPE}/{script}\necho "${name}"').strip()


@pytest.mark.parametrize("daemon", ["lispd", "lisphub"])
def test_openrc_starts_a_daemon_as_systemd_does(daemon: str) -> None:
    unit = (ROOT / "packaging" / "systemd" / f"{daemon}.service").read_text("ascii")
    told = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    script = f"{daemon}.initd"

    assert (RECIPE / script).read_text("ascii").startswith("#!/sbin/openrc-run\n")
    assert setting(script, "supervisor") == "supervise-daemon"
    assert setting(script, "command") == told["ExecStart"]
    assert setting(script, "command_user") == f"{told['User']}:{told['Group']}"
    capabilities = setting(script, "capabilities").split(",")
    assert [capability.removeprefix("^").upper() for capability in capabilities] == told["AmbientCapabilities"].split()
    assert all(capability.startswith("^") for capability in capabilities)  # ambient: it is not a program of root's
    assert setting(script, "no_new_privs") == "yes"
    assert setting(script, "umask") == told["UMask"]
    assert setting(script, "supervise_daemon_args") == f"--nicelevel={told['Nice']}"
    assert setting(script, "retry").split("/")[:2] == ["TERM", told["TimeoutStopSec"]]
    assert setting(script, "respawn_delay") == told["RestartSec"]
    # Without a limit systemd restarts it as often as needed; OpenRC does so with a limit of 0.
    is_limited = told["StartLimitIntervalSec"] != "0"
    assert setting(script, "respawn_max") == (told["StartLimitBurst"] if is_limited else "0")
    assert setting(script, "respawn_period") == (told["StartLimitIntervalSec"] if is_limited else "60")


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.parametrize(
    ("key", "is_good", "said"),
    [
        ("CHANGE-ME", True, ["error: {}/lispd.conf is the example as yet: put EID, Map-Server and key into it"]),
        ("a key of our own", False, []),
        (
            "a key of our own",
            True,
            [
                "checkpath --directory --owner lispmob:lispmob --mode 0755 /run/lispmob",
                "checkpath --directory --owner lispmob:lispmob --mode 0750 /var/lib/lispmob",
            ],
        ),
    ],
)
def test_openrc_starts_lispd_once_the_configuration_is_edited_and_valid(
    tmp_path: Path, shell: list[str], key: str, is_good: bool, said: list[str]
) -> None:
    config = (ROOT / "conf" / "lispd.conf").read_text("utf-8").replace("CHANGE-ME", key)
    (tmp_path / "lispd.conf").write_text(config, encoding="utf-8")
    (tmp_path / "lispd").write_text(f'#!/bin/sh\n[ "$*" = --check ] && exec {"true" if is_good else "false"}\n')
    (tmp_path / "lispd").chmod(0o755)
    script = (RECIPE / "lispd.initd").read_text("ascii")
    script = script.replace("/etc/lispmob", str(tmp_path)).replace("/usr/bin/lispd ", f"{tmp_path}/lispd ")

    answer = run(shell, f"{_OPENRC}{script}\nstart_pre && echo started || true")

    expected = [line.format(tmp_path) for line in said]
    assert answer.splitlines() == [*expected, *(["started"] if "checkpath" in answer else [])]


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
def test_openrc_lets_lispd_say_what_a_reload_found(tmp_path: Path, shell: list[str]) -> None:
    (tmp_path / "lispctl").write_text('#!/bin/sh\necho "lispctl $*"; exit 3\n')
    (tmp_path / "lispctl").chmod(0o755)
    script = (RECIPE / "lispd.initd").read_text("ascii").replace("/usr/bin/lispctl", f"{tmp_path}/lispctl")

    assert run(shell, f"{_OPENRC}{script}\nreload || echo $?").splitlines() == ["lispctl reload", "3"]


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
def test_a_user_is_made_like_the_one_of_systemd(shell: list[str]) -> None:
    stand_ins = "".join(f'{each}() {{ echo {each} "$@"; }}\n' for each in ("addgroup", "adduser"))
    told = run(shell, f"{stand_ins}{(RECIPE / 'lispmob.pre-install').read_text('ascii')}").splitlines()
    sysusers = (ROOT / "packaging" / "systemd" / "lispmob.sysusers").read_text("ascii").splitlines()[-1]
    found = re.fullmatch(r'u (\S+) - "(.*)" (\S+) \S+', sysusers)
    assert found is not None
    name, comment, home = found.groups()

    assert told[0] == f"addgroup -S {name}"
    assert told[1] == f"adduser -S -D -H -h {home} -s /sbin/nologin -G {name} -g {comment} {name}"


# A firewall like the one of postmarketOS, as far as it concerns us.
_FIREWALL: Final = """table inet filter {{
  chain input {{
    type filter hook input priority 0; policy drop;
    ct state {{ established, related }} accept
  }}
}}
include "{directory}/*.nft"
"""
_WWAN: Final = 'table inet filter {\n  chain input {\n    iifname "wwan*" drop\n  }\n}\n'


@pytest.mark.netns
@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is missing: install the Debian package nftables")
def test_the_firewall_of_a_phone_lets_lisp_in_before_it_drops_what_the_modem_brings(tmp_path: Path) -> None:
    included = tmp_path / "nftables.d"
    included.mkdir()
    (tmp_path / "nftables.nft").write_text(_FIREWALL.format(directory=included), encoding="ascii")
    (included / "01_wwan.nft").write_text(_WWAN, encoding="ascii")
    (included / "00_lispmob.nft").symlink_to(RECIPE / "lispmob.nft")

    load = f"nft -f {tmp_path}/nftables.nft && nft list chain inet filter input"
    listed = run(["unshare", "--net", "sh"], load).splitlines()

    verdicts = [line.split()[0:2] for line in listed if re.search(r"(accept|drop)( comment .*)?$", line)]
    assert verdicts == [["ct", "state"], ["udp", "dport"], ["iifname", '"wwan*"']]
    assert any("{ 4341, 4342 }" in line for line in listed)


# Intended differences. In the .deb only: what Debian demands of a package, and libraries that Alpine has.
_DEBIAN_ONLY: Final = re.compile(
    r"/usr/share/(doc/lispmob/(changelog\.gz|copyright)|lintian/.*|python3/.*)"
    r"|/usr/lib/lispmob/(?!lispmob/|lispmob-|msgspec/|msgspec-).*"
    r"|.*\.dist-info/(INSTALLER|REQUESTED)"
)
_ALPINE_ONLY: Final = {
    "/etc/init.d/lispd": 0o755,
    "/etc/init.d/lisphub": 0o755,
    "/etc/conf.d/lispd": 0o644,
    "/usr/share/nftables.avail/lispmob.nft": 0o644,
}
_MOVED: Final = (
    ("/lib/systemd/", "/usr/lib/systemd/"),
    ("/usr/share/zsh/vendor-completions/", "/usr/share/zsh/site-functions/"),
)


def in_deb(package: Path, root: Path) -> dict[str, int]:
    """The files that the Alpine package is to have as well, where it is to have them, and their modes.

    `root`: a fresh directory to unpack into; `package` may lie where others remain from an earlier version.
    """
    subprocess.run(["dpkg-deb", "--extract", str(package), str(root)], check=True, timeout=60)
    files = {}
    for path, mode in in_tree(root).items():
        if _DEBIAN_ONLY.fullmatch(path):
            continue
        moved = path.removesuffix(".gz") if path.startswith("/usr/share/man/") else path
        for start, instead in _MOVED:
            moved = instead + moved.removeprefix(start) if moved.startswith(start) else moved
        files[moved] = mode
    return files


def in_tree(root: Path) -> dict[str, int]:
    return {
        f"/{path.relative_to(root)}": stat.S_IMODE(path.lstat().st_mode)
        for path in root.rglob("*")
        if not path.is_dir() and path.parent.name != "__pycache__"
    }


def prepare(directory: Path) -> tuple[Path, Path]:
    """Sources as abuild unpacks them, and a Python with only the libraries that the recipe names."""
    told = recipe("_msgspec", "depends", "makedepends", "sha512sums")
    sources = directory / "src"
    sources.mkdir()
    subprocess.run([str(ROOT / "packaging/build_dist.sh"), "--sdist-only", str(sources)], check=True, timeout=300)
    subprocess.run(["/usr/bin/python3", "-m", "venv", str(directory / "venv")], check=True, timeout=60)
    python = directory / "venv" / "bin" / "python3"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    libraries = python_packages(f"{told['depends']} {told['makedepends']}")
    subprocess.run([*pip, "install", "--upgrade", "--use-pep517", *libraries], check=True, timeout=300)
    command = [*pip, "download", "--no-deps", "--no-binary=:all:", "--dest", str(sources)]
    subprocess.run([*command, f"msgspec=={told['_msgspec']}"], check=True, timeout=300)
    archive = f"msgspec-{told['_msgspec']}.tar.gz"
    sums = told["sha512sums"].split()
    assert sums[sums.index(archive) - 1] == hashlib.sha512((sources / archive).read_bytes()).hexdigest()
    for path in sources.glob("*.tar.gz"):
        subprocess.run(["tar", "-C", str(sources), "-xf", str(path)], check=True, timeout=60)
    return sources, python


@pytest.mark.package
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is missing: install the Debian package busybox")
def test_it_installs_what_the_debian_package_installs_and_the_programs_run(package: Path, tmp_path: Path) -> None:
    sources, python = prepare(tmp_path)
    destination, split_off = tmp_path / "pkg", tmp_path / "systemd"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "chgrp").write_text('#!/bin/sh\necho "chgrp $*" >&2\n')  # only abuild has the group
    (tmp_path / "bin" / "chgrp").chmod(0o755)
    script = f"""set -e
amove() {{ mkdir -p "$subpkgdir/${{1%/*}}"; mv "$pkgdir/$1" "$subpkgdir/$1"; }}
srcdir={sources} pkgdir={destination} subpkgdir={split_off}
. {RECIPE}/APKBUILD
builddir="$srcdir/$pkgname-$pkgver"
cd "$builddir"; (build >/dev/null); package
echo "$depends"
systemd
"""
    path = f"{tmp_path}/bin:{python.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        ["busybox", "ash", "-c", script],
        env={"PATH": path, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        umask=0o022,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    assert f"chgrp -R lispmob {destination}/etc/lispmob" in done.stderr.splitlines()
    version = subprocess.run(["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    assert f"python3~{version.rpartition('.')[0]}" in done.stdout.split()
    assert all(path.startswith("/usr/lib/systemd/system/") for path in in_tree(split_off))
    assert in_tree(destination) | in_tree(split_off) == in_deb(package, tmp_path / "unpacked") | _ALPINE_ONLY
    assert stat.S_IMODE((destination / "etc/lispmob").stat().st_mode) == 0o750
    compiled = {each.name.split(".")[0] for each in (destination / "usr/lib/lispmob").rglob("*.pyc")}
    assert {"daemon", "engine", "inspect"} <= compiled

    config = tmp_path / "lispd.conf"
    config.write_text((ROOT / "conf" / "lispd.conf").read_text("utf-8").replace("CHANGE-ME", "ours"), "utf-8")
    config.chmod(0o640)
    for program, arguments in (("lispd", ["--check", "-c", str(config)]), ("lispctl", ["--help"])):
        text = (destination / "usr/bin" / program).read_text("ascii")
        text = text.replace("/usr/lib/lispmob", f"{destination}/usr/lib/lispmob")
        ran = subprocess.run(
            [str(python), "-I", "-c", text, *arguments],
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # The configuration as shipped sends nothing, of which --check says a note.
        others = [line for line in ran.stderr.splitlines() if not line.startswith(f"{config}: note: ")]
        assert (ran.returncode, others) == (0, []), ran.stdout + ran.stderr
