// A foreign client: connects as the JSON in its one argument says, does the work named there, prints one line of JSON for each step.
//
//   {"url", "policy": "None", "mode": "None", "directory": DIR, "expired": false, "user", "password", "do": [STEP, …]}
//
// Steps: {"browse": id} all that can be reached from there; {"inverse": [ids]}; {"tree_attributes": id} every attribute of each node from there;
// {"read": [ids]}; {"write": {id: [type, value]}}; {"subscribe": [ids], "publishing_ms", "queue", "changes"} until so many values came;
// {"follow": {…}} counts what many items deliver for a while. Instead of "do", {"endpoints": true} asks for those.
// A status is a number, as on the wire. Where connecting fails the only line is {"refused": why}. DIR keeps the certificate.
"use strict";

const {
    AttributeIds, BrowseDirection, ClientMonitoredItemGroup, DataType, MessageSecurityMode, OPCUAClient, SecurityPolicy, TimestampsToReturn,
    UserTokenType, Variant, VariantArrayType,
} = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const fs = require("fs");
const path = require("path");

const APPLICATION_URI = "urn:test:node";
const PATIENCE_MS = 30000;
const PER_CALL = 500;
const DAY_MS = 86400e3;

const say = (what) => process.stdout.write(`${JSON.stringify(what, plain)}\n`);

// 64-bit integers come as [high, low]; numbers that JSON has not, as text.
function plain(key, value) {
    if (ArrayBuffer.isView(value)) return Array.from(value);
    return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

async function certificates(options) {
    const manager = new OPCUACertificateManager({ rootFolder: path.join(options.directory, "pki"), automaticallyAcceptUnknownCertificate: true });
    await manager.initialize();
    const file = path.join(options.directory, "client.pem");
    if (!fs.existsSync(file)) {
        await manager.createSelfSignedCertificate({
            applicationUri: APPLICATION_URI, dns: ["localhost"], ip: [], outputFile: file, subject: "/CN=node client",
            startDate: new Date(Date.now() - 20 * DAY_MS), validity: options.expired ? 10 : 30,
        });
    }
    return { clientCertificateManager: manager, certificateFile: file, privateKeyFile: manager.privateKey };
}

async function connect(options) {
    const client = OPCUAClient.create({
        applicationName: "node client", applicationUri: APPLICATION_URI, endpointMustExist: false, requestedSessionTimeout: 60000,
        connectionStrategy: { maxRetry: 0, initialDelay: 100, maxDelay: 100 }, keepSessionAlive: false,
        securityMode: MessageSecurityMode[options.mode || "None"], securityPolicy: SecurityPolicy[options.policy || "None"],
        ...(await certificates(options)),
    });
    await client.connect(options.url);
    const named = { type: UserTokenType.UserName, userName: options.user, password: options.password };
    try {
        return [client, await client.createSession(options.user ? named : { type: UserTokenType.Anonymous })];
    } catch (error) {
        await client.disconnect();
        throw error;
    }
}

// ---- the tree

async function browseTree(session, from) {
    const seen = new Map([[from, "?"]]);
    let edge = [from];
    while (edge.length > 0) {
        const batch = edge.splice(0, PER_CALL);
        const asked = batch.map((nodeId) => ({
            nodeId, browseDirection: BrowseDirection.Forward, referenceTypeId: "i=33", includeSubtypes: true, nodeClassMask: 0, resultMask: 63,
        }));
        for (let result of await session.browse(asked)) {
            for (;;) {
                if (!result.statusCode.isGood()) throw new Error(`browse: ${result.statusCode}`);
                for (const reference of result.references) {
                    const id = reference.nodeId.toString();
                    if (seen.has(id)) continue;
                    seen.set(id, reference.browseName.name);
                    edge.push(id);
                }
                if (!result.continuationPoint || result.continuationPoint.length === 0) break;
                result = await session.browseNext(result.continuationPoint, false);
            }
        }
    }
    return seen;
}

// Both ways: what a node refers to refers back to it.
async function browseInverse(session, ids) {
    const asked = ids.map((nodeId) => ({
        nodeId, browseDirection: BrowseDirection.Inverse, referenceTypeId: "i=33", includeSubtypes: true, nodeClassMask: 0, resultMask: 63,
    }));
    return (await session.browse(asked)).map((result) => result.references.map((reference) => reference.nodeId.toString()));
}

async function readAttributes(session, ids) {
    const attributes = Object.values(AttributeIds).filter((value) => typeof value === "number" && value >= 1 && value <= 27);
    const statuses = {};
    const odd = [];
    const asked = ids.flatMap((nodeId) => attributes.map((attributeId) => ({ nodeId, attributeId })));
    for (let start = 0; start < asked.length; start += 5000) {
        const part = asked.slice(start, start + 5000);
        (await session.read(part, 0)).forEach((value, at) => {
            const code = value.statusCode.value;
            statuses[code] = (statuses[code] || 0) + 1;
            if (![0, 0x80350000, 0x80320000].includes(code)) odd.push([part[at].nodeId, part[at].attributeId, code]);
        });
    }
    return { asked: asked.length, statuses, odd };
}

// ---- values

async function writeValues(session, values) {
    const asked = Object.entries(values).map(([nodeId, [dataType, value]]) => ({
        nodeId, attributeId: AttributeIds.Value,
        value: { value: new Variant({ dataType: DataType[dataType], arrayType: Array.isArray(value) ? VariantArrayType.Array : undefined, value }) },
    }));
    return (await session.write(asked)).map((status) => status.value);
}

async function readValues(session, ids) {
    const answers = await session.read(ids.map((nodeId) => ({ nodeId, attributeId: AttributeIds.Value })), 0);
    return answers.map((one) => [DataType[one.value.dataType], one.value.value, one.statusCode.value, one.sourceTimestamp]);
}

async function makeSubscription(session, step) {
    return session.createSubscription2({
        requestedPublishingInterval: step.publishing_ms || 100, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 10,
        maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 1,
    });
}

async function subscribe(session, step) {
    const subscription = await makeSubscription(session, step);
    const group = ClientMonitoredItemGroup.create(
        subscription, step.subscribe.map((nodeId) => ({ nodeId, attributeId: AttributeIds.Value })),
        { samplingInterval: 0, queueSize: step.queue || 10, discardOldest: true }, TimestampsToReturn.Both);
    const came = [];
    const done = new Promise((resolve, reject) => {
        setTimeout(() => reject(new Error(`${came.length} changes came`)), PATIENCE_MS).unref();
        group.on("changed", (item, value) => {
            came.push([item.itemToMonitor.nodeId.toString(), value.value.value, value.statusCode.value, value.sourceTimestamp]);
            if (came.length === step.subscribe.length) say({ subscribed: true });
            if (came.length >= step.changes) resolve();
        });
    });
    await done;
    await subscription.terminate();
    return came;
}

// Many items for some seconds: how many values came, whether each item's rose one by one, and what it cost this process.
async function follow(session, step) {
    const subscription = await makeSubscription(session, step);
    const last = new Map();
    let values = 0, gaps = 0;
    subscription.on("raw_notification", (notification) => {
        for (const data of notification.notificationData || []) {
            for (const item of data.monitoredItems || []) {
                const before = last.get(item.clientHandle), now = item.value.value.value;
                if (before !== undefined && now !== before + 1) gaps += 1;
                last.set(item.clientHandle, now);
                values += 1;
            }
        }
    });
    const items = [...Array(step.count).keys()].map((index) => ({ nodeId: step.pattern.replace("%d", index), attributeId: AttributeIds.Value }));
    for (let start = 0; start < items.length; start += 1000) {
        await subscription.monitorItems(
            items.slice(start, start + 1000), { samplingInterval: step.sampling_ms || 0, queueSize: step.queue || 10, discardOldest: true }, TimestampsToReturn.Both);
    }
    const until = Date.now() + PATIENCE_MS;
    while (last.size < step.count && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
    say({ subscribed: last.size });
    await new Promise((resolve) => setTimeout(resolve, step.warm_ms));
    values = gaps = 0;
    say({ begin: true });
    const cpu = process.cpuUsage(), started = Date.now();
    await new Promise((resolve) => setTimeout(resolve, step.run_ms));
    const used = process.cpuUsage(cpu);
    const result = { values, gaps, seconds: (Date.now() - started) / 1000, cpu_s: (used.user + used.system) / 1e6 };
    say({ end: true });
    await subscription.terminate();
    return result;
}

// ---- main

async function perform(session, step) {
    if (step.browse) return Object.fromEntries(await browseTree(session, step.browse));
    if (step.inverse) return browseInverse(session, step.inverse);
    if (step.tree_attributes) return readAttributes(session, [...(await browseTree(session, step.tree_attributes)).keys()]);
    if (step.write) return writeValues(session, step.write);
    if (step.read) return readValues(session, step.read);
    if (step.subscribe) return subscribe(session, step);
    if (step.follow) return follow(session, step.follow);
    throw new Error(`no such step: ${JSON.stringify(step)}`);
}

async function endpoints(options) {
    const client = OPCUAClient.create({
        applicationUri: APPLICATION_URI, endpointMustExist: false, connectionStrategy: { maxRetry: 0 }, ...(await certificates(options)),
    });
    await client.connect(options.url);
    const found = await client.getEndpoints();
    await client.disconnect();
    return found.map((one) => [one.securityPolicyUri.replace(/.*#/, ""), MessageSecurityMode[one.securityMode]]);
}

async function main(options) {
    if (options.endpoints) return say({ result: await endpoints(options) });
    let client, session;
    try {
        [client, session] = await connect(options);
    } catch (error) {
        return say({ refused: error.message });
    }
    for (const step of options.do) say({ result: await perform(session, step) });
    await session.close();
    await client.disconnect();
}

main(JSON.parse(process.argv[2])).then(
    () => process.stdout.write("", () => process.exit(0)), // once all of it is written
    (error) => { process.stderr.write(`${error.stack}\n`); process.exit(1); });
