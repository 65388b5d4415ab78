"""Who gets in: every endpoint and policy, certificates that are trusted, unknown or expired, users and passwords.

The client's certificates are made by another implementation (the package cryptography), the client is asyncua.
"""

from __future__ import annotations

import asyncio
import shutil

import pytest

from bifrost.opcua.users import Users, make_user
from tests.interop.opcua_bench import (
    POLICIES,
    STACKS,
    add_users,
    client,
    face,
    make_certificate,
    node,
    run,
    secure_client,
    until,
)

from asyncua import Client, ua  # isort: skip  # skipped by the line above where it is missing
from asyncua.ua.uaerrors import UaError, UaStatusCodeError  # isort: skip  # likewise

pytestmark = pytest.mark.interop

MODES = [ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt]
REFUSALS = {0x80130000, 0x801A0000, 0x80140000, 0x80150000, 0x80870000}  # SecurityChecksFailed, CertificateUntrusted, …


@pytest.fixture(scope="module", params=STACKS)
def stack(request):
    return request.param


@pytest.fixture(scope="module")
def server(stack, tmp_path_factory):
    directory = tmp_path_factory.mktemp(stack)
    add_users(directory)
    with face(directory, "--stack", stack) as process:
        process.put("plant.level", 21.5)
        yield process


@pytest.fixture(scope="module")
def trusted(server, tmp_path_factory):
    certificate = make_certificate(tmp_path_factory.mktemp("trusted"), "trusted")
    shutil.copy(certificate[0], server.directory / "pki" / "trusted")
    return certificate


async def is_refused(url, certificate):
    """Whether connecting fails; gives the status code if the server said one."""
    try:
        async with secure_client(url, "Basic256Sha256", MODES[1], certificate):
            return None
    except UaStatusCodeError as error:
        return error.code
    except (UaError, ConnectionError, TimeoutError, OSError):
        return 0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mode", MODES, ids=["sign", "sign-and-encrypt"])
def test_trusted_client_reads_and_writes_on_every_endpoint(server, trusted, policy, mode):
    async def work():
        async with secure_client(server.url, policy, mode, trusted) as connected:
            assert await node(connected, "plant.level").read_value() == 21.5
            await node(connected, "plant.level").write_value(1.0, ua.VariantType.Double)

    run(work())


def test_endpoints_are_those_that_are_configured(server):
    async def work():
        endpoints = await Client(server.url).connect_and_get_server_endpoints()
        offered = {(one.SecurityPolicyUri.rpartition("#")[2], one.SecurityMode.name) for one in endpoints}
        expected = {("None", "None_")}
        expected |= {(policy, mode.name) for policy in POLICIES for mode in MODES}
        assert offered == expected
        assert len({one.ServerCertificate for one in endpoints if one.ServerCertificate}) == 1
        assert all(one.Server.ApplicationUri.endswith(":bifrost:bench") for one in endpoints)

    run(work())


def test_unknown_certificate_is_rejected_kept_and_trusted_by_moving_it(server, tmp_path):
    certificate = make_certificate(tmp_path, "unknown")
    rejected = server.directory / "pki" / "rejected"

    async def work():
        code = await is_refused(server.url, certificate)
        assert code is not None
        assert code in REFUSALS | {0}
        await until(lambda: any(path.read_bytes() == certificate[0].read_bytes() for path in rejected.iterdir()))
        reports = [report for report in server.obey(reports=True) if report[0] == "certificate_rejected"]
        assert reports
        assert "unknown" in reports[-1][2]["subject"]
        (path,) = (path for path in rejected.iterdir() if path.read_bytes() == certificate[0].read_bytes())
        path.rename(server.directory / "pki" / "trusted" / path.name)
        assert await is_refused(server.url, certificate) is None

    run(work())


def test_expired_certificate_is_refused_though_trusted(server, tmp_path):
    certificate = make_certificate(tmp_path, "expired", days=5, age_days=10)
    shutil.copy(certificate[0], server.directory / "pki" / "trusted")

    async def work():
        assert await is_refused(server.url, certificate) is not None

    run(work())


def test_certificate_trusted_no_longer_is_refused(server, tmp_path):
    certificate = make_certificate(tmp_path, "former")
    place = server.directory / "pki" / "trusted" / "former.der"
    shutil.copy(certificate[0], place)

    async def work():
        assert await is_refused(server.url, certificate) is None
        place.unlink()
        assert await is_refused(server.url, certificate) is not None

    run(work())


def test_rejected_folder_that_can_not_be_written_changes_no_answer(server, trusted, tmp_path):
    """A full disk does the same; root writes everywhere, so here it is a file."""
    unknown = make_certificate(tmp_path, "unkept")
    rejected = server.directory / "pki" / "rejected"
    rejected.rename(server.directory / "away")
    rejected.write_text("no folder")

    async def work():
        assert await is_refused(server.url, unknown) in REFUSALS
        assert await is_refused(server.url, trusted) is None
        subjects = [report[2]["subject"] for report in server.obey(reports=True) if report[0] == "certificate_rejected"]
        assert "unkept" in subjects[-1]

    try:
        run(work())
    finally:
        rejected.unlink()
        (server.directory / "away").rename(rejected)


def test_damaged_file_of_users_lets_nobody_new_in_and_stops_nothing(server):
    users = server.directory / "pki" / "users.toml"
    whole = users.read_bytes()
    users.write_text("[[user]\n")

    async def work():
        async with client(server.url, None) as connected:
            assert await node(connected, "plant.level").read_value() == 21.5
        with pytest.raises(UaStatusCodeError) as error:
            async with client(server.url, "operator", "wrong password"):
                pass
        assert error.value.code in (0x801F0000, 0x80210000)

    try:
        run(work())
    finally:
        users.write_bytes(whole)


def test_file_that_is_no_certificate_in_the_folder_changes_nothing(server, trusted):
    (server.directory / "pki" / "trusted" / "notes.txt").write_text("ask Bob")

    async def work():
        assert await is_refused(server.url, trusted) is None

    run(work())


@pytest.mark.parametrize("policy", POLICIES)
def test_wrong_password_is_refused_on_every_policy(server, trusted, policy):
    async def work():
        with pytest.raises(UaStatusCodeError) as error:
            async with secure_client(server.url, policy, MODES[1], trusted, "operator", "wrong password"):
                pass
        assert error.value.code in (0x801F0000, 0x80210000)

    run(work())


def test_user_that_is_added_can_log_in_within_seconds(server):
    Users(server.directory / "pki" / "users.toml", 10).add(make_user("late", "late password"))

    async def work():
        deadline = asyncio.get_running_loop().time() + 10
        while True:
            try:
                async with client(server.url, "late") as connected:
                    assert await node(connected, "plant.level").read_value() == 21.5
                    return
            except UaStatusCodeError:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.5)

    run(work())
