"""Writes that wait for their device when their client wants them no more, or is gone: answered, told, and nothing of them stays.

A write that went to the device is not undone; one that still waits in the gateway's queue is taken back. Both are in the audit log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal

import pytest

from tests.interop.opcua_bench import add_users, client, compiled_only, face, node, run, until
from tests.interop.test_gateway_process import Plant, wait_for
from tests.interop.test_opcua_gateway import OpcUaGateway

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing
from asyncua.ua.ua_binary import struct_from_binary  # isort: skip  # likewise
from asyncua.ua.uaerrors import UaError, UaStatusCodeError  # isort: skip  # likewise

pytestmark = [pytest.mark.interop, compiled_only]

BAD_REQUEST_CANCELLED_BY_CLIENT = 0x802C0000
LEVEL, ARRAY = "plant.level", "plant.types.int16x4"


@pytest.fixture
def server(tmp_path):
    add_users(tmp_path)
    with face(tmp_path, "--stack", "open62541") as process:
        process.obey(writes={"delay_s": 3600})
        yield process


async def begin_write(connected, values):
    """Asks for writes in one request; gives the handle of the request, and a task with the result codes."""
    ids = [node(connected, name).nodeid for name in values]
    task = asyncio.create_task(connected.uaclient.write_attributes(ids, list(values.values())))
    await asyncio.sleep(0)  # the request is sent when the task begins
    return connected.uaclient.protocol._request_handle, task


async def cancel(connected, handle) -> int:
    """How many requests were cancelled."""
    request = ua.CancelRequest()
    request.RequestHeader.AuthenticationToken = connected.uaclient.session.authentication_token
    request.Parameters.RequestHandle = handle
    data = await connected.uaclient.protocol.send_request(request)
    response = struct_from_binary(ua.CancelResponse, data)
    response.ResponseHeader.ServiceResult.check()
    return int(response.Parameters.CancelCount)


def parked(server) -> int:
    return int(server.obey(counters=True)["writes_parked"])


def abandoned(server):
    return [(who, details) for name, who, details in server.obey(reports=True) if name == "write_abandoned"]


def test_cancelled_writes_are_answered_and_others_go_on_waiting(server):
    async def work():
        async with client(server.url) as connected:
            level, array = ua.DataValue(1.0), ua.DataValue(ua.Variant([1, 2, 3, 4], ua.VariantType.Int16))
            handle, cancelled = await begin_write(connected, {LEVEL: level, ARRAY: array})
            await until(lambda: parked(server) == 2)
            _, waits = await begin_write(connected, {LEVEL: level})
            await until(lambda: parked(server) == 3)
            assert await cancel(connected, handle) == 1
            with pytest.raises(UaStatusCodeError) as error:
                await cancelled
            assert error.value.code == BAD_REQUEST_CANCELLED_BY_CLIENT
            assert (parked(server), waits.done()) == (1, False)
            assert await cancel(connected, handle) == 0  # there is none any more
            told = abandoned(server)
            assert [details["tag"] for _, details in told] == [LEVEL, ARRAY]
            assert {details["reason"] for _, details in told} == {"BadRequestCancelledByClient"}
            assert {details["device"] for _, details in told} == {"may have been written: this is not undone"}
            assert all(who.startswith("opcua:operator 127.0.0.1") for who, _ in told)
            waits.cancel()

    run(work())


def test_nobody_cancels_what_another_session_asked_for(server):
    async def work():
        async with client(server.url) as connected, client(server.url) as other:
            handle, waits = await begin_write(connected, {LEVEL: ua.DataValue(1.0)})
            await until(lambda: parked(server) == 1)
            assert await cancel(other, handle) == 0
            assert parked(server) == 1
            waits.cancel()

    run(work())


def test_cancelled_publish_is_answered_and_the_subscription_goes_on(server):
    async def work():
        async with client(server.url) as connected:
            parameters = ua.CreateSubscriptionParameters(60_000, 10_000, 3_000, 1_000, True, 0)
            request = ua.CreateSubscriptionRequest(Parameters=parameters)
            request.RequestHeader.AuthenticationToken = connected.uaclient.session.authentication_token
            await connected.uaclient.protocol.send_request(request)
            tasks, handles = [], []
            for _ in range(3):
                tasks.append(asyncio.create_task(connected.uaclient.publish([])))
                await asyncio.sleep(0)
                handles.append(connected.uaclient.protocol._request_handle)
            assert await cancel(connected, handles[1]) == 1
            with pytest.raises(UaStatusCodeError) as error:
                await tasks[1]
            assert error.value.code == BAD_REQUEST_CANCELLED_BY_CLIENT
            for task in tasks:
                task.cancel()

    run(work())


@pytest.mark.parametrize("manner", ["close session", "cut"])
@pytest.mark.filterwarnings("ignore")  # what asyncua leaves behind when its connection is cut
def test_clients_that_leave_leave_no_write_behind(server, manner):
    async def work():
        before = server.obey(counters=True)["memory_bytes"]
        for _ in range(5):
            with contextlib.suppress(UaError, ConnectionError, TimeoutError):
                async with client(server.url, timeout_s=2) as connected:
                    values = {LEVEL: ua.DataValue(1.0)}
                    waiting = [(await begin_write(connected, values))[1] for _ in range(4)]
                    await until(lambda: parked(server) == 4)
                    if manner == "cut":
                        connected.uaclient.protocol.transport.abort()
            await until(lambda: parked(server) == 0)
            await asyncio.gather(*waiting, return_exceptions=True)
        reasons = {details["reason"] for _, details in abandoned(server)}
        assert reasons == {"BadSecureChannelClosed" if manner == "cut" else "BadSessionClosed"}
        assert len(abandoned(server)) == 20
        if manner != "cut":  # a session that was cut lives on for its client to come back
            await until(lambda: server.obey(counters=True)["sessions"] == 0)
            assert server.obey(counters=True)["memory_bytes"] - before < 16 << 10

    run(work())


def test_gateway_takes_back_what_waits_and_says_what_may_be_done(tmp_path):
    plant = Plant()
    plant.start()
    gateway = OpcUaGateway(tmp_path, plant.port)
    add_users(gateway.data_dir)
    try:
        gateway.start()
        wait_for(lambda: gateway.quality("plant.first") == "Good", gateway.log)
        wait_for(lambda: bool(gateway.url), gateway.log)

        async def work():
            async with client(gateway.url, timeout_s=30) as connected:
                assert plant.process is not None
                os.kill(plant.process.pid, signal.SIGSTOP)
                handle, under_way = await begin_write(connected, {"plant.set.point": ua.DataValue(100.0)})
                audit = gateway.data_dir / "state" / "audit.jsonl"
                await until(lambda: '"write_sent"' in audit.read_text())
                handle, waits = await begin_write(connected, {"plant.set.point": ua.DataValue(200.0)})
                assert await cancel(connected, handle) == 1
                with pytest.raises(UaStatusCodeError):
                    await waits
                assert await cancel(connected, handle - 2) + await cancel(connected, handle - 1) == 1
                with pytest.raises(UaStatusCodeError):
                    await under_way
                os.kill(plant.process.pid, signal.SIGCONT)
                await until(lambda: '"write_done"' in audit.read_text())
                return [json.loads(line) for line in audit.read_text().splitlines()]

        records = asyncio.run(asyncio.wait_for(work(), 60))
        told = [(one["tag"], one["device"]) for one in records if one["event"] == "opcua_write_abandoned"]
        assert sorted(told) == [
            ("plant.set.point", "may have been written: this is not undone"),
            ("plant.set.point", "was not written"),
        ]
        refused = [(one["value"], one["result"]) for one in records if one["event"] == "write_refused"]
        assert refused == [(200.0, "BadRequestCancelledByClient")]
        assert [one["tag"] for one in records if one["event"] == "write_sent"] == ["plant.set.point"]
    finally:
        gateway.kill()
        plant.kill()
