// What Microsoft's JavaScript SDK does with a server: workspaces, clusters, an
// instance, sizes, usages, quotas, jobs, and what is refused.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const { setTimeout: sleep } = require("node:timers/promises");
const { AzureMachineLearningWorkspaces } = require("@azure/arm-machinelearning");
const { EnvironmentCredential } = require("@azure/identity");

const place = JSON.parse(fs.readFileSync("config.json", "utf8"));
const [group, ws] = [place.resource_group, place.workspace_name];
const own = process.env.AZURE_AUTHORITY_HOST; // a cloud of the server's own; else Azure's names
const credential = new EnvironmentCredential(own ? { authorityHost: own, disableInstanceDiscovery: true } : {});
const options = own ? { endpoint: own, credentialScopes: [own + "/.default"] } : {};
const fast = { updateIntervalInMs: 1000 };

async function all(pages) {
  const list = [];
  for await (const item of pages) list.push(item);
  return list;
}

async function until(what, look) {
  for (let i = 0; i < 600; i++) {
    const found = await look();
    if (found) return found;
    await sleep(100);
  }
  assert.fail(`${what} did not come true`);
}

async function refused(what, promise, status, code) {
  await assert.rejects(promise, (e) => {
    assert.equal(`${e.statusCode} ${e.code}`, `${status} ${code}`, `${what}: ${e.message}`);
    return true;
  });
}

async function life(version) {
  const c = new AzureMachineLearningWorkspaces(credential, place.subscription_id, { ...options, ...(version ? { apiVersion: version } : {}) });

  const home = await c.workspaces.get(group, ws);
  assert.ok((await all(c.workspaces.listBySubscription())).some((w) => w.id === home.id));
  const made = await c.workspaces.beginCreateOrUpdateAndWait(group, "js-ws", { location: "eastus", identity: { type: "SystemAssigned" }, friendlyName: "made by JS" }, fast);
  assert.equal(made.friendlyName, "made by JS");
  await c.workspaces.beginDeleteAndWait(group, "js-ws", fast);
  await refused("a workspace that was deleted", c.workspaces.get(group, "js-ws"), 404, "ResourceNotFound");

  const name = "js-cpu";
  const compute = c.computeOperations;
  const scaleSettings = { minNodeCount: 1, maxNodeCount: 2, nodeIdleTimeBeforeScaleDown: "PT2M" };
  const cluster = await compute.beginCreateOrUpdateAndWait(group, ws, name, {
    location: "westus2", tags: { who: "js" },
    properties: { computeType: "AmlCompute", properties: { vmSize: "Standard_DS3_v2", vmPriority: "Dedicated", scaleSettings } },
  }, fast);
  assert.equal(cluster.properties.properties.vmSize, "STANDARD_DS3_V2");
  assert.equal(cluster.properties.provisioningState, "Succeeded");
  await until("a node stands idle", async () => (await all(compute.listNodes(group, ws, name)))[0]?.nodeState === "idle");
  const updated = await compute.beginUpdateAndWait(group, ws, name, { properties: { scaleSettings: { ...scaleSettings, minNodeCount: 0, maxNodeCount: 4 } } }, fast);
  assert.equal(updated.properties.properties.scaleSettings.maxNodeCount, 4);
  assert.deepEqual((await all(compute.list(group, ws))).map((x) => x.name), [name]);

  const ci = "js-ci";
  const state = async () => (await compute.get(group, ws, ci)).properties.properties.state;
  await compute.beginCreateOrUpdateAndWait(group, ws, ci, { properties: { computeType: "ComputeInstance", properties: { vmSize: "Standard_DS3_v2" } } }, fast);
  assert.equal(await state(), "Running");
  await compute.beginStopAndWait(group, ws, ci, fast);
  assert.equal(await state(), "Stopped");
  await compute.beginStartAndWait(group, ws, ci, fast);
  await compute.beginRestartAndWait(group, ws, ci, fast);
  assert.equal(await state(), "Running");
  await compute.beginDeleteAndWait(group, ws, ci, "Delete", fast);

  const sizes = await c.virtualMachineSizes.list("westus2");
  assert.equal(sizes.value.find((s) => s.name === "Standard_DS3_v2").vCPUs, 4);
  assert.ok((await all(c.usages.list("westus2"))).length > 3);
  const id = `${home.id}/quotas/standardDSv2Family`;
  const quota = await c.quotas.update("westus2", { value: [{ id, limit: 40, unit: "Count", type: "Microsoft.MachineLearningServices/workspaces/quotas" }] });
  assert.equal(quota.value[0].status, "Success");
  assert.ok((await all(c.quotas.list("westus2"))).some((q) => q.limit === 40));

  const env = { properties: { image: "mcr.microsoft.com/azureml/base" } };
  const { id: environmentId } = await c.environmentVersions.createOrUpdate(group, ws, "plain", "1", env);
  const job = (command) => ({ properties: { jobType: "Command", command, environmentId, computeId: cluster.id, experimentName: "from-js", environmentVariables: { WHO: "js" } } });
  const status = async (j) => (await c.jobs.get(group, ws, j)).properties.status;
  await c.jobs.createOrUpdate(group, ws, "js-job-1", job('test "$WHO" = js'));
  await until("the job completes", async () => {
    const is = await status("js-job-1");
    assert.notEqual(is, "Failed");
    return is === "Completed";
  });
  await c.jobs.createOrUpdate(group, ws, "js-job-2", job("sleep 600"));
  await until("the job runs", async () => (await status("js-job-2")) === "Running");
  await c.jobs.beginCancelAndWait(group, ws, "js-job-2", fast);
  await until("the job is cancelled", async () => (await status("js-job-2")) === "Canceled");
  assert.ok((await all(c.jobs.list(group, ws))).length >= 2);

  await refused("another size", compute.beginCreateOrUpdate(group, ws, name, { properties: { computeType: "AmlCompute", properties: { vmSize: "Standard_NC6", scaleSettings } } }), 400, "PropertyChangeNotAllowed");
  await refused("another type", compute.beginCreateOrUpdate(group, ws, "js-aks", { properties: { computeType: "AKS" } }), 400, "NotImplemented");
  await refused("starting a cluster", compute.beginStart(group, ws, name), 400, "UserError");
  await compute.beginDeleteAndWait(group, ws, name, "Delete", fast);
  await refused("a cluster that was deleted", compute.get(group, ws, name), 404, "ResourceNotFound");
}

// The SDK's own api-version is 2022-10-01.
life(own ? "2024-04-01" : "")
  .then(() => console.log("done"))
  .catch((e) => {
    console.error(e);
    process.exit(1);
  });
