"""The sources of the OPC UA module: found, fetched and checked, and every failure is one clear sentence.

No test downloads anything: archives are made here, and apt is pointed at a folder that does not exist.
"""

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from csrc.builder import BuildError, amalgamation, apt, vendor

QUIET = lambda _: None  # noqa: E731 (a Say that says nothing)


def make_archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A vendor folder with one good archive, and a sources.toml that pins it."""
    folder = tmp_path / "vendor"
    folder.mkdir()
    digest = make_archive(folder / "a.tar.gz", {"a-1/a.c": "int a;\n"})
    releases = [vendor.Release("a 1", ("sid",), {"a": "1"}, (vendor.Archive("a.tar.gz", digest, "a"),))]
    monkeypatch.setattr(vendor, "read_sources", lambda: releases)
    monkeypatch.setattr(vendor, "DOWNLOADS", tmp_path / "downloads")
    monkeypatch.delenv("BIFROST_VENDOR_DIR", raising=False)
    return folder


def failure(say=QUIET):
    with pytest.raises(BuildError) as caught:
        vendor.obtain(say)
    text = str(caught.value)
    assert text.endswith((".", ").")), text
    assert "\n" not in text
    return text


def test_sources_pin_the_preferred_release_first():
    first, second = vendor.read_sources()
    assert first.packages == {"open62541": "1.4.18", "mbedtls": "3.6.7"}
    assert second.packages["open62541"] == "1.4.11.1"
    for release in (first, second):
        assert all(len(bytes.fromhex(archive.sha256)) == 32 for archive in release.archives)
        assert [archive.folder for archive in release.archives] == ["open62541", "open62541/deps/ua-nodeset", "mbedtls"]


def test_folder_given_is_used(place, monkeypatch):
    monkeypatch.setenv("BIFROST_VENDOR_DIR", str(place))
    assert vendor.obtain(QUIET).place == place


def test_downloads_of_an_earlier_build_are_used(place, monkeypatch):
    monkeypatch.setattr(vendor, "DOWNLOADS", place)
    assert vendor.is_downloaded()
    assert vendor.obtain(QUIET).place == place


def test_wrong_checksum_is_one_sentence_with_both_sums(place, monkeypatch):
    monkeypatch.setenv("BIFROST_VENDOR_DIR", str(place))
    with (place / "a.tar.gz").open("ab") as file:
        file.write(b"!")
    assert "a.tar.gz has SHA-256" in failure()
    assert "sources.toml pins" in failure()


def test_incomplete_folder_is_one_sentence_and_nothing_is_downloaded(place, monkeypatch):
    monkeypatch.setenv("BIFROST_VENDOR_DIR", str(place))
    (place / "a.tar.gz").unlink()
    monkeypatch.setattr(vendor, "SourceDownloader", None)
    assert failure().endswith("lacks the sources (a.tar.gz).")


def test_machine_without_apt_is_one_sentence(place, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "by apt, which is not here" in failure()


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is what is tested")
def test_apt_without_a_debian_mirror_is_one_sentence(place, monkeypatch):
    monkeypatch.setattr(apt, "find_mirrors", list)
    assert "apt has no Debian mirror" in failure()


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is what is tested")
def test_mirror_out_of_reach_is_one_sentence(place, monkeypatch):
    monkeypatch.setattr(apt, "find_mirrors", lambda: [apt.Mirror("http://127.0.0.1:9/debian", "")])
    said: list[str] = []
    assert "apt can't reach its mirror" in failure(said.append)
    assert said == ["asking apt for the sources of a in Debian sid"]


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is what is tested")
def test_mirror_that_moved_on_is_one_sentence(place, monkeypatch, tmp_path):
    index = tmp_path / "mirror" / "dists" / "sid" / "main" / "source"
    index.mkdir(parents=True)
    (index / "Sources").write_text("Package: a\nVersion: 2-1\nDirectory: pool\n")
    digest = hashlib.sha256((index / "Sources").read_bytes()).hexdigest()
    size = (index / "Sources").stat().st_size
    (index.parent.parent / "Release").write_text(
        f"Suite: sid\nCodename: sid\nComponents: main\nSHA256:\n {digest} {size} main/source/Sources\n"
    )
    monkeypatch.setattr(apt, "find_mirrors", lambda: [apt.Mirror(f"file:{tmp_path}/mirror", "")])
    assert "apt's mirror carries neither a 1." in failure()


def test_mirrors_are_read_from_both_formats(tmp_path):
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/keys/one.gpg] http://one.example/debian bookworm main contrib\n"
        "deb http://one.example/debian-security bookworm-security main\n"
        "deb http://tools.example/apt stable-tools main\n"
    )
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "two.sources").write_text(
        "# the mirror\nTypes: deb\nURIs: http://two.example/debian\n http://three.example/debian\n"
        "Suites: trixie trixie-updates\nComponents: main\nSigned-By: /keys/two.gpg\n\n"
        "Types: deb\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\nEnabled: no\n"
    )
    assert apt.find_mirrors(tmp_path / "sources.list", parts) == [
        apt.Mirror("http://one.example/debian", "/keys/one.gpg"),
        apt.Mirror("http://two.example/debian", "/keys/two.gpg"),
        apt.Mirror("http://three.example/debian", "/keys/two.gpg"),
    ]


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="apt is what is tested")
def test_apt_is_given_no_path_of_the_machine_to_write(tmp_path):
    environment = apt.write_configuration(tmp_path, "deb-src http://one.example/debian sid main\n")
    text = Path(environment["APT_CONFIG"]).read_text()
    folders = [line.split('"')[1] for line in text.splitlines() if line.startswith("Dir::")]
    assert all(folder == "/dev/null" or folder.startswith(str(tmp_path)) for folder in folders)
    assert "Post-Invoke" not in text


def test_archive_is_unpacked_without_its_top_folder_over_a_placeholder(tmp_path):
    make_archive(tmp_path / "a.tar.gz", {"a-1/deps/b/README": "empty", "a-1/a.c": "int a;"})
    make_archive(tmp_path / "b.tar.gz", {"b-2/b.xml": "<b/>"})
    amalgamation.unpack(tmp_path / "a.tar.gz", tmp_path / "out" / "a")
    amalgamation.unpack(tmp_path / "b.tar.gz", tmp_path / "out" / "a" / "deps" / "b")
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"a/a.c", "a/deps/b/b.xml"}


@pytest.mark.parametrize("tool", ["patch", "git"])
def test_patch_file_is_applied_or_refused_whole(tmp_path, monkeypatch, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    only = tmp_path / "bin"
    only.mkdir()
    (only / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(only))
    sources = tmp_path / "sources"
    (sources / "a").mkdir(parents=True)
    (sources / "a" / "a.c").write_text("int a = 1;\n")
    patch = tmp_path / "a.patch"
    patch.write_text("why\n\n--- x/a/a.c\n+++ y/a/a.c\n@@ -1 +1 @@\n-int a = 1;\n+int a = 2;\n")
    amalgamation.apply_patch(patch, sources)
    assert (sources / "a" / "a.c").read_text() == "int a = 2;\n"
    with pytest.raises(BuildError, match=r"a\.patch does not fit"):
        amalgamation.apply_patch(patch, sources)


def test_amalgamation_is_cut_at_namespace_0_and_nothing_is_lost():
    mark = '/**** amalgamated original file "{}" ****/\n'
    parts = [mark.format(name) for name in ("/a.c", "/gen/open62541/namespace0_generated.c", "/b.c")]
    library, namespace0 = amalgamation.cut("head\n" + parts[0] + "a\n" + parts[1] + "n\n" + parts[2] + "b\n")
    assert library == "head\n" + parts[0] + "a\n" + parts[2] + "b\n"
    assert namespace0 == '#include "open62541.h"\n' + parts[1] + "n\n"


def test_amalgamation_without_the_marker_is_refused():
    with pytest.raises(BuildError, match="no namespace0_generated"):
        amalgamation.cut("int a;\n")


def test_missing_tool_is_one_sentence(monkeypatch):
    monkeypatch.setattr(amalgamation, "_which", lambda _: None)
    with pytest.raises(BuildError, match=r"^no OPC UA module: cmake is missing \(pip install cmake\)\.$"):
        amalgamation.find_tool("cmake")
