"""The repository of `make repository`: apt accepts it for its signature, and nothing that was changed afterwards."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
TOOLS: Final = ("apt-ftparchive", "gpg", "gpgv", "apt-get", "dpkg-deb")
MISSING: Final = [tool for tool in TOOLS if shutil.which(tool) is None]

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"missing: {' '.join(MISSING)} (packaging/repository.sh says more)"
)


def make(packages: Path, repository: Path, *suites: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "packaging" / "repository.sh", packages, repository, *suites],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def package(into: Path, version: str) -> None:
    """An empty package."""
    root = into.parent / f"lispmob-{version}"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        f"Package: lispmob\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody\nDescription: nothing\n"
    )
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["dpkg-deb", "--build", root, into / f"lispmob_{version}_amd64.deb"], check=True, capture_output=True
    )


class Host:
    """apt with directories of its own, which knows this repository and its key."""

    def __init__(self, directory: Path, repository: Path, suite: str) -> None:
        self.directory = directory
        for name in ("lists/partial", "cache/archives/partial", "etc/sources.list.d", "etc/preferences.d"):
            (directory / name).mkdir(parents=True)
        (directory / "status").write_text("")
        shutil.copy(repository / "lispmob.gpg", directory / "lispmob.gpg")
        source = (repository / "lispmob.sources").read_text()
        source = source.replace("https://packages.example.org/lispmob", f"file:{repository}").replace("SUITE", suite)
        source = source.replace("/usr/share/keyrings/lispmob.gpg", str(directory / "lispmob.gpg"))
        (directory / "etc/sources.list.d/lispmob.sources").write_text(source)

    def apt(self, tool: str, *words: str) -> subprocess.CompletedProcess[str]:
        options = {
            "Dir::Etc": self.directory / "etc",
            "Dir::State::lists": self.directory / "lists",
            "Dir::State::status": self.directory / "status",
            "Dir::Cache": self.directory / "cache",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": "root",
            "Dir::Etc::trustedparts": "none",
            "Dir::Etc::trusted": "none",
        }
        given = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        return subprocess.run([tool, *given, *words], capture_output=True, text=True, timeout=60, check=False)

    def candidate(self) -> str:
        lines = self.apt("apt-cache", "policy", "lispmob").stdout.splitlines()
        return next((line.split(": ")[1] for line in lines if "Candidate" in line), "")


def test_apt_takes_what_is_signed_and_nothing_that_was_changed(tmp_path: Path) -> None:
    packages, repository = tmp_path / "dist", tmp_path / "repository"
    package(packages / "bookworm", "0.1.0")
    made = make(packages, repository, "bookworm")
    assert made.returncode == 0, made.stderr
    host = Host(tmp_path / "host", repository, "bookworm")

    updated = host.apt("apt-get", "update")
    assert updated.returncode == 0, updated.stderr
    assert "W:" not in updated.stderr
    assert host.candidate() == "0.1.0"
    fetched = host.apt("apt-get", "install", "--download-only", "--yes", "lispmob")
    assert fetched.returncode == 0, fetched.stderr

    index = repository / "dists/bookworm/main/binary-amd64/Packages"
    (index.parent / "Packages.gz").unlink()
    index.write_text(index.read_text().replace("Description: nothing", "Description: something"))
    again = Host(tmp_path / "again", repository, "bookworm")
    assert again.apt("apt-get", "update").returncode != 0
    assert again.candidate() != "0.1.0"


def test_a_release_with_another_signature_is_refused(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for directory in (mine, theirs):
        package(directory / "dist" / "bookworm", "0.1.0")
        assert make(directory / "dist", directory / "repository", "bookworm").returncode == 0
    host = Host(tmp_path / "host", mine / "repository", "bookworm")
    shutil.rmtree(mine / "repository" / "dists")
    shutil.copytree(theirs / "repository" / "dists", mine / "repository" / "dists")

    assert host.apt("apt-get", "update").returncode != 0
    assert host.candidate() == ""


def test_a_second_release_is_signed_with_the_same_key_and_has_the_new_package(tmp_path: Path) -> None:
    packages, repository = tmp_path / "dist", tmp_path / "repository"
    for suite in ("bookworm", "trixie"):
        package(packages / suite, "0.1.0")
        shutil.rmtree(packages / "lispmob-0.1.0")
    assert make(packages, repository, "bookworm", "trixie").returncode == 0
    host = Host(tmp_path / "host", repository, "trixie")
    package(packages / "trixie", "0.2.0")

    assert make(packages, repository, "bookworm", "trixie").returncode == 0

    assert host.apt("apt-get", "update").returncode == 0
    assert host.candidate() == "0.2.0"
    assert (packages / "keys").stat().st_mode & 0o777 == 0o700


def test_without_a_package_there_is_nothing_to_sign(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()

    made = make(tmp_path / "dist", tmp_path / "repository", "bookworm")

    assert made.returncode == 1
    assert "make debs" in made.stderr
