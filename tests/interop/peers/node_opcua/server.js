// A foreign server to measure against: COUNT variables `ns=2;s=plant.many.n0` … on 127.0.0.1, as JSON in its one argument says.
//
//   {"directory": DIR, "count": COUNT, "period_ms": 100}
//
// Says {"url"} when it serves. Each line on its standard input is answered with one: "flood ROUNDS" changes all variables so many times, a period
// each, and answers when it is done, with the seconds it took; "cpu" tells the seconds of CPU of this process.
"use strict";

const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { DataType, StatusCodes } = require("node-opcua-client");
const { OPCUAServer } = require("node-opcua-server");
const path = require("path");
const readline = require("readline");

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

async function make(options) {
    const manager = new OPCUACertificateManager({ rootFolder: path.join(options.directory, "pki"), automaticallyAcceptUnknownCertificate: true });
    await manager.initialize();
    const server = new OPCUAServer({
        hostname: "127.0.0.1", port: 0, serverCertificateManager: manager, allowAnonymous: true,
        serverCapabilities: {
            maxMonitoredItems: 1000000, maxMonitoredItemsPerSubscription: 1000000, maxMonitoredItemsPerCall: 100000, minSupportedSampleRate: 10,
        },
    });
    await server.initialize();
    const space = server.engine.addressSpace;
    space.registerNamespace("urn:bifrost:tags"); // 2: the server's own is 1
    const namespace = space.getNamespace("urn:bifrost:tags");
    const parent = namespace.addFolder(space.rootFolder.objects, { browseName: "many" });
    const variables = [];
    for (let index = 0; index < options.count; index += 1) {
        const variable = namespace.addVariable({
            componentOf: parent, browseName: `n${index}`, nodeId: `s=plant.many.n${index}`, dataType: DataType.Double, minimumSamplingInterval: 0,
        });
        variable.setValueFromSource({ dataType: DataType.Double, value: 0 });
        variables.push(variable);
    }
    await server.start();
    return [server, variables];
}

let round = 0;

async function flood(variables, rounds, periodMs) {
    const started = Date.now();
    for (let number = 1; number <= rounds; number += 1) {
        round += 1;
        const now = new Date();
        for (const variable of variables) variable.setValueFromSource({ dataType: DataType.Double, value: round }, StatusCodes.Good, now);
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, started + number * periodMs - Date.now())));
    }
    return (Date.now() - started) / 1000;
}

async function main(options) {
    const [server, variables] = await make(options);
    say({ url: `opc.tcp://127.0.0.1:${server.endpoints[0].port}` });
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [command, rounds] = line.split(" ");
        if (command === "flood") flood(variables, Number(rounds), options.period_ms).then((seconds) => say({ flooded: seconds }));
        else say({ cpu_s: (process.cpuUsage().user + process.cpuUsage().system) / 1e6 });
    }
    await server.shutdown(0);
}

main(JSON.parse(process.argv[2])).then(
    () => process.stdout.write("", () => process.exit(0)),  // after what is still on its way
    (error) => { process.stderr.write(`${error.stack}\n`); process.exit(1); });
