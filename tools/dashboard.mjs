// Tries every query of the dashboards, of their variables and of the alerts on a real run: a Prometheus that scrapes a broker
// and a coordinator of the built binary, which run jobs that end well, fail, and are tried again, and a market of one node
// that runs a job. Ends with 1 where a query is an error, has no series, or (queue) none of broker or coordinator.
// usage: node tools/dashboard.mjs BINARY FOLDER_WITH_PROMETHEUS
import { spawn, execFileSync } from "node:child_process";
import { createServer } from "node:net";
import { mkdtempSync, readFileSync, rmSync, writeFileSync, copyFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const top = dirname(dirname(fileURLToPath(import.meta.url)));
const [binary, programs] = process.argv.slice(2).map((it) => resolve(it));
const deploy = join(top, "deploy");
const folder = mkdtempSync(join(tmpdir(), "sandrun-dashboard-"));
const children = [];
const JOBS = ["sandrun-broker", "sandrun-coordinator"];

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function until(what, seconds, look) {
  const deadline = Date.now() + 1000 * seconds;
  for (;;) {
    const found = await look().catch(() => undefined);
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await pause(0.1);
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

// Starts a service of ours in a home of its own; its address, or the line that says that it is ready.
function service(name, args, more = {}) {
  const own = { SANDRUN_HOME: join(folder, name), SANDRUN_CONFIG: "/dev/null", RUST_LOG: "error" };
  const env = { ...process.env, ...own, ...more };
  const child = spawn(binary, args, { env, cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return new Promise((ready, fail) => {
    let said = "";
    child.stdout.on("data", (text) => {
      said += text;
      const found = said.match(/listening on (\S+)|(ready: .*)/);
      if (found) ready(found[1] ?? found[2]);
    });
    child.on("exit", (code) => fail(new Error(`${name} ended with ${code}`)));
  });
}

async function call(url, body, method) {
  const init = body === undefined ? { method } : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(url, init);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${text}`);
  return JSON.parse(text);
}

async function start() {
  const broker = await service("broker", ["broker", "--port", "0"]);
  const key = execFileSync(binary, ["sandrun", "--generate-key", join(folder, "worker.pem")], { encoding: "utf8" });
  const worker = key.match(/Worker ID: (\S+)/)[1];
  const signed = ["--worker-key", join(folder, "worker.pem")];
  const executor = await service("executor", ["sandrun", "--port", "0", "--no-quota", ...signed]);
  writeFileSync(join(folder, "workers.json"), JSON.stringify([{ worker_id: worker, endpoint: executor }]));
  const coordinator = await service("coordinator", ["coordinator", "--port", "0", "--workers", "workers.json"]);
  return { broker, executor, coordinator };
}

// A market with a node of ours, whose agent shows its numbers; its addresses.
async function market(executor) {
  const home = { SANDRUN_HOME: join(folder, "testnet"), SANDRUN_CONFIG: "/dev/null" };
  const child = spawn(binary, ["testnet", "--nodes", "0", "--free-ports"], {
    env: { ...process.env, ...home, RUST_LOG: "error" },
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  children.push(child);
  let said = "";
  child.stderr.on("data", (text) => (said += text));
  await until("the market", 120, async () => {
    if (child.exitCode !== null) throw new Error(`the market ended: ${said}`);
    return said.includes("Ctrl-C");
  });
  const names = ["SANDRUN_KEY", "SANDRUN_RPC", "SANDRUN_IPFS_API", "SANDRUN_POOL"];
  const env = Object.fromEntries(names.map((name) => [name, said.match(new RegExp(`${name}=(\\S+)`))[1]]));
  const key = join(folder, "node.key");
  const account = execFileSync(binary, ["keys", "new", key], { encoding: "utf8" }).match(/0x[0-9a-fA-F]{40}/)[0];
  const params = [account, "0x8ac7230489e800000"];
  const coin = await fetch(env.SANDRUN_RPC, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "anvil_setBalance", params }),
  });
  if (!coin.ok) throw new Error(`anvil_setBalance: ${coin.status}`);
  const port = `${await freePort()}`;
  const agent = ["agent", "--key", key, "--stake", "10", "--sandrun-url", executor, "--metrics-port", port];
  await service("agent", agent, { ...home, ...env });
  return {
    agent: `http://127.0.0.1:${port}`,
    content: env.SANDRUN_IPFS_API,
    pool: env.SANDRUN_POOL,
    env: { ...process.env, ...home, ...env },
  };
}

async function prometheus({ broker, coordinator, executor, node, agent, content, pool }) {
  // the example that is shipped, with our addresses and a shorter interval
  const services = {
    "localhost:8000": broker,
    "localhost:9000": coordinator,
    "localhost:8443": executor,
    "localhost:9101": agent,
    "localhost:9102": node,
    "localhost:9545": pool,
    "localhost:5001": content,
  };
  const hosts = Object.fromEntries(Object.entries(services).map(([usual, url]) => [usual, new URL(url).host]));
  let config = readFileSync(join(deploy, "prometheus/prometheus.yml"), "utf8");
  for (const [from, to] of Object.entries(hosts)) {
    if (!config.includes(from)) throw new Error(`prometheus.yml does not name ${from}`);
    config = config.replace(from, to);
  }
  config = config.replaceAll("_interval: 15s", "_interval: 1s");
  writeFileSync(join(folder, "prometheus.yml"), config);
  for (const rules of ["alerts.yml", "alerts-market.yml"]) {
    copyFileSync(join(deploy, "prometheus", rules), join(folder, rules));
  }
  execFileSync(join(programs, "promtool"), ["check", "config", join(folder, "prometheus.yml")], { stdio: "inherit" });
  for (const base of Object.values(services).filter((it) => it !== node)) {
    const input = await (await fetch(`${base}/metrics`)).text();
    execFileSync(join(programs, "promtool"), ["check", "metrics"], { input, stdio: ["pipe", "inherit", "inherit"] });
  }
  const url = `http://127.0.0.1:${await freePort()}`;
  const args = [
    `--config.file=${join(folder, "prometheus.yml")}`,
    `--storage.tsdb.path=${join(folder, "tsdb")}`,
    `--web.listen-address=${new URL(url).host}`,
    "--log.level=error",
  ];
  children.push(spawn(join(programs, "prometheus"), args, { stdio: ["ignore", "inherit", "inherit"] }));
  await until("Prometheus", 30, async () => (await fetch(`${url}/-/ready`)).ok);
  return url;
}

async function ended(base, job) {
  const view = () => call(`${base}/v1/jobs/${job}`);
  return until(`job ${job}`, 60, async () => ["completed", "failed"].includes((await view()).status) && view());
}

// A job whose first attempt comes to nothing at a node that gives up; the next node has more luck.
async function retried(broker) {
  const { node_id } = await call(`${broker}/register`, { endpoint: "http://gives-up", protocol: 2, slots: 1 });
  const { job_id } = await call(`${broker}/submit`, { code: "print(1)" });
  const { jobs } = await call(`${broker}/claim?wait=30`, { node_id, max: 1 });
  if (jobs[0]?.id !== job_id) throw new Error(`claimed ${JSON.stringify(jobs)}`);
  await call(`${broker}/v1/work/${job_id}/1/fail`, { node_id, reason: "no luck", retry: true });
  return job_id;
}

async function work({ broker, executor, coordinator, node, env }) {
  const again = await retried(broker);
  const shown = ["--metrics-port", new URL(node).port];
  await service("node", ["node", "--broker", broker, "--sandrun", executor, "--heartbeat-interval", "1", ...shown]);
  if ((await ended(broker, again)).attempt !== 2) throw new Error("the job was not tried again");
  for (const base of [broker, coordinator]) {
    for (const code of ["print(1)", "raise SystemExit(3)", "import time; time.sleep(1)"]) {
      const { job_id } = await call(`${base}/submit`, { code });
      await ended(base, job_id);
    }
    await fetch(`${base}/nothing`);
  }
  writeFileSync(join(folder, "seen.py"), "print(1)\n");
  const submit = ["submit", "--quiet", "--code", join(folder, "seen.py"), "--payment", "0.1", "--redundancy", "1"];
  execFileSync(binary, submit, { env, cwd: folder, stdio: ["ignore", "inherit", "inherit"] });
}

function* panels(list) {
  for (const panel of list) {
    if (panel.targets) yield panel;
    yield* panels(panel.panels ?? []);
  }
}

const filled = (query) =>
  query.replaceAll("$__rate_interval", "30s").replaceAll("$__range", "30s").replaceAll("$job", "sandrun-.*").replaceAll("$instance", ".*");

async function query(url, text) {
  const answer = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: text })}`);
  const { status, error, data } = await answer.json();
  if (status !== "success") throw new Error(`${text}: ${error}`);
  return data.result;
}

// Each query of the dashboards and alerts, with what is wrong with it.
async function check(url) {
  const all = [await dashboard(url, "queue", JOBS), await dashboard(url, "market", [])];
  const wrong = all.flatMap((it) => it.wrong);
  let tried = all.reduce((sum, it) => sum + it.tried, 0);
  const { data } = await (await fetch(`${url}/api/v1/rules`)).json();
  for (const rule of data.groups.flatMap((it) => it.rules)) {
    tried += 1;
    if (rule.health !== "ok") wrong.push(`alert ${rule.name}: ${rule.health} ${rule.lastError ?? ""}`);
  }
  return { tried, wrong };
}

// Each query of one dashboard: it needs a series, and one of each of these jobs.
async function dashboard(url, name, jobs) {
  const dashboard = JSON.parse(readFileSync(join(deploy, `grafana/sandrun-${name}.json`), "utf8"));
  const wrong = [];
  let tried = 0;
  for (const panel of panels(dashboard.panels)) {
    for (const { expr } of panel.targets) {
      tried += 1;
      const found = await query(url, filled(expr)).catch((error) => ({ error }));
      const lacks = (job) => !found.some((it) => it.metric.job === job);
      const missing = found.error ? [found.error.message] : found.length === 0 ? ["no series"] : jobs.filter(lacks);
      if (missing.length) wrong.push(`${panel.title}: ${missing.join(", ")}\n    ${expr}`);
    }
  }
  for (const variable of dashboard.templating.list.filter((it) => it.type === "query")) {
    const [, series, label] = variable.definition.match(/^label_values\((.*), (\w+)\)$/);
    tried += 1;
    const found = await query(url, filled(series));
    if (new Set(found.map((it) => it.metric[label])).size < 2) wrong.push(`variable ${variable.name}: ${series}`);
  }
  return { tried, wrong };
}

try {
  const node = `http://127.0.0.1:${await freePort()}`;
  const queue = await start();
  const services = { ...queue, ...(await market(queue.executor)), node };
  const url = await prometheus(services);
  await work(services);
  // rates need two scrapes after what they count
  const { tried } = await until("every query has its series", 60, async () => {
    const result = await check(url);
    if (result.wrong.length === 0) return result;
  }).catch(async (error) => {
    console.error((await check(url)).wrong.join("\n"));
    throw error;
  });
  console.log(`dashboard: ${tried} queries of panels, variables and alerts have their series`);
} catch (error) {
  console.error(`dashboard: ${error.message}`);
  process.exitCode = 1;
} finally {
  const ends = children.filter((it) => it.exitCode === null).map((it) => new Promise((done) => it.on("exit", done)));
  children.forEach((it) => it.kill("SIGTERM"));
  const late = setTimeout(() => children.forEach((it) => it.kill("SIGKILL")), 12_000);
  await Promise.all(ends);
  clearTimeout(late);
  rmSync(folder, { recursive: true, force: true });
}
