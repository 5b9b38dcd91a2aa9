// Node.js with @grpc/grpc-js: node client.js ENTRY PROTO_DIRS...
// PROTO_DIRS are the folders of thermostat/v1/thermostat.proto and of seedbed/v1/options.proto.
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [entry, ...includeDirs] = process.argv.slice(2);
const definition = protoLoader.loadSync("thermostat/v1/thermostat.proto", {
  includeDirs,
  keepCase: true,
  defaults: true,
});
const { Thermostat } = grpc.loadPackageDefinition(definition).thermostat.v1;

// Repeats what may be repeated. In Python: print(seedbed.service_config(pb.DESCRIPTOR))
const serviceConfig = readFileSync(new URL("service_config.json", import.meta.url), "utf8");
const thermostats = new Thermostat(entry, grpc.credentials.createInsecure(), {
  "grpc.service_config": serviceConfig,
});

function call(method, request, metadata = {}) {
  const deadline = Date.now() + 5000;
  const headers = new grpc.Metadata();
  for (const [name, value] of Object.entries(metadata)) headers.set(name, value);
  return new Promise((resolve, reject) =>
    thermostats[method](request, headers, { deadline }, (error, reply) =>
      error ? reject(error) : resolve(reply),
    ),
  );
}

const kitchen = { device_id: "kitchen" };

// The same key says that it is the same call, if you have to make it again.
await call("Report", { ...kitchen, celsius: 20.5 }, { "idempotency-key": "reading-1" });
console.log(JSON.stringify(await call("Get", kitchen)));

// A stream of statuses: the present one, then each change.
const watch = thermostats.Watch(kitchen);
watch.on("error", (error) => {
  if (error.code !== grpc.status.CANCELLED) throw error; // UNAVAILABLE: it moved, open it again
});
let seen = 0;
watch.on("data", async (status) => {
  console.log(JSON.stringify(status));
  seen += 1;
  if (seen === 1) await call("SetTarget", { ...kitchen, celsius: 21 });
  else watch.cancel();
});
await new Promise((resolve) => watch.on("end", resolve));

try {
  await call("Report", { ...kitchen, celsius: 1000 });
} catch (error) {
  console.log(JSON.stringify({ code: grpc.status[error.code], details: error.details }));
}
thermostats.close();
